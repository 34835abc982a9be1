"""Reading a hook call: every fault is told at once, with the path of its element.

CDS Hooks 2.0, "Calling a CDS Service", hooks order-select 1.0 and order-sign 1.0. Nothing here
follows an address: `fhirServer` is only compared, `fhirAuthorization` is not even kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from fhir_gateway.cds_hooks.services import PREFETCH, Service
from fhir_gateway.errors import Invalid, Issue, TooLong
from fhir_gateway.fhir.wire import parse, render

#: Most draft orders of one call. A session of a doctor has a dozen.
MAX_ORDERS = 200

_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_REFERENCE = re.compile(r"[A-Z][A-Za-z]{1,40}/[A-Za-z0-9\-.]{1,64}")
_TYPES: dict[Any, str] = {str: "a text", dict: "an object", list: "an array"}


class Draft(NamedTuple):
    """One draft order: its reference in the call, where it stands, the resource."""

    reference: str
    expression: str
    resource: dict[str, Any]


class HookCall(NamedTuple):
    """A valid call. `drafts` are the ServiceRequests that are to be decided, in their order.

    `kept` is the call as it is recorded: hook, instance and context, without tokens and prefetch.
    """

    service: Service
    instance: str
    user: str
    patient_id: str
    fhir_server: str
    drafts: tuple[Draft, ...]
    prefetch: dict[str, dict[str, Any] | None]
    kept: bytes


class _Faults:
    """Collects issues; `take` reads a member of an object and notes what is wrong with it."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def add(self, rule: str, expression: str, diagnostics: str) -> None:
        self.issues.append(Issue("invalid", diagnostics, expression, rule))

    def take(
        self, holder: dict[str, Any], name: str, kind: type, at: str, *, required: bool = True
    ) -> Any:
        """The member when it is of its kind and not empty; else an empty value, and a fault."""
        value = holder.get(name)
        if isinstance(value, kind) and (value or kind is list):
            return value
        path = f"{at}.{name}" if at else name
        if name not in holder:
            if required:
                self.add("required", path, f"{path} is required")
        elif isinstance(value, kind):
            self.add("empty", path, f"{path} must not be empty")
        else:
            self.add("type", path, f"{path} must be {_TYPES[kind]}")
        return kind()

    def text(
        self,
        holder: dict[str, Any],
        name: str,
        at: str,
        pattern: re.Pattern[str] | None = None,
        *,
        required: bool = True,
    ) -> str:
        value: str = self.take(holder, name, str, at, required=required)
        if value and pattern is not None and not pattern.fullmatch(value):
            path = f"{at}.{name}" if at else name
            self.add("format", path, f"{path} has not the form that CDS Hooks asks for")
        return value


def read_call(service: Service, body: bytes) -> HookCall:
    """The call in a request body.

    Raises Structure for what is no JSON object, Invalid with every fault, TooLong for more than
    MAX_ORDERS draft orders.
    """
    document = parse(body)
    faults = _Faults()
    hook = faults.text(document, "hook", "")
    if hook and hook != service.hook:
        faults.add("hook", "hook", f"This service answers the hook {service.hook}")
    instance = faults.text(document, "hookInstance", "", _UUID)
    server = _read_server(faults, document)
    context = faults.take(document, "context", dict, "")
    user = patient_id = ""
    drafts: tuple[Draft, ...] = ()
    if context:
        user = faults.text(context, "userId", "context", _REFERENCE)
        patient_id = faults.text(context, "patientId", "context", _ID)
        faults.text(context, "encounterId", "context", _ID, required=False)
        drafts = _read_drafts(faults, service, context, patient_id)
    prefetch = _read_prefetch(faults, document)
    if faults.issues:
        raise Invalid(issues=tuple(faults.issues))
    kept = render({"hook": hook, "hookInstance": instance, "context": context})
    return HookCall(service, instance, user, patient_id, server, drafts, prefetch, kept)


def _read_server(faults: _Faults, document: dict[str, Any]) -> str:
    server = faults.text(document, "fhirServer", "", required=False)
    if "fhirAuthorization" in document:
        faults.take(document, "fhirAuthorization", dict, "")
        if "fhirServer" not in document:
            faults.add("required", "fhirServer", "fhirServer is required with fhirAuthorization")
    return server


def _read_prefetch(faults: _Faults, document: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    """The prefetched resources that we asked for; null stays None: the client has no such data."""
    if "prefetch" not in document:
        return {}
    given = document["prefetch"]
    if not isinstance(given, dict):
        faults.add("type", "prefetch", "prefetch must be an object")
        return {}
    taken: dict[str, dict[str, Any] | None] = {}
    for key, template in PREFETCH.items():
        if key not in given:
            continue
        resource, expected = given[key], template.partition("/")[0]
        if resource is None:
            taken[key] = None
        elif isinstance(resource, dict) and resource.get("resourceType") == expected:
            taken[key] = resource
        else:
            faults.add("type", f"prefetch.{key}", f"prefetch.{key} must be one {expected} or null")
    return taken


def _read_drafts(
    faults: _Faults, service: Service, context: dict[str, Any], patient_id: str
) -> tuple[Draft, ...]:
    bundle = faults.take(context, "draftOrders", dict, "context")
    if bundle and bundle.get("resourceType") != "Bundle":
        faults.add("type", "context.draftOrders", "context.draftOrders must be a Bundle")
        return ()
    at = "context.draftOrders"
    entries = faults.take(bundle, "entry", list, at, required=False)
    if len(entries) > MAX_ORDERS:
        raise TooLong(f"More than {MAX_ORDERS} draft orders", expression=f"{at}.entry")
    drafts = list(_entries(faults, entries, f"{at}.entry"))
    wanted = _selected(faults, context, drafts) if service.selections else None
    chosen = []
    for draft in drafts:
        if draft.resource["resourceType"] != "ServiceRequest":
            continue  # medicines, diets, devices: not what is recognised
        if wanted is None or draft.reference in wanted:
            _check_subject(faults, draft, patient_id)
            chosen.append(draft)
    return tuple(chosen)


def _entries(faults: _Faults, entries: list[Any], at: str) -> Iterator[Draft]:
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
        reference = f"{type}/{id}"
        if reference in seen:
            faults.add("duplicate", path, "A draft order of this type and id stands there twice")
        seen.add(reference)
        yield Draft(reference, f"{path}.resource", resource)


def _selected(faults: _Faults, context: dict[str, Any], drafts: list[Draft]) -> set[str]:
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


def _check_subject(faults: _Faults, draft: Draft, patient_id: str) -> None:
    """An order for somebody else in this patient's session is an error that must be seen."""
    subject = draft.resource.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str) or not reference.startswith("Patient/"):
        return
    if reference != f"Patient/{patient_id}":
        path = f"{draft.expression}.subject.reference"
        faults.add("other-patient", path, f"{path} names another patient than context.patientId")
