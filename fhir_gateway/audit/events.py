"""AuditEvents as ready bytes: one builder per kind of act, joined from prepared fragments.

Shapes follow IHE Basic Audit Log Patterns 1.1 (profiles.ihe.net/ITI/BALP): type and subtype,
client and server agents, patient as entity role 1, resource as role 4, raw query as role 24, the
request id as its own entity. FHIR R4 AuditEvent; docs/adr/0008 says what is ours.

Every builder returns a *tail* (see fhir.wire.tail): the JSON after `"lastUpdated":"…"`. Only
references, codes and counts go in; values of results and identity numbers never do (queries pass
through audit.query first). These run for every read, so nothing here makes a dict.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from msgspec.json import encode

from fhir_gateway.fhir.wire import instant

Outcome = Literal["0", "4", "8"]  # success, minor failure (the caller's), serious failure (ours)

#: How the gateway calls itself in its own records.
GATEWAY_NAME = "fhir-gateway"

_BALP = "https://profiles.ihe.net/ITI/BALP"
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_REST = "http://hl7.org/fhir/restful-interaction"
_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_ACTIONS = {
    "read": "R", "vread": "R", "history-instance": "R", "history-type": "R", "history-system": "R",
    "search-type": "E", "search-system": "E", "capabilities": "E", "operation": "E",
    "create": "C", "update": "U", "patch": "U", "delete": "D", "transaction": "E", "batch": "E",
}  # fmt: skip
_PROFILES = {
    "read": "Read", "vread": "Read", "search-type": "Query", "search-system": "Query",
    "create": "Create", "update": "Update", "patch": "Update", "delete": "Delete",
}  # fmt: skip

# BALP gives the roles by the direction of the data: (client agent, server agent, person's role).
_SOURCE, _DESTINATION = (_DCM, "110153", "Source Role ID"), (_DCM, "110152", "Destination Role ID")
_CUSTODIAN = (
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian",
)  # fmt: skip
_AGENTS = {
    "read": (_DESTINATION, _SOURCE, "IRCP"),
    "query": (_SOURCE, _DESTINATION, "IRCP"),
    "write": (_SOURCE, _DESTINATION, "AUT"),
    "delete": ((_DCM, "110150", "Application"), _CUSTODIAN, "AUT"),
}
_DIRECTIONS = {"R": "read", "E": "query", "C": "write", "U": "write", "D": "delete"}


class Call(NamedTuple):
    """One request: who makes it, when and from where. Common to all its events.

    `institution` is the logical id of the caller's Organization; `user` the person at the
    workstation as a reference or a plain name; `purpose` a code of v3-ActReason such as TREAT.
    """

    recorded_us: int
    actor_name: str
    institution: str | None = None
    request_id: str = ""
    purpose: str = ""
    address: str = ""
    user: str = ""


def read_event(
    call: Call,
    *,
    type: str,
    id: str,
    version: int = 0,
    patient: str | None = None,
    interaction: str = "read",
) -> bytes:
    """A resource, or its history, was disclosed (read, vread, history-instance)."""
    reference = f"{type}/{id}/_history/{version}" if version else f"{type}/{id}"
    return _event(_head(interaction, patient, call.address), call, "0", "read", (
        _patient(patient), _resource(reference)
    ))  # fmt: skip


def search_event(
    call: Call,
    *,
    query: str,
    patient: str | None = None,
    count: int | None = None,
    interaction: str = "search-type",
) -> bytes:
    """A search was answered. One event for each patient whose resources it disclosed.

    `query` is the address with its parameters, already through audit.query.masked; `count` the
    number of resources in the answer.
    """
    said = None if count is None else f"{count} resources in the answer"
    return _event(_head(interaction, patient, call.address), call, "0", "query", (
        _patient(patient), _query(query)
    ), said)  # fmt: skip


def create_event(
    call: Call, *, type: str, id: str, version: int = 1, patient: str | None = None
) -> bytes:
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
) -> bytes:
    """A resource was changed (update, patch)."""
    return _write(call, interaction, f"{type}/{id}/_history/{version}", patient)


def delete_event(call: Call, *, type: str, id: str, patient: str | None = None) -> bytes:
    """A resource was deleted; the entity names the id that is no longer valid."""
    return _write(call, "delete", f"{type}/{id}", patient)


def transaction_event(
    call: Call,
    *,
    resources: Iterable[str],
    patients: Iterable[str] = (),
    summary: str = "",
    interaction: str = "transaction",
) -> bytes:
    """A transaction or batch was carried out. `resources` are "Type/id/_history/v"."""
    entities = [*map(_patient, patients), *map(_resource, resources)]
    return _event(_head(interaction, None, ""), call, "0", "write", entities, summary or None)


def refusal_event(
    call: Call,
    *,
    interaction: str,
    status: int,
    code: str,
    target: str = "",
    patient: str | None = None,
    query: str = "",
) -> bytes:
    """A request was refused with this HTTP status and FHIR issue type; outcome 8 from 500 up."""
    action = _ACTIONS.get(interaction, "E")
    entities = (
        _patient(patient),
        _resource(target) if target else b"",
        _query(query) if query else b"",
    )
    head = _head(interaction, None, "")
    outcome: Outcome = "8" if status >= 500 else "4"
    return _event(head, call, outcome, _DIRECTIONS[action], entities, f"{status} {code}")


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
) -> bytes:
    """A door took in a v2 message, a DICOM object or a file (DICOM 110107 Import).

    `digest` is the SHA-256 by which the received bytes are kept, `message` the sender's own
    number of the message, `summary` counts or the name of the refusal.
    """
    entities = [_received(media, digest, message)]
    entities += map(_patient, patients)
    entities += map(_resource, resources)
    return _event(_IMPORT, call, outcome, "write", entities, summary or None)


def decision_event(
    call: Call,
    *,
    id: str,
    patient: str | None,
    operation: str,
    summary: str = "",
    resources: Sequence[str] = (),
) -> bytes:
    """The gateway decided on an order and said so; `id` is the GuidanceResponse's, "" where none
    was recorded.

    `operation` is what was called ($recognize, order-sign), `summary` the number of items by
    outcome, `resources` the earlier results that the answer names.
    """
    decision = _resource(f"GuidanceResponse/{id}") if id else b""
    entities = [_patient(patient), decision, *map(_resource, resources)]
    head = _operation_head(operation)
    return _event(head, call, "0", "query", entities, summary or None)


def answer_event(
    call: Call,
    *,
    id: str,
    patient: str | None,
    operation: str,
    summary: str,
) -> bytes:
    """The clinician answered a decision; `id` is the GuidanceResponse's.

    `summary` is codes only: recognised, or repeated with the code of the ground.
    """
    entities = (_patient(patient), _resource(f"GuidanceResponse/{id}"))
    return _event(_operation_head(operation), call, "0", "write", entities, summary)


def document_event(
    call: Call, *, id: str, patient: str | None, operation: str, resources: Sequence[str]
) -> bytes:
    """A document was handed out that goes with an answer; `id` is the Task's.

    `resources` are the versions of results and reports in it.
    """
    entities = [_patient(patient), _resource(f"Task/{id}"), *map(_resource, resources)]
    return _event(_operation_head(operation), call, "0", "read", entities)


def credential_event(call: Call, *, institution: str, issued: bool) -> bytes:
    """A token of an institution was made or ended (DICOM PS3.15 A.5.3.11, Security Alert)."""
    said = "token issued" if issued else "token revoked"
    entities = (_resource(f"Organization/{institution}"),)
    return _event(_CREDENTIAL, call, "0", "write", entities, said)


# -- fragments -----------------------------------------------------------------------------------


def _write(call: Call, interaction: str, reference: str, patient: str | None) -> bytes:
    direction = "delete" if interaction == "delete" else "write"
    entities = (_patient(patient), _resource(reference))
    return _event(_head(interaction, patient, call.address), call, "0", direction, entities)


def _event(
    head: bytes,
    call: Call,
    outcome: Outcome,
    direction: str,
    entities: Iterable[bytes],
    said: str | None = None,
) -> bytes:
    """`head` ends with `"recorded":`; entities are fragments that each begin with a comma."""
    parts = [
        head, b'"', instant(call.recorded_us).encode(), b'","outcome":"', outcome.encode(), b'"',
    ]  # fmt: skip
    if said is not None:
        parts += (b',"outcomeDesc":', encode(said))
    parts.append(
        _agents(call.actor_name, call.institution, call.address, call.user, call.purpose, direction)
    )
    inner = b"".join(entities)
    if call.request_id:
        inner += _request(call.request_id)
    if inner:
        parts += (b',"entity":[', inner[1:], b"]")
    parts.append(b"}")
    return b"".join(parts)


@lru_cache(maxsize=256)
def _profiled_head(interaction: str, profile: str) -> bytes:
    meta = b""
    if profile:
        url = f"{_BALP}/StructureDefinition/IHE.BasicAudit.{profile}"
        meta = b',"profile":[%s]' % encode(url)
    return b'%s},"type":%s,"subtype":[%s],"action":"%s","recorded":' % (
        meta,
        _coding(_TYPES, "rest"),
        _coding(_REST, interaction),
        _ACTIONS.get(interaction, "E").encode(),
    )


def _head(interaction: str, patient: str | None, address: str) -> bytes:
    """BALP wants the client's address: the profile is claimed only where it is known."""
    profile = _PROFILES.get(interaction, "") if address else ""
    return _profiled_head(interaction, f"Patient{profile}" if patient and profile else profile)


