"""A document as DocumentReference, Binary and Provenance (hl7.org/fhir/R4/documentreference.html).

One DocumentReference stands for all versions of a document and shows the one that counts; each
version that was replaced stays as a DocumentReference of its own, superseded. The Binary is the
document as it came, byte for byte.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha1, sha256
from typing import Any, NamedTuple

from fhir_gateway.mapping.cda_header import APPENDS, REPLACES, TRANSFORMS, Header, Id, oid_uri
from fhir_gateway.mapping.doors import INTAKE_SYSTEM
from fhir_gateway.mapping.ids import business_id
from fhir_gateway.mapping.v2_draft import clean
from fhir_gateway.mapping.v2_time import read_time
from fhir_gateway.security.institution import Institution

MEDIA = "text/xml"
NOT_STRUCTURED = "not-structured"
SUPERSEDED = "superseded"

_CODES = {
    "2.16.840.1.113883.6.1": "http://loinc.org",
    "2.16.840.1.113883.6.96": "http://snomed.info/sct",
}
_CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
_PARTICIPANT = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
_RELATION = {REPLACES: "replaces", APPENDS: "appends", TRANSFORMS: "transforms"}
#: The identifier of all versions, and the version, as identifiers beside the document's own.
_SET_TYPE, _VERSION_TYPE = "setId", "versionNumber"

Resource = dict[str, Any]


class Told(NamedTuple):
    """What the resources of a document refer to."""

    subject: dict[str, str]
    encounter: dict[str, str] | None
    reports: Sequence[dict[str, str]]


def series_id(institution: Institution, header: Header) -> str:
    """The id of the DocumentReference of all versions of a document."""
    replaced = header.relation(REPLACES)
    if header.set is not None:
        return _series(institution, "set", header.set)
    if replaced is not None and replaced.set is not None:
        return _series(institution, "set", replaced.set)
    return _series(institution, "document", replaced.id if replaced else header.id)


def own_series_id(institution: Institution, id: Id) -> str:
    """The id of the DocumentReference of a document that names no set."""
    return _series(institution, "document", id)


def _series(institution: Institution, kind: str, id: Id) -> str:
    return business_id(institution.id, "DocumentReference", kind, id.root, id.extension)


def version_id(institution: Institution, type: str, id: Id, version: int) -> str:
    """The id of what belongs to one version of a document."""
    return business_id(institution.id, type, "version", id.root, id.extension, str(version))


def binary(institution: Institution, header: Header, raw: bytes, head: str) -> Resource:
    """The Binary of the document as it came; it is the person's whom the document is about."""
    return {
        "resourceType": "Binary",
        "id": version_id(institution, "Binary", header.id, header.version),
        "contentType": MEDIA,
        "securityContext": {"reference": f"DocumentReference/{head}"},
        "data": b64encode(raw).decode("ascii"),
    }


def document_reference(
    institution: Institution,
    header: Header,
    raw: bytes,
    told: Told,
    *,
    head: str,
    structured: bool,
) -> Resource:
    """The DocumentReference of this version, under the id of all of them."""
    zone = institution.zone
    made = read_time(header.time, zone) if header.time else None
    return clean({
        "resourceType": "DocumentReference",
        "id": head,
        "meta": _meta(header, structured=structured),
        "masterIdentifier": _identifier(header.id),
        "identifier": _identifiers(header),
        "status": "current",
        "docStatus": _doc_status(header),
        "type": _type(header),
        "subject": told.subject,
        "date": made.text if made and made.exact else "",
        "author": [{"display": header.author.name}] if header.author.name else [],
        "authenticator": {"display": header.legal.name} if header.legal.name else {},
        "custodian": {"reference": f"Organization/{institution.id}", "display": institution.name},
        "relatesTo": [
            {"code": _RELATION[one.kind], "target": {"identifier": _identifier(one.id)}}
            for one in header.related
        ],
        "description": header.title,
        "securityLabel": _label(header),
        "content": [{"attachment": _attachment(institution, header, raw, made and made.text)}
                    | _format(header)],
        "context": clean({
            "encounter": [told.encounter] if told.encounter else [],
            "related": list(told.reports),
        }),
    })  # fmt: skip


def _meta(header: Header, *, structured: bool) -> Resource:
    tag = {"system": INTAKE_SYSTEM, "code": NOT_STRUCTURED}
    return clean({"tag": [] if structured else [tag]})


def _identifier(id: Id) -> dict[str, str]:
    return {"system": id.system, "value": id.value}


def _identifiers(header: Header) -> list[Resource]:
    found: list[Resource] = []
    if header.set is not None:
        found.append({"type": {"text": _SET_TYPE}, **_identifier(header.set)})
    of = header.set or header.id
    found.append({
        "type": {"text": _VERSION_TYPE}, "system": oid_uri(of.root),
        "value": f"{of.extension}#{header.version}" if of.extension else f"#{header.version}",
    })  # fmt: skip
    return found


