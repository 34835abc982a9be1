"""Whom a write is about: it stands in that person's home, and a home stays one person's.

A record outside its patient's home would not be found with the patient, nor audited there; a
Patient that became somebody else would hand one person's results to another. Architecture 5.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, GatewayError, Unprocessable
from fhir_gateway.fhir.home import HOME_RULES, home_of
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.references import Slot, local
from fhir_gateway.interactions.steps import Step
from fhir_gateway.security.actor import SYSTEM_ACCESS, Actor
from fhir_gateway.store.changes import NEVER, Derived, Guard, VersionIs
from fhir_gateway.store.store import Reader, Stored

#: The kind of identity key that is the document alone, see store.changes.Derived.
_DOCUMENT = 2

_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://.*/Patient/.*", re.DOTALL)


def check_subject(step: Step) -> None:
    """Raises Unprocessable for what is about a patient of another server, or about one that it
    contains, and about nobody here: no record of a person could ever find it.

    Runs after references were rewritten, so an address of ours is a relative one by now.
    """
    resource, rule = step.resource, HOME_RULES[step.type]
    if resource is None or not (rule.person or rule.follow):
        return
    inside = _contained_patient(step) if "contained" in resource else None
    if inside is not None and home_of(resource) == (None, None, None):
        raise Unprocessable(
            "This is about a patient that it contains, and about none of this server; store the "
            "Patient and refer to it as Patient/id",
            expression=step.place_of(inside),
            rule="subject-contained",
        )
    texts = [(slot, slot.holder["reference"]) for slot in step.slots]
    foreign = [slot for slot, text in texts if "://" in text and _ELSEWHERE.fullmatch(text)]
    if foreign and home_of(resource) == (None, None, None):
        raise Unprocessable(
            "This names a patient of another server and none of this one; send the Patient too "
            "and refer to it as Patient/id",
            expression=step.place_of(foreign[0]),
            rule="subject-elsewhere",
        )


def _contained_patient(step: Step) -> Slot | None:
    """The reference to a contained Patient by which the resource would have its home."""
    resource = step.resource or {}
    patients = {
        f"#{one['id']}" for one in resource["contained"] if one["resourceType"] == "Patient"
    }
    elements = {path.partition(".")[0].partition(":")[0] for path in HOME_RULES[step.type].person}
    for slot in step.slots if patients else ():
        place = step.place_of(slot).removeprefix(f"{step.root}.")
        if slot.holder["reference"] in patients and _element(place) in elements:
            return slot
    return None


def _element(place: str) -> str:
    """The element of the resource in which a place stands."""
    return place.partition(".")[0].partition("[")[0].removesuffix("Reference")


Place = int | str


async def check_targets(reader: Reader, steps: Sequence[Step]) -> None:
    """Places each Provenance with the person that it is about, whatever it names beside.

    Raises Unprocessable for one about several persons: it could be found in one home only.
    """
    written = {step.name: step for step in steps if step.resource is not None}
    for step in steps:
        if step.type != "Provenance" or step.resource is None or step.matched:
            continue
        named = (local(target.get("reference") or "") for target in step.resource["target"])
        names = dict.fromkeys(f"{one.type}/{one.id}" for one in named if one is not None)
        places = {name: await _place(reader, name, written, depth=0) for name in names}
        persons = {name: place for name, place in places.items() if _is_person(place)}
        step.about = next(iter(persons), "")
        if len(set(persons.values())) > 1:
            raise Unprocessable(
                "The targets of a Provenance must be of one person; send one for each",
                expression=f"{step.root}.target",
                rule="targets",
            )


def _is_person(place: Place) -> bool:
    return place > 0 if isinstance(place, int) else place.startswith("Patient/")


async def _place(reader: Reader, name: str, written: Mapping[str, Step], *, depth: int) -> Place:
    """The home of a resource: its number, or, for a person who is new, "Patient/id"."""
    type, _, id = name.partition("/")
    home = await reader.home(type, id)
    if home is not None:
        return home
    step = written.get(name)
    if step is None or step.resource is None or depth > len(written):
        return 0
    place = home_of(step.resource)
    if place.patient is not None:
        known = await reader.home("Patient", place.patient)
        return known if known is not None else f"Patient/{place.patient}"
    if place.follow is not None:
        return await _place(reader, place.follow, written, depth=depth + 1)
    return f"Organization/{place.institution}" if place.institution else 0


async def place_home(
    gateway: Gateway, actor: Actor, steps: Sequence[Step], error: GatewayError
) -> GatewayError:
    """The store's refusal to move a resource to another home, with the entry that asked for it."""
    if error.issues[0].rule != "subject-changed":
        return error
    async with gateway.store.snapshot(actor.access) as reader:
        for step in steps:
            if step.put is None or step.current is None or step.op == "delete":
                continue
            home: int | None = step.put.home
            if step.put.patient is not None:
                home = await reader.home("Patient", step.put.patient)
            elif step.put.follow is not None:
                home = await reader.home(*step.put.follow.split("/", 1))
            if home is not None and home != step.current.home:
                return step.placed(error)
    return error


