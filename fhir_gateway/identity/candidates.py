"""Which records a patient is compared with: those that the index leads to from what is known.

A few searches, each by what the index can find across a city: numbers, the name with the birth
date, the sound of the name with the birth date. Whoever agrees in none of them is not met, which
docs/identity.md says. A search that would visit too many rows is left out and named, and so is one
that found more than is compared: nothing is cut in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.datatypes import fold
from fhir_gateway.identity.names import Name, spelled, spellings
from fhir_gateway.identity.record import Record
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import Access
from fhir_gateway.store.store import Stored
from fhir_gateway.terminology.identifier import fold_id_number, normalise_id_number

#: Records that one search may bring, and numbers, names and spellings that are looked for.
MOST_FOUND, MOST_NUMBERS, MOST_NAMES, MOST_SPELLINGS = 200, 12, 3, 8

Pairs = tuple[tuple[str, str], ...]


class Block(NamedTuple):
    """One search: what it goes by, and its parameters. One of several `ways` is enough: the next
    is taken when the first would cost too much."""

    by: str
    ways: tuple[Pairs, ...]


class Candidates(NamedTuple):
    """The records, each once; what was not searched, and what found more than is compared."""

    found: tuple[Stored, ...] = ()
    costly: tuple[str, ...] = ()
    cut: tuple[str, ...] = ()


NUMBERS, NAME, UNDATED, SOUND, FAMILY = "numbers", "name", "undated", "sound", "surname"


def blocks(patient: Mapping[str, Any], record: Record) -> list[Block]:
    """The searches for a patient; none when nothing is known that the index goes by."""
    found = []
    if numbers := _numbers(patient):
        found.append(Block(NUMBERS, ((("identifier", numbers),),)))
    dates = _dates(record.birth)
    for name in [one for one in record.names if one.script != "other"][:MOST_NAMES]:
        found += _by_name(name, record.birth, dates)
    if dates and record.mothers and not record.names:
        mothers = _joined(sorted(record.mothers))
        found.append(Block(NAME, ((("name", mothers), ("birthdate", dates)),)))
    return found


def _by_name(name: Name, birth: str, dates: str) -> Iterator[Block]:
    texts = _texts(name)
    sounds = _sounds(name)
    if not texts:
        return
    called = ("name", texts)
    if not dates:
        yield Block(NAME, ((called,), (called, ("birthdate", birth))) if birth else ((called,),))
        return
    day = ("birthdate", dates)
    yield Block(NAME, ((called, ("birthdate", birth[:4])), (called, day)))
    yield Block(UNDATED, ((called, ("birthdate:missing", "true")),))
    if sounds:
        yield Block(SOUND, ((("name", sounds), day),))
    if families := _families(name):
        yield Block(FAMILY, ((("name", families), day),))


def _texts(name: Name) -> str:
    """The name as others may have written it; of a newborn also the mother's name."""
    texts = [name.plain, name.text, name.mother]
    if len(name.parts) > 1 and name.script == "latin":
        texts += [" ".join(name.parts), " ".join((name.parts[-1], *name.parts[:-1]))]
    elif len(name.parts) > 1:
        texts += ["·".join(name.parts), "•".join(name.parts), name.parts[0]]
    return _joined(texts)


def _joined(texts: Iterable[str]) -> str:
    """The texts as alternatives of one search parameter."""
    asked = [text for text in dict.fromkeys(texts) if fold(text)]
    return ",".join(map(_escape, asked))


def _sounds(name: Name) -> str:
    """The name in Latin letters, whole for the index of sounds, and what a name that is stored in
    Latin letters may begin with."""
    if name.script == "latin":
        rotated = (*name.parts[1:], name.parts[0])
        ways = ["".join(name.parts), "".join(rotated)]
    else:
        ways = sorted(spelled(name), key=lambda way: (len(way), way))[:MOST_SPELLINGS]
        ways += list(spellings(name.given, surname=False))[:2]
    return ",".join(dict.fromkeys(way for way in ways if way and way.isascii()))


def _families(name: Name) -> str:
    """The surname, as it is written and as it sounds; of a name in Latin letters either end."""
    if name.script == "latin":
        texts = [name.parts[0], name.parts[-1]]
    elif name.family:
        texts = [name.plain[: len(name.family)], name.family]
        texts += list(spellings(name.family, surname=len(name.family) == 1))[:4]
    else:
        texts = [name.parts[0]]
    return _joined(texts)


def _numbers(patient: Mapping[str, Any]) -> str:
    """All numbers in use, in the spellings that a hospital may have stored under a system of its
    own; under a registered system one spelling finds all."""
    found: dict[str, None] = {}
    for identifier in patient.get("identifier", ()):
        value, system = identifier.get("value", "").strip(), identifier.get("system", "")
        if not value or identifier.get("use") == "old" or len(value) > 64:
            continue
        found[f"{_escape(system)}|{_escape(value)}" if system else _escape(value)] = None
        for text in _spellings(value):
            found[_escape(text)] = None
        if len(found) >= MOST_NUMBERS:
            break
    return ",".join(found)


def _spellings(value: str) -> Iterator[str]:
    """The spellings of what has the form of an identity card's number or of a passport's."""
    folded = fold_id_number(value)
    whole = normalise_id_number(value)
    if len(whole) == 18 and whole[:17].isdigit():
        yield from (whole, whole.lower())
        if whole[6:8] == "19":
            yield whole[:6] + whole[8:17]
    elif folded.isalnum() and folded.isascii() and not folded.isdigit() and len(folded) >= 7:
        yield folded.upper()


def _dates(birth: str) -> str:
    """The day, the same with day and month changed about, and the first of January; a month or a
    year alone is what it is."""
    if len(birth) < 10:
        return birth if len(birth) == 7 else ""
    year, month, day = birth[:4], birth[5:7], birth[8:]
    days = [birth, f"{year}-01-01"]
    if int(day) <= 12:
        days.append(f"{year}-{day}-{month}")
    return ",".join(dict.fromkeys(days))


def _escape(text: str) -> str:
    """The escapes of search values (hl7.org/fhir/R4/search.html#escaping)."""
    for character in "\\,$|":
        text = text.replace(character, f"\\{character}")
    return text


async def candidates(gateway: Gateway, access: Access, wanted: Iterable[Block]) -> Candidates:
    """The records that the searches find, under this access."""
    found: dict[str, Stored] = {}
    costly, cut = list[str](), list[str]()
    for block in wanted:
        page = await _first_way(gateway, access, block)
        if page is None:
            costly.append(block.by)
            continue
        matches, more = page
        found.update((stored.id, stored) for stored in matches)
        if more:
            cut.append(block.by)
    return Candidates(
        tuple(found.values()), tuple(dict.fromkeys(costly)), tuple(dict.fromkeys(cut))
    )


async def _first_way(
    gateway: Gateway, access: Access, block: Block
) -> tuple[list[Stored], bool] | None:
    """What the first way that is not too costly finds, and whether there is more of it."""
    for pairs in block.ways:
        plan = plan_search(
            "Patient",
            [*pairs, ("_count", str(MOST_FOUND))],
            secret=gateway.store.index_key,
            zone=gateway.settings.zone,
            page_limit=MOST_FOUND,
            naming=gateway.extractor.naming,
        )
        try:
            async with gateway.store.snapshot(access) as reader:
                page = await reader.search(plan)
        except TooCostly:
            continue
        return page.matches, page.next is not None
    return None
