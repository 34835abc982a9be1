"""Who is meant: the patient of a question, by logical id or by identifiers that are known here.

An identifier belongs to a person when every Patient that carries it has the same home, or one that
is linked with it. Identifiers of one patient that lead to different persons contradict each other,
and nothing is decided then.
hl7.org/fhir/R4/datatypes.html#Identifier
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.search.planner import plan_search
from fhir_gateway.store.store import Reader

#: Identifiers of one patient that are looked up; the others are not needed to know a person.
MOST_IDENTIFIERS = 8


class Subject(NamedTuple):
    """Whom the question is about. `patient` is "" when nobody here is meant."""

    patient: str = ""
    contradictory: bool = False


async def subject_by_id(
    reader: Reader, gateway: Gateway, id: str, identifiers: Iterable[Mapping[str, Any]] = ()
) -> Subject:
    """The patient with a logical id of ours; identifiers, if any is known, must not contradict."""
    person = await reader.person(id)
    if person is None:
        return Subject()
    homes = await _homes(reader, gateway, identifiers)
    return Subject(id, contradictory=not homes.keys() <= set(person.homes))


async def subject_by_identifiers(
    reader: Reader, gateway: Gateway, identifiers: Iterable[Mapping[str, Any]]
) -> Subject:
    """The patient that these identifiers name."""
    homes = await _homes(reader, gateway, identifiers)
    if not homes:
        return Subject()
    first = next(iter(homes.values()))
    if len(homes) == 1:
        return Subject(first)
    person = await reader.person(first)
    known = set(person.homes) if person is not None else set()
    return Subject(first, contradictory=not homes.keys() <= known)


async def _homes(
    reader: Reader, gateway: Gateway, identifiers: Iterable[Mapping[str, Any]]
) -> dict[int, str]:
    """A Patient's logical id for every home that an identifier leads to."""
    found: dict[int, str] = {}
    for system, value in list(dict.fromkeys(_pairs(identifiers)))[:MOST_IDENTIFIERS]:
        plan = plan_search(
            "Patient",
            [("identifier", f"{_escape(system)}|{_escape(value)}")],
            secret=gateway.store.index_key,
            base_url="",
            zone=gateway.settings.zone,
            lenient=False,
            page_limit=gateway.settings.page_limit,
            naming=gateway.extractor.naming,
        )
        for stored in (await reader.search(plan)).matches:
            found.setdefault(stored.home, stored.id)
    return found


def _pairs(identifiers: Iterable[Mapping[str, Any]]) -> Iterable[tuple[str, str]]:
    """System and value of those that are whole; a value without a system names nobody."""
    for identifier in identifiers:
        system, value = identifier.get("system"), identifier.get("value")
        if isinstance(system, str) and isinstance(value, str) and system and value.strip():
            yield system, value


def _escape(text: str) -> str:
    """The escapes of search values (hl7.org/fhir/R4/search.html#escaping)."""
    for character in "\\,$|":
        text = text.replace(character, f"\\{character}")
    return text
