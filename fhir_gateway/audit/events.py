"""AuditEvents as ready bytes: one builder per kind of act, joined from prepared fragments.

Shapes follow IHE Basic Audit Log Patterns 1.1 (profiles.ihe.net/ITI/BALP): type and subtype,
client and server agents, the person who asked with purpose of use and token id, patient as entity
role 1, resource as role 4, raw query as role 24, the request id as its own entity. FHIR R4
AuditEvent; docs/adr/0008 and 0038 say what is ours.

Every builder returns a *tail* (see fhir.wire.tail): the JSON after `"lastUpdated":"…"`. Only
references, codes and counts go in; values of results and identity numbers never do (queries pass
through audit.query first). These run for every read, so nothing here makes a dict.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fhir_gateway.audit.events_parts import (
    ACTIONS,
    DCM,
    DIRECTIONS,
    GATEWAY_NAME,
    Call,
    Event,
    Outcome,
    dicom_head,
    disclosure_head,
    event,
    named_entity,
    operation_head,
    patient_entity,
    query_entity,
    received_entity,
    resource_entity,
    rest_head,
)

__all__ = ["GATEWAY_NAME", "Call", "Event", "Outcome"]


def read_event(
    call: Call,
    *,
    type: str,
    id: str,
    version: int = 0,
    patient: str | None = None,
    interaction: str = "read",
) -> Event:
    """A resource, or its history, was disclosed (read, vread, history-instance)."""
    reference = f"{type}/{id}/_history/{version}" if version else f"{type}/{id}"
    return event(rest_head(interaction, patient, call.address), call, "0", "read", (
        patient_entity(patient), resource_entity(reference)
    ))  # fmt: skip


def search_event(
    call: Call,
    *,
    query: str,
    patient: str | None = None,
    count: int | None = None,
    interaction: str = "search-type",
) -> Event:
    """A search was answered. One event for each patient whose resources it disclosed.

    `query` is the address with its parameters, already through audit.query.masked; `count` the
    number of resources in the answer.
    """
    said = None if count is None else f"{count} resources in the answer"
    return event(rest_head(interaction, patient, call.address), call, "0", "query", (
        patient_entity(patient), query_entity(query)
    ), said)  # fmt: skip


def create_event(
    call: Call, *, type: str, id: str, version: int = 1, patient: str | None = None
) -> Event:
    """A resource was created."""
    return _write(call, "create", f"{type}/{id}/_history/{version}", patient)


def update_event(
    call: Call,
    *,
    type: str,
    id: str,
    version: int,
    patient: str | None = None,
    interaction: str = "update",
) -> Event:
    """A resource was changed (update, patch)."""
    return _write(call, interaction, f"{type}/{id}/_history/{version}", patient)


def delete_event(call: Call, *, type: str, id: str, patient: str | None = None) -> Event:
    """A resource was deleted; the entity names the id that is no longer valid."""
    return _write(call, "delete", f"{type}/{id}", patient)


def transaction_event(
    call: Call,
    *,
    resources: Iterable[str],
    patients: Iterable[str] = (),
    summary: str = "",
    interaction: str = "transaction",
) -> Event:
    """A transaction or batch was carried out. `resources` are "Type/id/_history/v"."""
    entities = [*map(patient_entity, patients), *map(resource_entity, resources)]
    return event(rest_head(interaction, None, ""), call, "0", "write", entities, summary or None)


def refusal_event(
    call: Call,
    *,
    interaction: str,
    status: int,
    code: str,
    target: str = "",
    patient: str | None = None,
    query: str = "",
    operation: str = "",
) -> Event:
    """A request was refused with this HTTP status and FHIR issue type; outcome 8 from 500 up.

    `operation` is the "$name" of what was called, "" for no operation.
    """
    action = ACTIONS.get(interaction, "E")
    entities = (
        patient_entity(patient),
        resource_entity(target) if target else b"",
        query_entity(query) if query else b"",
    )
    head = operation_head(operation) if operation else rest_head(interaction, None, "")
    outcome: Outcome = "8" if status >= 500 else "4"
    return event(head, call, outcome, DIRECTIONS[action], entities, f"{status} {code}")


def receive_event(
    call: Call,
    *,
    media: str,
    digest: bytes,
    message: str = "",
    resources: Iterable[str] = (),
    patients: Iterable[str] = (),
    outcome: Outcome = "0",
    summary: str = "",
) -> Event:
    """A door took in a v2 message, a DICOM object or a file (DICOM 110107 Import).

    `digest` is the SHA-256 by which the received bytes are kept, `message` the sender's own
    number of the message, `summary` counts or the name of the refusal.
    """
    entities = [received_entity(media, digest, message)]
    entities += map(patient_entity, patients)
    entities += map(resource_entity, resources)
    return event(_IMPORT, call, outcome, "write", entities, summary or None)


def decision_event(
    call: Call,
    *,
    id: str,
    patient: str | None,
    operation: str,
    summary: str = "",
    resources: Sequence[str] = (),
) -> Event:
    """The gateway decided on an order and said so; `id` is the GuidanceResponse's, "" where none
    was recorded.

    `operation` is what was called ($recognize, order-sign), `summary` the number of items by
    outcome, `resources` the earlier results that the answer names: to name them is to disclose
    them, and the subtype says so.
    """
    decision = resource_entity(f"GuidanceResponse/{id}") if id else b""
    entities = [patient_entity(patient), decision, *map(resource_entity, resources)]
    head = operation_head(operation, bool(resources))
    return event(head, call, "0", "query", entities, summary or None)


def answer_event(
    call: Call,
    *,
    id: str,
    patient: str | None,
    operation: str,
    summary: str,
) -> Event:
    """The clinician answered a decision; `id` is the GuidanceResponse's.

    `summary` is codes only: recognised, or repeated with the code of the ground.
    """
    entities = (patient_entity(patient), resource_entity(f"GuidanceResponse/{id}"))
    return event(operation_head(operation), call, "0", "write", entities, summary)


def booking_event(
    call: Call, *, id: str, version: int, patient: str | None, operation: str, summary: str
) -> Event:
    """An appointment was held, booked, moved or ended; `id` and `version` are the Appointment's.

    `operation` is what was called, `summary` codes only: status, channel, Slot (IHE ITI-116, 117).
    """
    appointment = f"Appointment/{id}/_history/{version}" if version else f"Appointment/{id}"
    entities = (patient_entity(patient), resource_entity(appointment))
    return event(operation_head(operation), call, "0", "write", entities, summary)


def document_event(
    call: Call, *, id: str, patient: str | None, operation: str, resources: Sequence[str]
) -> Event:
    """A document was handed out that goes with an answer; `id` is the Task's.

    `resources` are the versions of results and reports in it.
    """
    entities = [patient_entity(patient), resource_entity(f"Task/{id}")]
    entities += map(resource_entity, resources)
    head = disclosure_head(operation, _is_profiled(call, patient, resources))
    return event(head, call, "0", "read", entities)


def disclosure_event(
    call: Call,
    *,
    operation: str,
    file: str,
    details: Sequence[tuple[str, str]] = (),
    query: str = "",
    patient: str | None = None,
    resources: Sequence[str] = (),
    summary: str = "",
) -> Event:
    """Data of persons leave the gateway in a file (BALP Privacy Disclosure at Source).

    `file` names it; `details` are pairs such as its types, its number of lines and its digest,
    `query` the address that asked for it, already through audit.query.masked.
    """
    entities = [patient_entity(patient), named_entity(file, details)]
    entities += map(resource_entity, resources)
    if query:
        entities.append(query_entity(query))
    head = disclosure_head(operation, _is_profiled(call, patient, [file]))
    return event(head, call, "0", "read", entities, summary or None)


def _is_profiled(call: Call, patient: str | None, data: Sequence[str]) -> bool:
    """Whether everything is there that the profile demands: address, purpose, patient, data."""
    return bool(call.address and call.purpose and patient and data)


def credential_event(call: Call, *, institution: str, issued: bool) -> Event:
    """A token of an institution was made or ended (DICOM PS3.15 A.5.3.11, Security Alert)."""
    said = "token issued" if issued else "token revoked"
    entities = (resource_entity(f"Organization/{institution}"),)
    return event(_CREDENTIAL, call, "0", "govern", entities, said)


def login_event(call: Call, *, outcome: Outcome = "0", said: str = "") -> Event:
    """A caller asked for an access token and got one, or not (IHE IUA, ITI-71).

    What names the token stands in `call.token`; `said` is scopes or the code of the refusal.
    """
    return event(_LOGIN, call, outcome, "govern", (), said or None)


def emergency_event(
    call: Call, *, patient: str | None, reason: str, until: str, resources: Sequence[str] = ()
) -> Event:
    """Somebody opened a record in an emergency (break-glass; DICOM 110127).

    `reason` is the code of the ground and `until` when the opening ends: free text that the user
    wrote stays in the resource, which `resources` name.
    """
    entities = [patient_entity(patient), *map(resource_entity, resources)]
    return event(_EMERGENCY, call, "0", "query", entities, f"{reason} until {until}")


def administration_event(
    call: Call,
    *,
    act: str,
    summary: str,
    resources: Iterable[str] = (),
    details: Sequence[tuple[str, str]] = (),
    outcome: Outcome = "0",
) -> Event:
    """Somebody governed the gateway itself: clients, tokens, registry, rules, policy, retention.

    `act` is a word such as "client", "policy" or "retention"; `summary` counts and codes only;
    `details` what was changed, as pairs. DICOM 110113 Security Alert, 110129 Configuration.
    """
    entities = [*map(resource_entity, resources)]
    if details:
        entities.append(named_entity(act, details))
    head = dicom_head(_ALERT, (DCM, "110129", "Security Configuration"), "E", act)
    return event(head, call, outcome, "govern", entities, summary or None)


_ALERT = ("110113", "Security Alert")
_CREDENTIAL = dicom_head(_ALERT, (DCM, "110137", "User Security Attributes Changed"), "E")
_EMERGENCY = dicom_head(_ALERT, (DCM, "110127", "Emergency Override Started"), "E")
_IMPORT = dicom_head(("110107", "Import"), None, "C")
_LOGIN = dicom_head(
    ("110114", "User Authentication"),
    ("urn:ihe:event-type-code", "ITI-71", "Get Access Token"),
    "E",
)


def _write(call: Call, interaction: str, reference: str, patient: str | None) -> Event:
    direction = "delete" if interaction == "delete" else "write"
    entities = (patient_entity(patient), resource_entity(reference))
    return event(rest_head(interaction, patient, call.address), call, "0", direction, entities)
