"""Which version of a document counts, and what a new one changes of what is stored of others.

Versions are known by setId and versionNumber, or by what replaces what (relatedDocument RPLC). One
DocumentReference stands for all of them; every write of it names the version that was read, so two
versions at the same moment come one after the other. CDA R2 4.2.1.7 to 4.2.3.1
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from fhir_gateway.errors import Conflict
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.reconcile import current
from fhir_gateway.mapping.cda import Taken
from fhir_gateway.mapping.cda_document import (
    SUPERSEDED,
    binary,
    document_reference,
    own_series_id,
    provenance,
    replaced_by,
    replaces,
    series_id,
    superseded,
    version_of,
)
from fhir_gateway.mapping.cda_header import REPLACES, Header, Id
from fhir_gateway.mapping.merge import voided
from fhir_gateway.mapping.v2_time import read_time
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.store import Reader

Resource = dict[str, Any]
Planned = tuple[Resource, int | None]

#: The id of the DocumentReference that a document's sender was told, "" when there is none.
Answers = Callable[[str, str, int], Awaitable[str]]
#: The id of the sender's DocumentReference that says it replaces a document, "" when none does.
Successors = Callable[[Id], Awaitable[str]]


class Place(NamedTuple):
    """The DocumentReference of all versions, what is stored of it and in which version, and
    whether that is newer than the document."""

    head: str
    stored: Resource | None
    version: int
    older: bool


async def place_of(
    reader: Reader, header: Header, sender: Institution, answered: Answers, successor: Successors
) -> Place:
    """Where a document stands among its versions.

    Raises Conflict for a document that replaces one about another person.
    """
    async for head in _heads(header, sender, answered, successor):
        stored, version = await current(reader, f"DocumentReference/{head}")
        if stored is not None:
            return Place(head, stored, version, _is_older(header, stored, sender.zone))
    head = series_id(sender, header)
    _, version = await current(reader, f"DocumentReference/{head}")
    return Place(head, None, version, older=False)


async def _heads(
    header: Header, sender: Institution, answered: Answers, successor: Successors
) -> AsyncIterator[str]:
    """The ids under which versions of the document may be stored, the most certain first."""
    if header.set is None:
        yield own_series_id(sender, header.id)
        if later := await successor(header.id):
            yield later
    yield series_id(sender, header)
    replaced = header.relation(REPLACES)
    if replaced is not None:
        told = await answered(replaced.id.root, replaced.id.extension, replaced.version)
        if told:
            yield told


async def plan_late(
    reader: Reader, header: Header, place: Place, answered: Answers
) -> list[Planned]:
    """What a version that comes after a newer one still tells: the one that it replaces, where
    that stands by itself because nobody had said so, is current no more; where it has not come yet,
    the newer one is known to replace it too."""
    replaced = header.relation(REPLACES)
    if replaced is None or place.stored is None:
        return []
    head = await answered(replaced.id.root, replaced.id.extension, replaced.version)
    stored, version = await current(reader, f"DocumentReference/{head}") if head else (None, 0)
    if stored is None and replaced.set is None:
        return _foretold(place, replaced.id)
    if stored is None or head == place.head or stored.get("subject") != place.stored.get("subject"):
        return []
    master = stored.get("masterIdentifier", {})
    if (master.get("system"), master.get("value")) != _pair(replaced.id):
        return []
    kept = place.stored.get("context", {}).get("related", [])
    own: Planned = ({**_without_meta(stored), "status": SUPERSEDED}, version)
    return [own, *await _withdrawn(reader, stored, kept)]


def _foretold(place: Place, id: Id) -> list[Planned]:
    """The DocumentReference that stands, saying of a document to come that it is replaced."""
    stored = place.stored or {}
    if _pair(id) in replaced_by(stored):
        return []
    target = {"identifier": {"system": id.system, "value": id.value}}
    related = [*stored.get("relatesTo", ()), {"code": "replaces", "target": target}]
    return [({**_without_meta(stored), "relatesTo": related}, place.version)]


def _without_meta(stored: Resource) -> Resource:
    """A stored resource as it is written again: of its meta the tags alone."""
    kept = {name: value for name, value in stored.items() if name != "meta"}
    tags = stored.get("meta", {}).get("tag")
    return {**kept, "meta": {"tag": tags}} if tags else kept


def _is_older(header: Header, stored: Resource, zone: str) -> bool:
    """Whether what is stored is the newer one: by what replaces what, by version, by time."""
    master = stored.get("masterIdentifier", {})
    if _pair(header.id) in replaced_by(stored):
        return True
    replaced = header.relation(REPLACES)
    if replaced is not None and _pair(replaced.id) == (master.get("system"), master.get("value")):
        return False
    if header.version != version_of(stored):
        return header.version < version_of(stored)
    made = read_time(header.time, zone) if header.time else None
    if made is None or not made.exact or not stored.get("date"):
        return False
    return date_range(made.text, zone)[0] < date_range(stored["date"], zone)[0]


def _pair(id: Id) -> tuple[str, str]:
    return id.system, id.value


async def plan_document(
    reader: Reader, taken: Taken, sender: Institution, place: Place, *, now: int
) -> list[Planned]:
    """The document's own resources, studies, and what the version that it replaces had beside."""
    header, raw, told = taken.read.header, taken.read.document.raw, taken.told
    new = document_reference(
        sender, header, raw, told, head=place.head, structured=taken.structured
    )
    plan: list[Planned] = [await _study(reader, study) for study in taken.studies]
    if place.stored is not None:
        _check_subject(place.stored, new)
        older = superseded(place.stored, sender)
        new = replaces(new, older)
        plan.append((older, None))
        if taken.structured:
            plan += await _withdrawn(reader, place.stored, told.reports)
    recorded = new.get("date") or instant(now)  # the same each time that it is read
    return [
        *plan,
        (new, place.version),
        (binary(sender, header, raw, place.head), None),
        (provenance(sender, header, told, head=place.head, recorded=recorded), None),
    ]


def _check_subject(stored: Resource, new: Resource) -> None:
    if stored.get("subject") != new.get("subject"):
        raise Conflict(
            "An earlier version of this document is about another patient; nothing was stored",
            expression="ClinicalDocument/recordTarget",
            rule="cda-document-patient",
        )


async def _study(reader: Reader, study: Resource) -> Planned:
    """The study with what is stored of it: documents, rows and images add to one another."""
    from fhir_gateway.mapping.dicom import join_studies  # noqa: PLC0415 - takes half a second

    stored, version = await current(reader, f"ImagingStudy/{study['id']}")
    if stored is None:
        return study, version
    if stored["subject"] != study["subject"]:
        raise Conflict(
            "This study was stored before for another patient; nothing was stored",
            expression="ClinicalDocument/component",
            rule="cda-study-patient",
        )
    return join_studies(stored, study), version


async def _withdrawn(reader: Reader, stored: Resource, reports: Any) -> list[Planned]:
    """The reports, with their results, that the version before had and this one has not."""
    kept = {one["reference"] for one in reports}
    plan: dict[str, Planned] = {}
    for one in stored.get("context", {}).get("related", ()):
        name = one.get("reference", "")
        if name in kept or not name.startswith("DiagnosticReport/"):
            continue
        report, _ = await current(reader, name)
        results = [item["reference"] for item in (report or {}).get("result", ())]
        for withdrawn in (name, *results):
            resource, version = await current(reader, withdrawn)
            if resource is not None and resource.get("status") != "entered-in-error":
                plan[withdrawn] = (voided(resource), version)
    return list(plan.values())
