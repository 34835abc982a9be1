"""The Appointment of a booking: how it is written, and what is read of one that is stored.

Pure. Which element says what stands in docs/scheduling-fhir.md (hl7.org/fhir/R4/appointment.html,
profile `appointment`). What an operation makes is valid by construction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.datatypes import Reference, date_range, parse_reference
from fhir_gateway.fhir.terminology import ConceptRow, r4_terminology
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.calendar import moment_at
from fhir_gateway.scheduling.rows import items_of
from fhir_gateway.settings import CANONICAL

Json = Mapping[str, Any]
Resource = dict[str, Any]

PROFILE = f"{CANONICAL}/StructureDefinition/appointment"
CANCEL_REASONS = "http://terminology.hl7.org/CodeSystem/appointment-cancellation-reason"

#: What the gateway says of a booking; written anew with every step. No step leaves an offer.
_MARKS = (
    ext.CHANNEL, ext.HOLD_UNTIL, ext.HOLD_RENEWALS, ext.CONFIRM_BY, ext.BOOKED_BY, ext.OFFER,
)  # fmt: skip


@cache
def cancel_reasons() -> frozenset[str]:
    """The codes of why an appointment is cancelled, as R4 has them."""
    systems = (row.concepts for row in r4_terminology().systems if row.url == CANCEL_REASONS)
    rows = [one for raw in systems for one in msgspec.json.decode(raw, type=list[ConceptRow])]
    return frozenset(one.code for one in rows)


class Marks(NamedTuple):
    """What the gateway says of an Appointment. Times are µs, 0 for none."""

    channel: str = ""
    booked_by: str = ""  # logical id of the Organization
    hold_until: int = 0
    renewals: int = 0
    confirm_by: int = 0


class Standing(NamedTuple):
    """What a stored Appointment says of its booking."""

    id: str
    status: str
    patient: str
    slot: str  # logical id of its Slot, "" for none
    start: int
    end: int
    marks: Marks
    labels: tuple[Json, ...] = ()  # of security


class Offer(NamedTuple):
    """What of a Slot goes into an Appointment: both resources, and what was asked for."""

    slot: Json
    schedule: Json
    patient: str = ""
    based_on: Sequence[str] = ()  # references
    reason: Json | None = None
    comment: str = ""
    items: Sequence[str] = ()  # what is ordered, of all that the Slot serves


def appointment_of(
    offer: Offer, *, id: str, status: str, marks: Marks, created: int, zone: ZoneInfo,
    before: Json | None = None,
) -> Resource:  # fmt: skip
    """An Appointment at the time of a Slot. `before` is the one that moves there, or that waited:
    what it says beside its place stays."""
    slot, schedule = offer.slot, offer.schedule
    kept: Json = before or {}
    resource: Resource = {
        "resourceType": "Appointment",
        "id": id,
        "meta": meta_of(PROFILE, kept, slot, schedule),
        "extension": [*_others(kept), *_marked(marks, zone)],
        "identifier": kept.get("identifier"),
        "status": status,
        "serviceCategory": schedule.get("serviceCategory"),
        "serviceType": _services(offer, kept),
        "specialty": slot.get("specialty") or schedule.get("specialty"),
        "appointmentType": slot.get("appointmentType"),
        "reasonCode": [offer.reason] if offer.reason else kept.get("reasonCode"),
        "start": slot["start"],
        "end": slot["end"],
        "slot": [{"reference": f"Slot/{slot['id']}"}] if status != "cancelled" else None,
        "created": kept.get("created") or said(created, zone),
        "comment": offer.comment or kept.get("comment"),
        "patientInstruction": instruction_of(slot, schedule) or None,
        "basedOn": [{"reference": one} for one in offer.based_on] or kept.get("basedOn"),
        "participant": list(_participants(offer, status)),
    }
    return {name: value for name, value in resource.items() if value or value == {}}


def with_step(
    appointment: Json, *, status: str, marks: Marks, zone: ZoneInfo, reason: str = "",
    text: str = "",
) -> Resource:  # fmt: skip
    """The same Appointment after a step. `reason` is a code of why it was cancelled, `text` words
    on it."""
    changed = {name: value for name, value in appointment.items() if name != "meta"}
    changed["meta"] = meta_of(PROFILE, appointment)
    changed["extension"] = [*_others(appointment), *_marked(marks, zone)]
    changed["status"] = status
    if reason or (text and status == "cancelled"):
        concept: Resource = {}
        if reason:
            concept["coding"] = [{"system": CANCEL_REASONS, "code": reason}]
        if text:
            concept["text"] = text
        changed["cancelationReason"] = concept
    changed["participant"] = [
        {**one, "status": _willing(str((one.get("actor") or {}).get("reference", "")), status)}
        for one in appointment.get("participant") or ()
    ]
    if not changed["extension"]:
        del changed["extension"]
    return changed


def meta_of(profile: str, before: Json, *others: Json) -> Resource:
    """The meta of what the gateway writes anew: tags stay, and so do the security labels of all
    that it is made of, so that what a sensitive department offers is booked as sensitive."""
    meta: Resource = {"profile": [profile]}
    found = [one["meta"] for one in (before, *others) if one.get("meta")]
    if labels := [label for one in found for label in one.get("security") or ()]:
        known = {(label.get("system"), label.get("code")): label for label in reversed(labels)}
        meta["security"] = [*reversed(known.values())]
    if tags := (before.get("meta") or {}).get("tag"):
        meta["tag"] = tags
    return meta


def standing_of(appointment: Json, zone: str) -> Standing:
    """What an Appointment says of its booking."""
    by = parse_reference(str((ext.value_of(appointment, ext.BOOKED_BY) or {}).get("reference", "")))
    renewals = ext.value_of(appointment, ext.HOLD_RENEWALS)
    return Standing(
        str(appointment.get("id", "")),
        str(appointment.get("status", "")),
        next(iter(_named(appointment.get("participant"), "Patient")), ""),
        next((one.id for one in _references(appointment.get("slot")) if one.type == "Slot"), ""),
        _moment(appointment.get("start"), zone),
        _moment(appointment.get("end"), zone),
        Marks(
            str(ext.value_of(appointment, ext.CHANNEL) or ""),
            by.id if isinstance(by, Reference) else "",
            _moment(ext.value_of(appointment, ext.HOLD_UNTIL), zone),
            renewals if isinstance(renewals, int) else 0,
            _moment(ext.value_of(appointment, ext.CONFIRM_BY), zone),
        ),
        tuple((appointment.get("meta") or {}).get("security") or ()),
    )


def instruction_of(*resources: Json) -> str:
    """What the patient must know, in words, from the first resource that says what is asked."""
    for one in resources:
        found = next(ext.extensions(one, ext.REQUIREMENT), None)
        if found is None:
            continue
        words = [str(ext.value_of(found, "preparation") or "")]
        hours = ext.value_of(found, "fasting")
        if isinstance(hours, int) and hours and "禁食" not in words[0]:
            words.append(f"检查前禁食{hours}小时")
        if ext.value_of(found, "contrast") is True:
            words.append("使用造影剂：请告知过敏史与肾功能")
        if device := ext.value_of(found, "device"):
            words.append(f"检查设备：{device}")
        return "；".join(word for word in words if word)
    return ""


@lru_cache(maxsize=1_024)
def said(us: int, zone: ZoneInfo) -> str:
    """A moment on the site's clock, as FHIR says it."""
    return moment_at(us, zone).isoformat(timespec="milliseconds")