@lru_cache(maxsize=256)
def _operation_head(operation: str) -> bytes:
    return b'},"type":%s,"subtype":[%s,{"display":%s}],"action":"E","recorded":' % (
        _coding(_TYPES, "rest"),
        _coding(_REST, "operation"),
        encode(operation),
    )


def _coding(system: str, code: str, display: str = "") -> bytes:
    shown = b',"display":%s' % encode(display) if display else b""
    return b'{"system":%s,"code":%s%s}' % (encode(system), encode(code), shown)


_CREDENTIAL = b'},"type":%s,"subtype":[%s],"action":"E","recorded":' % (
    _coding(_DCM, "110113", "Security Alert"),
    _coding(_DCM, "110137", "User Security Attributes Changed"),
)
_IMPORT = b'},"type":%s,"action":"C","recorded":' % _coding(_DCM, "110107", "Import")
_SERVER = _coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4")
_OBSERVER = b',"source":{"observer":{"display":"%s"},"type":[%s]}' % (
    GATEWAY_NAME.encode(),
    _SERVER,
)


@lru_cache(maxsize=8_192)
def _agents(
    name: str, institution: str | None, address: str, user: str, purpose: str, direction: str
) -> bytes:
    """Purpose, agents and source: the same for every call of a workstation, so kept."""
    client_role, server_role, person_role = _AGENTS[direction]
    who = b'{"display":%s}' % encode(name)
    if institution:
        reference = encode(f"Organization/{institution}")
        who = b'{"reference":%s,"display":%s}' % (reference, encode(name))
    network = b""
    if address:
        network = b',"network":{"address":%s,"type":"2"}' % encode(address)
    parts = [b""]
    if purpose:
        reason = _coding("http://terminology.hl7.org/CodeSystem/v3-ActReason", purpose)
        parts.append(b',"purposeOfEvent":[{"coding":[%s]}]' % reason)
    parts.append(
        b',"agent":[{"type":{"coding":[%s]},"who":%s,"requestor":%s%s}'
        % (_coding(*client_role), who, b"false" if user else b"true", network)
    )
    if user:
        kind = b"reference" if "/" in user else b"display"
        parts.append(
            b',{"type":{"coding":[%s]},"who":{"%s":%s},"requestor":true}'
            % (_coding(_ROLES, person_role), kind, encode(user))
        )
    parts.append(
        b',{"type":{"coding":[%s]},"who":{"display":"%s"},"requestor":false,'
        b'"network":{"address":"%s","type":"1"}}]'
        % (_coding(*server_role), GATEWAY_NAME.encode(), GATEWAY_NAME.encode())
    )
    parts.append(_OBSERVER)
    return b"".join(parts)


