"""Reading a hook call: every fault is told at once, with the path of its element.

CDS Hooks 2.0, "Calling a CDS Service"; hooks order-select 1.0, order-sign 1.0, appointment-book 1.0
and patient-view 1.0. Nothing here follows an address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from fhir_gateway.cds_hooks.faults import Faults
from fhir_gateway.cds_hooks.services import Service
from fhir_gateway.errors import Invalid, TooLong
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.interactions.relations import CONSENT_OBTAINED

#: Most draft orders or appointments of one call. A session of a doctor has a dozen.
MAX_ORDERS = 200
#: Longer access tokens are nobody's.
MAX_TOKEN = 8_192

_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE = re.compile(r"[A-Z][A-Za-z]{1,40}/[A-Za-z0-9\-.]{1,64}")
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")  # RFC 6750 2.1

#: The type that is decided on; the others of a Bundle are read for the patient's situation.
_DECIDED = {
    "selections": "ServiceRequest",
    "draftOrders": "ServiceRequest",
    "appointments": "Appointment",
}


class Draft(NamedTuple):
    """One draft: its reference in the call, where it stands, the resource."""

    reference: str
    expression: str
    resource: dict[str, Any]


class Prefetch(NamedTuple):
    """What came with the call. None in `given`: the client has no such data. `failed` are those
    that the client could not get itself (an OperationOutcome)."""

    given: dict[str, dict[str, Any] | None]
    failed: frozenset[str]


class HookCall(NamedTuple):
    """A valid call. `drafts` are what is to be decided, in their order; `others` the rest of what
    is being ordered. `kept` is the call as it is recorded, by hash: hook, instance, context with
    the draft orders, and what came of the patient's situation; no token, no demographics.
    `consented`: the call says in an extension that the patient agreed in this encounter.
    """

    service: Service
    instance: str
    user: str
    patient_id: str
    encounter_id: str
    fhir_server: str
    token: str
    drafts: tuple[Draft, ...]
    others: tuple[dict[str, Any], ...]
    prefetch: Prefetch
    kept: bytes
    consented: bool = False


def read_call(service: Service, body: bytes) -> HookCall:
    """The call in a request body.

    Raises Structure for what is no JSON object, Invalid with every fault, TooLong for more than
    MAX_ORDERS drafts.
    """
    document = parse(body)
    faults = Faults()
    hook = faults.text(document, "hook", "")
    if hook and hook != service.hook:
        faults.add("hook", "hook", f"This service answers the hook {service.hook}")
    instance = faults.text(document, "hookInstance", "", _UUID)
    server, token = _read_server(faults, document)
    context = faults.take(document, "context", dict, "")
    user = patient_id = encounter_id = ""
    drafts: tuple[Draft, ...] = ()
    others: tuple[dict[str, Any], ...] = ()
    if context:
        user = faults.text(context, "userId", "context", _REFERENCE)
        patient_id = faults.text(context, "patientId", "context", _ID)
        encounter_id = faults.text(context, "encounterId", "context", _ID, required=False)
        if service.decides != "patient":
            drafts, others = _read_drafts(faults, service, context, patient_id, server)
    prefetch = _read_prefetch(faults, service, document)
    consented = _read_consented(faults, document)
    if faults.issues:
        raise Invalid(issues=tuple(faults.issues))
    call = {"hook": hook, "hookInstance": instance, "context": context}
    if consented:
        call["extension"] = {CONSENT_OBTAINED: True}
    situation = {key: one for key, one in prefetch.given.items() if key != "patient"}
    kept = render({**call, "prefetch": situation} if situation else call)
    return HookCall(
        service, instance, user, patient_id, encounter_id, server, token, drafts, others, prefetch,
        kept, consented,
    )  # fmt: skip


def _read_consented(faults: Faults, document: dict[str, Any]) -> bool:
    """Whether the call says that the patient agreed; other extensions are nobody's business."""
    extension = document.get("extension")
    if not isinstance(extension, dict) or CONSENT_OBTAINED not in extension:
        return False
    said = extension[CONSENT_OBTAINED]
    if not isinstance(said, bool):
        at = f"extension[{CONSENT_OBTAINED}]"
        faults.add("type", at, f"{at} must be true or false")
    return said is True


def _read_server(faults: Faults, document: dict[str, Any]) -> tuple[str, str]:
    """The client's FHIR base and the token that it gives for it, which is never kept."""
    server = faults.text(document, "fhirServer", "", required=False)
    given = faults.take(document, "fhirAuthorization", dict, "", required=False)
    if "fhirAuthorization" in document and "fhirServer" not in document:
        faults.add("required", "fhirServer", "fhirServer is required with fhirAuthorization")
    if not given:
        return server, ""
    at = "fhirAuthorization"
    token = faults.text(given, "access_token", at, _TOKEN)
    if len(token) > MAX_TOKEN:
        faults.add("too-long", f"{at}.access_token", f"{at}.access_token is too long")
    kind = faults.text(given, "token_type", at)
    if kind and kind.lower() != "bearer":
        faults.add("token-type", f"{at}.token_type", f"{at}.token_type must be Bearer")
    return server, token