async def check_free(gateway: Gateway, actor: Actor, failed: Guard, steps: Sequence[Step]) -> None:
    """Raises Conflict when a guard has failed because something that the caller does not see bears
    the id that it would give.

    That an id cannot be given is all that is told: whose it is, what stands there and whether it
    stands is not (docs/adr/0036-sight-in-the-store.md).
    """
    if not isinstance(failed, VersionIs) or failed.version != NEVER:
        return
    async with gateway.store.snapshot(actor.access) as reader:
        if await reader.read(failed.type, failed.id) is not None:
            return  # another request of ours was faster
    step = next(one for one in steps if (one.type, one.id) == (failed.type, failed.id))
    taken = Conflict(
        "This id cannot be given; choose another one, or let the server choose (POST)",
        expression=f"{step.root}.id",
        rule="id-taken",
    )
    raise step.placed(taken)


async def check_person(gateway: Gateway, step: Step) -> None:
    """Raises Unprocessable when a stored Patient would become another person.

    That is: identity documents, and none that any version bore; or, where documents cannot be
    compared, another name and another birth date. A deletion in between changes nothing.
    """
    if step.type != "Patient" or step.current is None or step.put is None:
        return
    new = _documents(step.put.derived)
    if not step.current.deleted and new and new & _documents_of(gateway, step.current):
        return
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        versions = await reader.history(step.type, step.id)
    earlier = [stored for stored in versions if not stored.deleted]
    borne = frozenset[bytes]().union(*(_documents_of(gateway, one) for one in earlier))
    if new and borne:
        same = bool(new & borne)
    else:
        same = not earlier or _alike(parse(earlier[0].whole()), step.resource or {})
    if not same:
        raise Unprocessable(
            "A stored Patient may not become another person; store a new Patient",
            expression=step.root,
            rule="person-changed",
        )


def _documents(derived: Derived) -> frozenset[bytes]:
    return frozenset(key for key, kind in derived.identity if kind == _DOCUMENT)


def _documents_of(gateway: Gateway, stored: Stored) -> frozenset[bytes]:
    derived = Derived([], [], [], [], [], [], [], [])
    resource = parse(stored.whole())
    for derive in gateway.derivers:
        derive(resource, derived)
    return _documents(derived)


def _alike(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether name or birth date say that it may be the same person."""
    if not before.get("birthDate") or not after.get("birthDate"):
        return True
    same_day = before["birthDate"] == after["birthDate"]
    return same_day or not _names(before).isdisjoint(_names(after))


def _names(patient: Mapping[str, Any]) -> set[str]:
    names = (
        name.get("text") or "".join([name.get("family") or "", *(name.get("given") or ())])
        for name in patient.get("name", ())
    )
    return {"".join(name.split()).casefold() for name in names} - {""}