def version_of(resource: Resource) -> int:
    """The versionNumber that a DocumentReference stands for, 1 where it says none."""
    for one in resource.get("identifier", ()):
        if one.get("type", {}).get("text") == _VERSION_TYPE:
            text = str(one.get("value", "")).rpartition("#")[2]
            return int(text) if text.isascii() and text.isdigit() else 1
    return 1


def replaced_by(resource: Resource) -> set[tuple[str, str]]:
    """The documents (system, value) that a DocumentReference says it replaces."""
    return {
        (named.get("system", ""), named.get("value", ""))
        for one in resource.get("relatesTo", ())
        if one.get("code") == "replaces"
        for named in (one.get("target", {}).get("identifier", {}),)
    }


def _doc_status(header: Header) -> str:
    if not header.is_signed:
        return "preliminary"
    return "amended" if header.corrects else "final"


def _type(header: Header) -> Resource:
    template = header.template
    system = _CODES.get(template.system) or (oid_uri(template.system) if template.system else "")
    coding = clean({"system": system, "code": template.code, "display": template.name})
    text = template.name or header.title
    return clean({"coding": [coding] if template.code else [], "text": text})


def _label(header: Header) -> list[Resource]:
    """A stricter rule than the usual (N, M, L) is shown; what it means here the site decides."""
    if not header.confidentiality:
        return []
    return [{"coding": [{"system": _CONFIDENTIALITY, "code": header.confidentiality}]}]


def _attachment(
    institution: Institution, header: Header, raw: bytes, created: str | None
) -> Resource:
    """The attachment; R4's hash is SHA-1. The SHA-256 of what came is the key it is kept by."""
    id = version_id(institution, "Binary", header.id, header.version)
    digest = sha1(raw, usedforsecurity=False).digest()
    return clean({
        "contentType": MEDIA,
        "language": header.language,
        "url": f"Binary/{id}",
        "size": len(raw),
        "hash": b64encode(digest).decode("ascii"),
        "title": header.title,
        "creation": created or "",
    })  # fmt: skip


def _format(header: Header) -> Resource:
    if not header.template_id:
        return {}
    return {"format": clean({
        "system": "urn:ietf:rfc:3986", "code": oid_uri(header.template_id),
        "display": header.template.name,
    })}  # fmt: skip


def superseded(resource: Resource, institution: Institution) -> Resource:
    """The version that stood until now, as a DocumentReference of its own."""
    id = resource["masterIdentifier"]
    key = business_id(
        institution.id, "DocumentReference", "version", id.get("system", ""), id.get("value", ""),
        str(version_of(resource)),
    )  # fmt: skip
    meta = {name: value for name, value in resource.get("meta", {}).items() if name == "tag"}
    return clean({**resource, "id": key, "meta": meta, "status": SUPERSEDED})


def replaces(resource: Resource, older: Resource) -> Resource:
    """The newer version, with the way to the older one and the names of all before that."""
    target = {
        "reference": f"DocumentReference/{older['id']}",
        "identifier": older["masterIdentifier"],
    }
    related = [{"code": "replaces", "target": target}, *resource.get("relatesTo", [])]
    related += [one for one in older.get("relatesTo", ()) if one["code"] == "replaces"]
    unique: dict[tuple[str, str, str], Resource] = {}
    for one in related:
        named = one["target"].get("identifier", {})
        unique.setdefault((one["code"], named.get("system", ""), named.get("value", "")), one)
    return {**resource, "relatesTo": list(unique.values())}


def provenance(
    institution: Institution, header: Header, told: Told, *, head: str, recorded: str
) -> Resource:
    """Who wrote, signed and keeps what was stored, and the document that it was read of."""
    agents = [
        _agent("author", {"display": header.author.name}) if header.author.name else None,
        _agent("legal", {"display": header.legal.name}) if header.legal.name else None,
        *(_agent("verifier", {"display": one.name}) for one in header.signed if one.name),
        _agent("custodian", {"reference": f"Organization/{institution.id}"}),
    ]
    id = version_id(institution, "Binary", header.id, header.version)
    return {
        "resourceType": "Provenance",
        "id": version_id(institution, "Provenance", header.id, header.version),
        "target": [{"reference": f"DocumentReference/{head}"}, *told.reports],
        "recorded": recorded,
        "agent": [agent for agent in agents if agent is not None],
        "entity": [{"role": "source", "what": {"reference": f"Binary/{id}"}}],
    }


def _agent(type: str, who: dict[str, str]) -> Resource:
    return {"type": {"coding": [{"system": _PARTICIPANT, "code": type}]}, "who": who}


def digest_of(raw: bytes) -> bytes:
    """The key by which received bytes are kept."""
    return sha256(raw).digest()
