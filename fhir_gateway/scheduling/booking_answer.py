"""The hospital's answer to a booking as an AppointmentResponse, stored with the step that it is.

`$confirm` and `$refuse` leave one, in the same commit, so that what was answered can be searched
(`AppointmentResponse?appointment=…`). It lies in the patient's record and names the institutions
that have to do with the booking: each sees this one row (interactions/relations.py).
hl7.org/fhir/R4/appointmentresponse.html, profile `appointment-response`, docs/adr/0058
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fhir_gateway.context import Gateway, new_id
from fhir_gateway.interactions.prepare import put_of
from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.appointment import meta_of
from fhir_gateway.scheduling.booking_parties import Stands
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Put

Json = Mapping[str, Any]

PROFILE = f"{CANONICAL}/StructureDefinition/appointment-response"

#: Verbs that are answers of the hospital -> AppointmentResponse.participantStatus.
ANSWERS: Mapping[str, str] = {"confirm": "accepted", "refuse": "declined"}

_NO_WORDS = "医院未接受该预约"


def put_of_answer(gateway: Gateway, one: Stands, verb: str, text: str) -> Put:
    """The answer of the hospital, as it is stored beside its step."""
    status = ANSWERS[verb]
    resource: dict[str, Any] = {
        "resourceType": "AppointmentResponse",
        "id": new_id(gateway),
        "meta": meta_of(PROFILE, {}, one.resource),
        "extension": institutions_of(one),
        "appointment": {"reference": f"Appointment/{one.stored.id}"},
        "start": one.resource.get("start"),
        "end": one.resource.get("end"),
        "actor": _answering(one.resource),
        "participantStatus": status,
        "comment": text or (_NO_WORDS if status == "declined" else None),
    }
    said = {name: value for name, value in resource.items() if value not in (None, [])}
    return put_of(gateway, said, op="create", owner=one.stored.owner)


def institutions_of(one: Stands) -> list[dict[str, Any]]:
    """The institutions that have to do with a booking, as extensions: its hospital, and who
    booked."""
    hospital = one.view.hospital if one.view is not None else ""
    several = dict.fromkeys((hospital, one.said.marks.booked_by))
    return [
        {"url": ext.BOOKED_BY, "valueReference": {"reference": f"Organization/{id}"}}
        for id in several
        if id
    ]


def _answering(appointment: Json) -> dict[str, Any]:
    """Who answers: the service of the hospital, else another participant but the patient."""
    actors = list(_actors(appointment))
    services = [one for one in actors if one["reference"].startswith("HealthcareService/")]
    return dict(next(iter(services or actors), {"display": "医院"}))


def _actors(appointment: Json) -> Iterable[Json]:
    for one in appointment.get("participant") or ():
        actor = one.get("actor") or {}
        reference = str(actor.get("reference", ""))
        if reference and not reference.startswith("Patient/"):
            yield actor
