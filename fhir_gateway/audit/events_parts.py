"""The fragments that AuditEvents are joined from: heads, agents, entities.

What many calls have in common is made once and kept. A fragment of an entity begins with a comma;
a head ends with `"recorded":`. The codes are DICOM's (PS3.16 CID 400 to 404), HL7's and those of
IHE BALP 1.1 (profiles.ihe.net/ITI/BALP).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from msgspec.json import encode

from fhir_gateway.fhir.wire import instant
from fhir_gateway.settings import CANONICAL

Outcome = Literal["0", "4", "8"]  # success, minor failure (the caller's), serious failure (ours)

#: How the gateway calls itself in its own records.
GATEWAY_NAME = "fhir-gateway"

#: The system of the codes of legal bases: in purposeOfEvent, beside the purpose of use.
LEGAL_BASIS = f"{CANONICAL}/CodeSystem/legal-basis"
PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

#: In the ledger of an export: the detail that names a file's persons, ids with a blank between.
PERSONS_NAMED = "patients"

DCM = "http://dicom.nema.org/resources/ontology/DCM"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_BALP = "https://profiles.ihe.net/ITI/BALP"
_REST = "http://hl7.org/fhir/restful-interaction"
_TYPES = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_LIFECYCLE = "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle"
ACTIONS = {
    "read": "R", "vread": "R", "history-instance": "R", "history-type": "R", "history-system": "R",
    "search-type": "E", "search-system": "E", "capabilities": "E", "operation": "E",
    "create": "C", "update": "U", "patch": "U", "delete": "D", "transaction": "E", "batch": "E",
}  # fmt: skip
_PROFILES = {
    "read": "Read", "vread": "Read", "search-type": "Query", "search-system": "Query",
    "create": "Create", "update": "Update", "patch": "Update", "delete": "Delete",
}  # fmt: skip

# BALP gives the roles by the direction of the data: (client agent, server agent, person's role).
_SOURCE, _DESTINATION = (DCM, "110153", "Source Role ID"), (DCM, "110152", "Destination Role ID")
_APPLICATION = (DCM, "110150", "Application")
_CUSTODIAN = (
    "http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian",
)  # fmt: skip
_AGENTS = {
    "read": (_DESTINATION, _SOURCE, "IRCP"),
    "query": (_SOURCE, _DESTINATION, "IRCP"),
    "write": (_SOURCE, _DESTINATION, "AUT"),
    "delete": (_APPLICATION, _CUSTODIAN, "AUT"),
    "govern": (_APPLICATION, _DESTINATION, "AUT"),
}
DIRECTIONS = {"R": "read", "E": "query", "C": "write", "U": "write", "D": "delete"}

_UNSPOKEN = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Call(NamedTuple):
    """One request: who makes it, when and from where. Common to all its events.

    `institution` is the logical id of the caller's Organization; `user` the person at the
    workstation as a reference or a plain name; `purpose` a code of v3-ActReason such as TREAT;
    `client` the id of the registered client, `token` what names the credential and is no secret,
    `basis` the legal basis of the site's policy.
    """

    recorded_us: int
    actor_name: str
    institution: str | None = None
    request_id: str = ""
    purpose: str = ""
    address: str = ""
    user: str = ""
    client: str = ""
    token: str = ""
    basis: str = ""


class Event(bytes):
    """The tail of an AuditEvent, and the institution whose act it tells ("" for none).

    The institution owns the record in the store: it may search its own acts, and nobody else's.
    """

    institution: str = ""


def event(
    head: bytes,
    call: Call,
    outcome: Outcome,
    direction: str,
    entities: Iterable[bytes],
    said: str | None = None,
) -> Event:
    """An AuditEvent. `head` ends with `"recorded":`; entities each begin with a comma."""
    parts = [
        head, b'"', instant(call.recorded_us).encode(), b'","outcome":"', outcome.encode(), b'"',
    ]  # fmt: skip
    if said is not None:
        parts += (b',"outcomeDesc":', encode(said))
    parts.append(_agents(direction, call[1:3], call[4:]))
    inner = b"".join(entities)
    if call.request_id:
        inner += _request(call.request_id)
    if inner:
        parts += (b',"entity":[', inner[1:], b"]")
    parts.append(b"}")
    made = Event(b"".join(parts))
    made.institution = call.institution or ""
    return made


# -- heads ---------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _profiled_head(interaction: str, profile: str) -> bytes:
    return b'%s},"type":%s,"subtype":[%s],"action":"%s","recorded":' % (
        _claim(profile),
        coding(_TYPES, "rest"),
        coding(_REST, interaction),
        ACTIONS.get(interaction, "E").encode(),
    )


def _claim(profile: str) -> bytes:
    if not profile:
        return b""
    return b',"profile":[%s]' % encode(f"{_BALP}/StructureDefinition/IHE.BasicAudit.{profile}")


def rest_head(interaction: str, patient: str | None, address: str) -> bytes:
    """BALP wants the client's address: the profile is claimed only where it is known."""
    profile = _PROFILES.get(interaction, "") if address else ""
    return _profiled_head(interaction, f"Patient{profile}" if patient and profile else profile)