def _services(offer: Offer, kept: Json) -> Any:
    """What is booked: of a Slot for several items those that are ordered, or were booked before it
    moved; all where nothing of that is said."""
    served = offer.slot.get("serviceType") or offer.schedule.get("serviceType")
    meant = frozenset(offer.items or items_of(kept))
    if not served or not meant:
        return served
    return [one for one in served if meant & set(items_of({"serviceType": [one]}))] or served


def _others(appointment: Json) -> list[Json]:
    """The extensions that are not the gateway's."""
    if not (found := appointment.get("extension")):
        return []
    return [one for one in found if one.get("url") not in _MARKS]


def _marked(marks: Marks, zone: ZoneInfo) -> list[Resource]:
    found: list[Resource] = []
    if marks.channel:
        found.append({"url": ext.CHANNEL, "valueCode": marks.channel})
    if marks.booked_by:
        by = {"reference": f"Organization/{marks.booked_by}"}
        found.append({"url": ext.BOOKED_BY, "valueReference": by})
    if marks.hold_until:
        found.append({"url": ext.HOLD_UNTIL, "valueInstant": said(marks.hold_until, zone)})
        found.append({"url": ext.HOLD_RENEWALS, "valueUnsignedInt": marks.renewals})
    if marks.confirm_by:
        found.append({"url": ext.CONFIRM_BY, "valueInstant": said(marks.confirm_by, zone)})
    return found


def _participants(offer: Offer, status: str) -> Iterable[Resource]:
    if offer.patient:
        actor = {"reference": f"Patient/{offer.patient}"}
        yield {"actor": actor, "status": "accepted" if status != "proposed" else "needs-action"}
    for one in offer.schedule.get("actor") or ():
        reference = str(one.get("reference", ""))
        yield {"actor": dict(one), "status": _willing(reference, status)}


def _willing(reference: str, status: str) -> str:
    """Whether a participant has agreed: who asks has, the hospital once it is booked."""
    if reference.startswith("Patient/"):
        return "accepted"
    if status in ("pending", "proposed", "waitlist"):
        return "needs-action"
    return "declined" if status == "cancelled" else "accepted"


def _references(values: Any) -> Iterable[Reference]:
    for one in values or ():
        found = parse_reference(str((one or {}).get("reference") or ""))
        if isinstance(found, Reference):
            yield found


def _named(participants: Any, type: str) -> list[str]:
    actors = [one.get("actor") for one in participants or ()]
    return [one.id for one in _references(actors) if one.type == type]


def _moment(text: Any, zone: str) -> int:
    try:
        return date_range(text, zone)[0] if isinstance(text, str) else 0
    except Invalid:
        return 0
