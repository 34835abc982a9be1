"""Specimens: what a result was measured in, as classes that can be compared.

Names and codes (HL7 v2 tables 0070 and 0487, SNOMED CT, what laboratories and the catalogue
write) are read into a small tree of classes. A class lies within its parents: EDTA plasma is
plasma, plasma is blood.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

#: class -> (parent, codes and names). Order is from wide to narrow.
_CLASSES: Mapping[str, tuple[str, str]] = {
    "blood": ("", "BLD BLOOD BLDV VB 血 血液 静脉血 全血/血清 119297000 122555007"),
    "whole-blood": ("blood", "WB 全血 抗凝全血 258580003"),
    "edta-blood": ("whole-blood", "EDTA全血 全血(EDTA) EDTA抗凝全血 EDTA-K2抗凝全血 WBE"),
    "heparin-blood": ("whole-blood", "肝素全血 全血(肝素) 肝素抗凝全血"),
    "arterial-blood": ("whole-blood", "BLDA 动脉血 122552005"),
    "capillary-blood": ("whole-blood", "BLDC 末梢血 指尖血 毛细血管血 122554006"),
    "cord-blood": ("whole-blood", "BLDCO BLDCOR 脐血 脐带血 122556008"),
    "serum": ("blood", "SER SERUM 血清 119364003"),
    "plasma": ("blood", "PLAS PLASMA PLB 血浆 119361006"),
    "edta-plasma": ("plasma", "EDTA血浆 EDTA抗凝血浆 PLASEDTA"),
    "citrate-plasma": ("plasma", "枸橼酸血浆 枸橼酸钠血浆 枸橼酸钠抗凝血浆 PPP 乏血小板血浆"),
    "heparin-plasma": ("plasma", "肝素血浆 肝素抗凝血浆"),
    "urine": ("", "UR URINE 尿 尿液 随机尿 晨尿 122575003"),
    "midstream-urine": ("urine", "URC 中段尿 清洁中段尿"),
    "catheter-urine": ("urine", "URT 导尿 导管尿"),
    "urine-24h": ("urine", "UR24 24小时尿 24H尿 24小时尿液 276833005"),
    "stool": ("", "STL STOOL 粪便 大便 粪 119339001"),
    "csf": ("", "CSF 脑脊液 258450006"),
    "sputum": ("", "SPT SPUTUM 痰 痰液 119334006"),
    "lavage": ("", "LAVG BAL BRO 灌洗液 肺泡灌洗液 支气管肺泡灌洗液"),
    "respiratory-swab": ("", "呼吸道拭子"),
    "throat-swab": ("respiratory-swab", "THRT 咽拭子 口咽拭子"),
    "nasal-swab": ("respiratory-swab", "NOS 鼻拭子 鼻咽拭子"),
    "genital-swab": ("", "GEN 生殖道拭子 生殖道分泌物"),
    "vaginal-swab": ("genital-swab", "VAG 阴道分泌物 阴道拭子 白带"),
    "cervical-swab": ("genital-swab", "CVX 宫颈拭子 宫颈分泌物"),
    "urethral-swab": ("genital-swab", "URTH 尿道拭子 尿道分泌物"),
    "cervical-cells": ("", "宫颈脱落细胞 宫颈细胞"),
    "semen": ("", "SMN 精液"),
    "bone-marrow": ("", "MAR 骨髓"),
    "pleural-fluid": ("", "PLR 胸水 胸腔积液"),
    "peritoneal-fluid": ("", "PRT 腹水 腹腔积液"),
    "synovial-fluid": ("", "SNV 关节液 关节腔积液"),
    "amniotic-fluid": ("", "AMN 羊水"),
    "bile": ("", "BILE 胆汁"),
    "tissue": ("", "TISS 组织 活检组织"),
    "pus": ("", "PUS 脓液 伤口分泌物"),
}

#: Told apart by the tube alone, which the item's method implies: EDTA blood is simply "whole blood"
#: on most reports, so a result that names no additive is not doubted for it.
_ADDITIVES = frozenset(
    {"edta-blood", "heparin-blood", "edta-plasma", "citrate-plasma", "heparin-plasma"}
)

_PARTS = re.compile(r"[/、，,;；]|或")


def _fold(text: str) -> str:
    return "".join(unicodedata.normalize("NFKC", text).split()).upper().removesuffix("标本")


_NAMES = {
    _fold(name): cls for cls, (_, names) in _CLASSES.items() for name in (cls, *names.split())
}


@lru_cache(maxsize=4_096)
def specimen_classes(text: str) -> frozenset[str]:
    """The classes that a code or name says, alternatives parted by `/`; empty when unknown."""
    folded = _fold(text)
    if folded in _NAMES:
        return frozenset((_NAMES[folded],))
    classes = [_NAMES.get(part) for part in _PARTS.split(folded) if part]
    return frozenset(cls for cls in classes if cls) if all(classes) else frozenset()


def canonical_specimen(text: str) -> str:
    """The classes as one text ("plasma/serum"), "" when unknown."""
    return "/".join(sorted(specimen_classes(text)))


@lru_cache(maxsize=4_096)
def compare_specimens(found: str, wanted: str) -> bool | None:
    """Whether a result in `found` is a result in `wanted` (texts, codes or classes).

    None when that is not known: nothing stated, a name nobody told us, or one that is wider.
    """
    have, want = specimen_classes(found), specimen_classes(wanted)
    if not have or not want:
        return None
    accepted = want | {_CLASSES[cls][0] for cls in want & _ADDITIVES}
    if all(_within(cls, want) or cls in accepted for cls in have):
        return True
    if any(_within(cls, want) or _within(target, {cls}) for cls in have for target in want):
        return None
    return False


def specimen_of(resource: Mapping[str, Any]) -> str:
    """What an Observation, DiagnosticReport or ServiceRequest says of its specimen in itself.

    Reads the display of the reference, or the contained Specimen it points to; else "".
    """
    specimens: Any = resource.get("specimen") or []
    references = specimens if isinstance(specimens, list) else [specimens]
    contained = {f"#{item.get('id')}": item for item in resource.get("contained", ())}
    for reference in references:
        target = contained.get(reference.get("reference", ""))
        if target is not None and (text := _text_of(target.get("type"))):
            return text
        if reference.get("display"):
            display: str = reference["display"]
            return display
    return ""


def _text_of(concept: Mapping[str, Any] | None) -> str:
    """The first code or name of a CodeableConcept that is known, else any."""
    concept = concept or {}
    codings = concept.get("coding", ())
    texts = [coding.get(key, "") for coding in codings for key in ("code", "display")]
    texts.append(concept.get("text", ""))
    known = (text for text in texts if text and specimen_classes(text))
    return next(known, "") or next((text for text in reversed(texts) if text), "")


def _within(cls: str, wider: frozenset[str] | set[str]) -> bool:
    while cls:
        if cls in wider:
            return True
        cls = _CLASSES[cls][0]
    return False
