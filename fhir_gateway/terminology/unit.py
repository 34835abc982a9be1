"""Units of results: whether two spellings mean numbers that can be set side by side.

Units are read into UCUM (unitsofmeasure.org) from the spellings that Chinese laboratories use.
Two are comparable only when the numbers are the same (ng/mL and ug/L are, mg/dL and mmol/L are
not): nothing is ever converted, and what is not known is not guessed.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple


class _Meaning(NamedTuple):
    """What a unit measures and its power of ten: equal meanings have equal numbers."""

    kind: str
    exponent: int


_PREFIXES = {"k": 3, "": 0, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15}
_VOLUMES = {"L": 0, "dL": -1, "mL": -3, "uL": -6}
_BASES = {"g": ("g", "g"), "mol": ("mol", "mol"), "IU": ("[IU]", "IU"), "U": ("U", "U")}
_BASES |= {"Eq": ("eq", "Eq")}

#: Units that are no prefix-base-volume: (UCUM, kind, power of ten, other spellings).
_OTHERS: tuple[tuple[str, str, int, str], ...] = (
    ("10*12/L", "count", 12, "10^12/L 10E12/L 1012/L T/L"),
    ("10*9/L", "count", 9, "10^9/L 10E9/L 109/L 10*3/uL 10^3/uL K/uL"),
    ("10*6/L", "count", 6, "10^6/L /uL 个/uL /mm3"),
    ("10*6/uL", "count", 12, "10^6/uL M/uL"),
    ("/mL", "count", 3, "个/mL"),
    ("/L", "count", 0, "个/L"),
    ("{copies}/mL", "copies", 3, "copies/mL copy/mL 拷贝/mL cp/mL"),
    ("{copies}/L", "copies", 0, "copies/L 拷贝/L"),
    ("%", "ratio", -2, "percent"),
    ("[ppth]", "ratio", -3, "‰"),
    ("1", "number", 0, ""),
    ("{ratio}", "number", 0, "ratio 比值"),
    ("{INR}", "inr", 0, "INR"),
    ("[pH]", "ph", 0, "pH"),
    ("fL", "volume", -15, ""),
    ("pg", "mass", -12, ""),
    ("s", "time", 0, "sec 秒 second seconds"),
    ("min", "minute", 0, "分 分钟 minutes"),
    ("mm/h", "sedimentation", 0, "mm/hr mm/1h mm/60min mm/小时"),
    ("/[HPF]", "field", 0, "/HP /HPF 个/HP 个/HPF /高倍视野"),
    ("/[LPF]", "low-field", 0, "/LP /LPF 个/LP 个/LPF /低倍视野"),
    ("g/(24.h)", "g/day", 0, "g/24h g/24hr g/d g/24小时 g/day"),
    ("mg/(24.h)", "g/day", -3, "mg/24h mg/24hr mg/d mg/24小时 mg/day"),
    ("umol/(24.h)", "mol/day", -6, "umol/24h umol/24小时"),
    ("mmol/(24.h)", "mol/day", -3, "mmol/24h mmol/24小时"),
    ("mg/g", "mass/mass", -3, "mg/gCr mg/gcrea mg/g.Cr"),
    ("ug/mg", "mass/mass", -3, "ug/mgCr"),
    ("g/mol", "mass/mol", 0, "g/molCr"),
    ("mg/mmol", "mass/mol", 0, "mg/mmolCr"),
    ("mmol/mol", "mol/mol", -3, ""),
    ("mosm/kg", "osmolality", 0, "mOsm/kg mOsm/kgH2O"),
    ("mm[Hg]", "pressure", 0, "mmHg"),
    ("kPa", "pressure-pa", 0, ""),
    ("mL/min", "clearance", 0, ""),
    ("mL/min/{1.73_m2}", "clearance/area", 0, "mL/min/1.73m2 mL/(min.1.73m2) mL/min/1.73m^2"),
    ("mg/L{FEU}", "g/L feu", -3, "mg/LFEU mg/L(FEU) mgFEU/L ug/mLFEU ug/mL(FEU) ugFEU/mL"),
    ("ug/L{FEU}", "g/L feu", -6, "ug/LFEU ng/mLFEU ng/mL(FEU) ngFEU/mL ug/L(FEU)"),
    ("[COI]", "cut-off", 0, "COI S/CO s/co"),
)

#: Kinds that laboratories often leave without any unit.
_UNWRITTEN = frozenset({"inr", "ph", "number"})

#: (found kind, wanted kind) where the same word is used for two things: not known, not different.
_DOUBTFUL = frozenset({("IU/L", "U/L"), ("U/L", "IU/L"), ("g/L", "g/L feu"), ("Eq/L", "mol/L")})

#: Spellings that mean one thing in one laboratory and another in the next: giga or gram.
_AMBIGUOUS = frozenset({"G/L"})

_SUPERSCRIPTS = {ord(c): str(i) for i, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_TIMES = re.compile(r"^[×xX*·✕╳]\s*(?=10)")
_POWER = re.compile(r"10(?:\*\*|\^|\*|[eE])\s*(\d+)")


def _fold(text: str) -> str:
    """One spelling of a unit: half-width, `u` for micro, `^` for powers, no case, no blanks."""
    text = _SUPERSCRIPT.sub(lambda found: "^" + found[0].translate(_SUPERSCRIPTS), text)
    text = unicodedata.normalize("NFKC", text).replace("μ", "u")
    text = _TIMES.sub("", "".join(text.split()))
    text = re.sub(r"^1/(?=[A-Za-z(\[])", "/", text)
    return _POWER.sub(r"10^\1", text).casefold()


def _tables() -> tuple[dict[str, str], dict[str, _Meaning]]:
    """(folded spelling -> UCUM, UCUM -> meaning), worked out once."""
    spellings: dict[str, str] = {}
    meanings: dict[str, _Meaning] = {}
    for prefix, power in _PREFIXES.items():
        for name, (ucum_base, kind) in _BASES.items():
            for volume, volume_power in _VOLUMES.items():
                ucum = f"{prefix}{ucum_base}/{volume}"
                meanings[ucum] = _Meaning(f"{kind}/L", power - volume_power)
                spellings[_fold(f"{prefix}{name}/{volume}")] = spellings[_fold(ucum)] = ucum
    for ucum, kind, power, others in _OTHERS:
        meanings[ucum] = _Meaning(kind, power)
        for spelling in (ucum, *others.split()):
            spellings[_fold(spelling)] = ucum
    return spellings, meanings


_SPELLINGS, _MEANINGS = _tables()
_ENZYMES = _Meaning("U/L", 0)


@lru_cache(maxsize=4_096)
def canonical_unit(text: str) -> str:
    """The UCUM unit that a spelling means; "" when it is not known."""
    return "" if text in _AMBIGUOUS else _SPELLINGS.get(_fold(text), "")


@lru_cache(maxsize=4_096)
def compare_units(found: str, wanted: str) -> bool | None:
    """Whether numbers in `found` can be set beside numbers in `wanted` as they are.

    None when that is not known: a spelling nobody told us, or one used for two things.
    """
    if found == wanted:
        return True
    unit, target = canonical_unit(found), canonical_unit(wanted)
    if not wanted or not target or (found and not unit):
        return None
    meaning, expected = _MEANINGS.get(unit), _MEANINGS[target]
    if meaning is None:  # no unit was written
        return True if expected.kind in _UNWRITTEN else None
    if meaning == expected:
        return True
    if expected == _ENZYMES and meaning == ("IU/L", 0):
        return True  # the international unit of enzyme activity is UCUM's U
    return None if (meaning.kind, expected.kind) in _DOUBTFUL else False


def property_of(text: str) -> str:
    """The kind of quantity that a unit measures, such as mol/L; "" when it is not known."""
    meaning = _MEANINGS.get(canonical_unit(text))
    return meaning.kind if meaning is not None else ""
