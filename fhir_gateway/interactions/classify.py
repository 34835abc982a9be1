"""Sensitive classes of what is stored: a report is as strict as its strictest result, and a
document as its strictest report.

A resource is classified by its own codings when it is stored (security.classes). What a report
carries counts too, or it would tell everybody that there is such a result. When the site's table
changes, `reclassify` gives stored resources their new class. docs/consent.md
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.audit.events import update_event
from fhir_gateway.context import Gateway
from fhir_gateway.errors import PreconditionFailed
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.audit import call_of, entry
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.interactions.steps import Step
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS, Access
from fhir_gateway.store.changes import ChangeSet, Put, VersionIs
from fhir_gateway.store.store import Reader, Stored

_REPORT = "DiagnosticReport"
_PAGE = 500


class Regraded(NamedTuple):
    """A stored resource whose class is another by now."""

    type: str
    id: str
    number: int


async def grade(gateway: Gateway, steps: Sequence[Step]) -> None:
    """Gives the reports and documents of a write the class of the strictest that they carry."""
    if not gateway.policy.classes.rows:
        return
    puts = {step.name: step.put for step in steps if step.put is not None}
    for type in _CARRIED:
        for step in steps:
            if step.type == type and step.put is not None and step.resource is not None:
                for name in carried(step.resource):
                    number = await _class_of(gateway, name, puts)
                    step.put.sensitivity = max(step.put.sensitivity, number)


def carried(resource: dict[str, Any]) -> Iterator[str]:
    """What a resource tells of by its very presence, as "Type/id"."""
    found = _CARRIED.get(resource["resourceType"])
    return found(resource) if found is not None else iter(())


def results_of(report: dict[str, Any]) -> Iterator[str]:
    """The results that a report carries, as "Observation/id"."""
    for one in report.get("result", ()):
        reference = str(one.get("reference", ""))
        if reference.startswith("Observation/"):
            yield "/".join(reference.split("/")[:2])


def _of_document(document: dict[str, Any]) -> Iterator[str]:
    """The reports and results that a document holds."""
    return _named(document.get("context", {}).get("related", ()), (_REPORT, "Observation"))


def _of_binary(binary: dict[str, Any]) -> Iterator[str]:
    """The document whose bytes it is."""
    return _named((binary.get("securityContext", {}),), (_DOCUMENT, _REPORT))


def _of_provenance(provenance: dict[str, Any]) -> Iterator[str]:
    return _named(provenance.get("target", ()), (_DOCUMENT, _REPORT, "Observation"))


def _named(references: Sequence[dict[str, Any]], types: Sequence[str]) -> Iterator[str]:
    for one in references:
        parts = str(one.get("reference", "")).split("/")
        if len(parts) > 1 and parts[0] in types:
            yield "/".join(parts[:2])


_DOCUMENT = "DocumentReference"

#: What each type carries; those that others carry come first.
_CARRIED: Mapping[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    _REPORT: results_of,
    _DOCUMENT: _of_document,
    "Binary": _of_binary,
    "Provenance": _of_provenance,
}

#: A Binary of a document of a report with a result.
_DEEPEST = 4


async def _class_of(gateway: Gateway, name: str, puts: Mapping[str, Put], *, depth: int = 0) -> int:
    """The class of what is carried, of this write or stored."""
    put = puts.get(name)
    if put is not None:
        return int(put.sensitivity)
    type, _, id = name.partition("/")
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        stored = await reader.read(type, id)
    if stored is None or stored.deleted or depth == _DEEPEST:
        return 0
    resource = parse(stored.whole())
    number = gateway.policy.classes.of(resource)
    for inner in carried(resource):
        number = max(number, await _class_of(gateway, inner, puts, depth=depth + 1))
    return number


async def reclassify(gateway: Gateway, *, apply: bool) -> list[Regraded]:
    """What has another class by the table of today; `apply` stores each again with it, as a new
    version that says the same, audited. What others change meanwhile is theirs."""
    found: list[Regraded] = []
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        types = sorted(await reader.counts())
    for type in types:
        after = 0
        while True:
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                page = await reader.scan(type, until_t=reader.t, after_rid=after, limit=_PAGE)
            for stored in page:
                number = await _wrong(gateway, stored)
                if number is not None:
                    found.append(Regraded(stored.type, stored.id, number))
                    if apply:
                        await _regrade(gateway, stored, number)
            if len(page) < _PAGE:
                break
            after = page[-1].rid
    return found


async def _wrong(gateway: Gateway, stored: Stored) -> int | None:
    """The class that a resource should have, None when it has it."""
    if stored.deleted or stored.home <= 0:
        return None
    resource = parse(stored.whole())
    number = gateway.policy.classes.of(resource)
    for name in carried(resource):
        number = max(number, await _class_of(gateway, name, {}))
    if await _is_seen(gateway, stored, number) and not (
        number and await _is_seen(gateway, stored, number - 1)
    ):
        return None
    return number


async def _is_seen(gateway: Gateway, stored: Stored, highest: int) -> bool:
    """Whether somebody who sees classes up to this one sees the resource."""
    async with gateway.store.snapshot(Access(max_class=highest)) as reader:
        return await _there(reader, stored)


async def _there(reader: Reader, stored: Stored) -> bool:
    return await reader.read(stored.type, stored.id) is not None


async def _regrade(gateway: Gateway, stored: Stored, number: int) -> None:
    put = put_of(gateway, parse(stored.whole()), op="update", owner=stored.owner)
    put.sensitivity = number
    journal = []
    if gateway.audit:
        event = update_event(
            call_of(gateway, GATEWAY), type=stored.type, id=stored.id, version=stored.version + 1
        )
        journal = [entry(gateway, event, home=stored.home)]
    change_set = ChangeSet(
        id=gateway.random(16),
        guards=[VersionIs(stored.type, stored.id, stored.version)],
        puts=[put],
        journal=journal,
    )
    try:
        await gateway.store.commit(change_set)
    except PreconditionFailed:
        return  # whoever changed it has classified it