def _read_prefetch(faults: Faults, service: Service, document: dict[str, Any]) -> Prefetch:
    """The prefetched resources that we asked for."""
    if "prefetch" not in document:
        return Prefetch({}, frozenset())
    sent = document["prefetch"]
    if not isinstance(sent, dict):
        faults.add("type", "prefetch", "prefetch must be an object")
        return Prefetch({}, frozenset())
    given: dict[str, dict[str, Any] | None] = {}
    failed = set()
    for key, template in service.prefetch.items():
        if key not in sent:
            continue
        resource, expected = sent[key], "Bundle" if "?" in template else template.partition("/")[0]
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if kind == "OperationOutcome":
            failed.add(key)
        elif resource is None or kind == expected:
            given[key] = resource
        else:
            text = f"prefetch.{key} must be one {expected} or null"
            faults.add("type", f"prefetch.{key}", text)
    return Prefetch(given, frozenset(failed))


def _read_drafts(
    faults: Faults, service: Service, context: dict[str, Any], patient_id: str, server: str
) -> tuple[tuple[Draft, ...], tuple[dict[str, Any], ...]]:
    """What is decided on, and the other resources that stand beside it."""
    name = "draftOrders" if service.decides == "selections" else service.decides
    bundle = faults.take(context, name, dict, "context")
    at = f"context.{name}"
    if bundle and bundle.get("resourceType") != "Bundle":
        faults.add("type", at, f"{at} must be a Bundle")
        return (), ()
    entries = faults.take(bundle, "entry", list, at, required=False)
    if len(entries) > MAX_ORDERS:
        raise TooLong(f"More than {MAX_ORDERS} resources", expression=f"{at}.entry")
    all_drafts = list(_entries(faults, entries, f"{at}.entry"))
    wanted = _selected(faults, context, all_drafts) if service.decides == "selections" else None
    chosen, others = [], []
    for draft in all_drafts:
        # medicines, diets, devices are not what is recognised
        decided = draft.resource["resourceType"] == _DECIDED[service.decides]
        if decided and (wanted is None or draft.reference in wanted):
            _check_subject(faults, draft, patient_id, server)
            chosen.append(draft)
        else:
            others.append(draft.resource)
    return tuple(chosen), tuple(others)


def _entries(faults: Faults, entries: list[Any], at: str) -> Iterator[Draft]:
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        path = f"{at}[{number}]"
        if not isinstance(entry, dict):
            faults.add("type", path, f"{path} must be an object")
            continue
        resource = faults.take(entry, "resource", dict, path)
        if not resource:
            continue
        type = faults.text(resource, "resourceType", f"{path}.resource")
        id = faults.text(resource, "id", f"{path}.resource", _ID)
        if not type:
            continue
        reference = f"{type}/{id}"
        if reference in seen:
            faults.add("duplicate", path, "A resource of this type and id stands there twice")
        seen.add(reference)
        yield Draft(reference, f"{path}.resource", resource)


def _selected(faults: Faults, context: dict[str, Any], drafts: list[Draft]) -> set[str]:
    known = {draft.reference for draft in drafts}
    wanted: set[str] = set()
    for number, text in enumerate(faults.take(context, "selections", list, "context")):
        path = f"context.selections[{number}]"
        if not isinstance(text, str):
            faults.add("type", path, f"{path} must be a text")
        elif text not in known:
            faults.add("unresolved", path, f"{path} names no resource of context.draftOrders")
        else:
            wanted.add(text)
    return wanted


def _check_subject(faults: Faults, draft: Draft, patient_id: str, server: str) -> None:
    """An order for somebody else in this patient's session is an error that must be seen."""
    for path, stated in _subjects(draft.resource):
        reference = stated.partition("/_history/")[0]
        if server:
            reference = reference.removeprefix(f"{server.rstrip('/')}/")
        if reference.startswith("Patient/") and reference != f"Patient/{patient_id}":
            at = f"{draft.expression}.{path}"
            faults.add("other-patient", at, f"{at} names another patient than context.patientId")


def _subjects(resource: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Whom an order or an appointment is for: path and reference."""
    holders: list[tuple[str, Any]] = [("subject", resource.get("subject"))]
    participants = resource.get("participant")
    if resource["resourceType"] == "Appointment" and isinstance(participants, list):
        holders = [
            (f"participant[{number}].actor", one.get("actor"))
            for number, one in enumerate(participants)
            if isinstance(one, dict)
        ]
    for path, holder in holders:
        reference = holder.get("reference") if isinstance(holder, dict) else None
        if isinstance(reference, str):
            yield f"{path}.reference", reference