def _entity(what: bytes, type: str, role: str) -> tuple[bytes, bytes]:
    """The two halves around what is named: (before, after)."""
    kind = _coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", type)
    part = _coding("http://terminology.hl7.org/CodeSystem/object-role", role)
    return b",{" + what, b',"type":%s,"role":%s}' % (kind, part)


_PATIENT, _PATIENT_END = _entity(b'"what":{"reference":', "1", "1")
_RESOURCE, _RESOURCE_END = _entity(b'"what":{"reference":', "2", "4")
_QUERY, _QUERY_END = _entity(b'"query":"', "2", "24")
_RECEIVED, _RECEIVED_END = _entity(
    b'"what":{"identifier":{"system":"urn:ietf:rfc:3986","value":', "2", "4"
)


def _patient(id: str | None) -> bytes:
    return b"%s%s}%s" % (_PATIENT, encode(f"Patient/{id}"), _PATIENT_END) if id else b""


def _resource(reference: str) -> bytes:
    return b"%s%s}%s" % (_RESOURCE, encode(reference), _RESOURCE_END)


def _query(query: str) -> bytes:
    return b'%s%s"%s' % (_QUERY, b64encode(query.encode("utf-8", "replace")), _QUERY_END)


def _received(media: str, digest: bytes, message: str) -> bytes:
    identifier = encode(f"urn:sha256:{digest.hex()}")
    named = b',"name":%s' % encode(message) if message else b""
    detail = b',"detail":[{"type":"media","valueString":%s}]' % encode(media)
    return b"%s%s}}%s%s%s}" % (_RECEIVED, identifier, _RECEIVED_END[:-1], named, detail)


_REQUEST_END = b'}},"type":%s}' % _coding(f"{_BALP}/CodeSystem/BasicAuditEntityType", "XrequestId")


def _request(request_id: str) -> bytes:
    return b',{"what":{"identifier":{"value":%s%s' % (encode(request_id), _REQUEST_END)