@lru_cache(maxsize=256)
def operation_head(operation: str, disclosed: bool = False) -> bytes:
    """An operation; `disclosed` says that its answer passes on what others hold."""
    told = b"," + coding(_LIFECYCLE, "disclose") if disclosed else b""
    return b'},"type":%s,"subtype":[%s,{"display":%s}%s],"action":"E","recorded":' % (
        coding(_TYPES, "rest"),
        coding(_REST, "operation"),
        encode(operation),
        told,
    )


@lru_cache(maxsize=256)
def disclosure_head(operation: str, profiled: bool) -> bytes:
    """Data are passed on (BALP Privacy Disclosure at Source, DICOM 110106 Export)."""
    return b'%s},"type":%s,"subtype":[%s,{"display":%s}],"action":"R","recorded":' % (
        _claim("PrivacyDisclosure.Source" if profiled else ""),
        coding(DCM, "110106", "Export"),
        coding(_LIFECYCLE, "disclose", "Disclose Record Lifecycle Event"),
        encode(operation),
    )


@lru_cache(maxsize=256)
def dicom_head(
    type: tuple[str, str], subtype: tuple[str, str, str] | None, action: str, more: str = ""
) -> bytes:
    """An event of DICOM's list: (code, display), what kind of it, and a word of our own."""
    kinds = [coding(*subtype)] if subtype is not None else []
    if more:
        kinds.append(b'{"display":%s}' % encode(more))
    told = b',"subtype":[%s]' % b",".join(kinds) if kinds else b""
    return b'},"type":%s%s,"action":"%s","recorded":' % (
        coding(DCM, *type), told, action.encode(),
    )  # fmt: skip


def coding(system: str, code: str, display: str = "") -> bytes:
    """A Coding."""
    shown = b',"display":%s' % encode(display) if display else b""
    return b'{"system":%s,"code":%s%s}' % (encode(system), encode(code), shown)


# -- agents --------------------------------------------------------------------------------------

_SERVER = coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4")
_OBSERVER = b',"source":{"observer":{"display":"%s"},"type":[%s]}' % (
    GATEWAY_NAME.encode(),
    _SERVER,
)


@lru_cache(maxsize=8_192)
def _agents(
    direction: str, caller: tuple[str, str | None], more: tuple[str, str, str, str, str, str]
) -> bytes:
    """Purpose, agents and source: the same for every call of a workstation, so kept."""
    name, institution = _legible(caller[0]), caller[1]
    purpose, address, user, client, token, basis = map(_legible, more)
    client_role, server_role, person_role = _AGENTS[direction]
    credential = b',"policy":[%s]' % encode(_UNSPOKEN.sub("_", token)) if token else b""
    used = b',"purposeOfUse":[%s]' % _concept(PURPOSES, purpose) if purpose else b""
    parts = [_purposes(purpose, basis)]
    parts.append(b',"agent":[{"type":%s' % _concept(*client_role))
    parts.append(b',"who":%s' % _who(name, institution, client))
    if client:
        parts.append(b',"altId":%s' % encode(client))
    parts.append(b',"requestor":%s' % (b"false" if user else b"true"))
    parts.append(b"" if user else credential)
    if address:
        parts.append(b',"network":{"address":%s,"type":"2"}' % encode(address))
    parts += (b"" if user else used, b"}")
    if user:
        kind = b"reference" if "/" in user else b"display"
        parts.append(
            b',{"type":%s,"who":{"%s":%s},"requestor":true%s%s}'
            % (_concept(ROLES, person_role), kind, encode(user), credential, used)
        )
    parts.append(
        b',{"type":%s,"who":{"display":"%s"},"requestor":false,'
        b'"network":{"address":"%s","type":"1"}}]'
        % (_concept(*server_role), GATEWAY_NAME.encode(), GATEWAY_NAME.encode())
    )
    parts.append(_OBSERVER)
    return b"".join(parts)


def _legible(text: str) -> str:
    """A text of a credential without the control characters that no string of FHIR may hold."""
    return _CONTROL.sub(" ", text)


def _purposes(purpose: str, basis: str) -> bytes:
    reasons = [_concept(PURPOSES, purpose)] if purpose else []
    reasons += [_concept(LEGAL_BASIS, basis)] if basis else []
    return b',"purposeOfEvent":[%s]' % b",".join(reasons) if reasons else b""


def _who(name: str, institution: str | None, client: str) -> bytes:
    members = []
    if institution:
        members.append(b'"reference":%s' % encode(f"Organization/{institution}"))
    if client:
        members.append(b'"identifier":{"value":%s}' % encode(client))
    members.append(b'"display":%s' % encode(name))
    return b"{%s}" % b",".join(members)


def _concept(system: str, code: str, display: str = "") -> bytes:
    return b'{"coding":[%s]}' % coding(system, code, display)


# -- entities ------------------------------------------------------------------------------------


def _entity(what: bytes, type: str, role: str) -> tuple[bytes, bytes]:
    """The two halves around what is named: (before, after)."""
    kind = coding("http://terminology.hl7.org/CodeSystem/audit-entity-type", type)
    part = coding("http://terminology.hl7.org/CodeSystem/object-role", role)
    return b",{" + what, b',"type":%s,"role":%s}' % (kind, part)


_PATIENT, _PATIENT_END = _entity(b'"what":{"reference":', "1", "1")
_RESOURCE, _RESOURCE_END = _entity(b'"what":{"reference":', "2", "4")
_QUERY, _QUERY_END = _entity(b'"query":"', "2", "24")
_NAMED, _NAMED_END = _entity(b'"what":{"identifier":{"value":', "2", "4")
_RECEIVED, _RECEIVED_END = _entity(
    b'"what":{"identifier":{"system":"urn:ietf:rfc:3986","value":', "2", "4"
)


def patient_entity(id: str | None) -> bytes:
    """The patient, as entity of role 1; nothing where none is known."""
    return b"%s%s}%s" % (_PATIENT, encode(f"Patient/{id}"), _PATIENT_END) if id else b""


def resource_entity(reference: str) -> bytes:
    """A resource, as entity of role 4."""
    return b"%s%s}%s" % (_RESOURCE, encode(reference), _RESOURCE_END)


def query_entity(query: str) -> bytes:
    """What was asked, in base64, as entity of role 24."""
    return b'%s%s"%s' % (_QUERY, b64encode(query.encode("utf-8", "replace")), _QUERY_END)


def named_entity(value: str, details: Sequence[tuple[str, str]] = ()) -> bytes:
    """Something that has a name and no address of its own (a file, a token), with its details."""
    named = b"%s%s}}%s" % (_NAMED, encode(value), _NAMED_END[:-1])
    shown = b",".join(
        b'{"type":%s,"valueString":%s}' % (encode(type), encode(text)) for type, text in details
    )
    return named + (b',"detail":[%s]}' % shown if shown else b"}")


def received_entity(media: str, digest: bytes, message: str) -> bytes:
    """Bytes that a door took in, by their SHA-256."""
    identifier = encode(f"urn:sha256:{digest.hex()}")
    named = b',"name":%s' % encode(message) if message else b""
    detail = b',"detail":[{"type":"media","valueString":%s}]' % encode(media)
    return b"%s%s}}%s%s%s}" % (_RECEIVED, identifier, _RECEIVED_END[:-1], named, detail)


_REQUEST_END = b'}},"type":%s}' % coding(f"{_BALP}/CodeSystem/BasicAuditEntityType", "XrequestId")


def _request(request_id: str) -> bytes:
    return b',{"what":{"identifier":{"value":%s%s' % (encode(request_id), _REQUEST_END)
