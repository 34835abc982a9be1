"""A CDA document -> FHIR: the report as v2 messages and tables make it, and the document itself.

Lab and exam reports of WS/T 500 and Results sections of C-CDA become Patient, Encounter,
ServiceRequest, Specimen, Observation and DiagnosticReport by the mappers of HL7 v2, so that ids and
content are the same by every door; any other document is kept whole and flagged not-structured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fhir_gateway.errors import Forbidden, GatewayError
from fhir_gateway.mapping.cda_document import Told
from fhir_gateway.mapping.cda_header import Header, Id, read_header
from fhir_gateway.mapping.cda_items import add_items
from fhir_gateway.mapping.cda_parse import Document
from fhir_gateway.mapping.cda_person import add_person
from fhir_gateway.mapping.cda_results import add_results
from fhir_gateway.mapping.cda_segments import Writer
from fhir_gateway.mapping.cda_segments import header as message_header
from fhir_gateway.mapping.cda_study import studies
from fhir_gateway.mapping.cda_tables import DOCUMENT, EXAM, RESULTS, Tables, tables_of
from fhir_gateway.mapping.tables import normal
from fhir_gateway.mapping.v2 import Message
from fhir_gateway.mapping.v2_draft import Draft
from fhir_gateway.mapping.v2_oru import Mapped, map_oru
from fhir_gateway.mapping.v2_person import encounter, patient
from fhir_gateway.security.institution import Institution


class Read(NamedTuple):
    """A document and its header, before anybody knows whose it is."""

    document: Document
    header: Header
    tables: Tables


class Taken(NamedTuple):
    """What a document becomes: the report's resources, studies that add to what is stored of them,
    and what the document's own resources refer to."""

    read: Read
    mapped: Mapped
    studies: list[dict[str, Any]]
    told: Told
    structured: bool


def read_cda(document: Document, *, mappings: str) -> Read:
    """The header of a document. Raises Unprocessable where it does not say what it is."""
    tables = tables_of(f"{mappings}/cda")
    return Read(document, read_header(document.root, tables), tables)


def map_cda(
    read: Read, institution: Institution, *, mappings: str, others: frozenset[str] = frozenset()
) -> Taken:
    """The resources of a document of this institution. `others` are the names and OIDs by which
    other institutions assign numbers.

    Raises Forbidden where another one keeps it, Unprocessable with line and element.
    """
    check_custodian(read.header, institution)
    writer = Writer()
    message_header(writer)
    add_person(writer, read.header, institution, others)
    structured = _add_report(writer, read)
    folder = f"{mappings}/v2"
    try:
        message = writer.message()
        mapped = (
            map_oru(message, institution, folder=folder, others=others)
            if structured
            else _person_alone(message, institution, folder)
        )
    except GatewayError as error:
        raise writer.told(error) from None
    told = _told(mapped)
    found = _studies(writer, read, institution, mappings, mapped, told)
    if not structured:
        writer.warn(read.document.root, "no table of mappings/cda says how its entries are read; "
                    "the document is kept whole and nothing of it is structured",
                    "cda-not-structured")  # fmt: skip
    _check_signed(writer, read.header, structured=structured)
    warnings = [*writer.warnings, *(writer.told_issue(one) for one in mapped.warnings)]
    return Taken(read, mapped._replace(warnings=warnings), found, told, structured)


def _add_report(writer: Writer, read: Read) -> bool:
    """Adds the report; False for a document whose entries are not read."""
    kind = read.header.template.kind
    if kind in (DOCUMENT, RESULTS):
        return add_results(writer, read.header, read.tables)
    add_items(writer, read.header, read.tables)
    return True


def _check_signed(writer: Writer, header: Header, *, structured: bool) -> None:
    if structured and not header.is_signed:
        writer.warn(header.root, "nobody has signed the document (legalAuthenticator, "
                    "authenticator); what has no status of its own is preliminary",
                    "cda-unsigned")  # fmt: skip


def _person_alone(message: Message, institution: Institution, folder: str) -> Mapped:
    """Patient and Encounter of a document whose entries are not read."""
    draft = Draft(institution, folder)
    pid, pv1 = message.first("PID"), message.first("PV1")
    assert pid is not None
    subject = patient(draft, pid)
    if pv1 is not None:
        encounter(draft, pv1, subject)
    return Mapped(draft.resources, [], draft.warnings)


def _told(mapped: Mapped) -> Told:
    named: dict[str, list[dict[str, str]]] = {}
    for resource in mapped.resources:
        type = resource["resourceType"]
        named.setdefault(type, []).append({"reference": f"{type}/{resource['id']}"})
    visits = named.get("Encounter", [None])
    return Told(named["Patient"][0], visits[0], named.get("DiagnosticReport", []))


def _studies(
    writer: Writer,
    read: Read,
    institution: Institution,
    mappings: str,
    mapped: Mapped,
    told: Told,
) -> list[dict[str, Any]]:
    """The studies that the document names; its reports refer to them."""
    if read.header.template.kind != EXAM:
        return []
    reports = [one for one in mapped.resources if one["resourceType"] == "DiagnosticReport"]
    name = str(reports[0].get("code", {}).get("text", "")) if reports else ""
    found = studies(writer, read.header, institution, folder=f"{mappings}/dicom",
                    subject=told.subject, name=name)  # fmt: skip
    references = [{"reference": f"ImagingStudy/{one['id']}"} for one in found]
    for report in reports if references else ():
        report["imagingStudy"] = references
    return found


# -- whose document --------------------------------------------------------------------------------


def custodian_of(header: Header, registered: Mapping[str, Institution]) -> Institution | None:
    """The registered institution that keeps the document, by its code or its name; None when there
    is none or several."""
    found = [one for one in registered.values() if _is_custodian(header, one)]
    return found[0] if len(found) == 1 else None


def check_custodian(header: Header, institution: Institution) -> None:
    """Raises Forbidden when the document says that another institution keeps it."""
    if _says(header) and not _is_custodian(header, institution):
        place = "ClinicalDocument/custodian"
        raise Forbidden(
            "The custodian is not the institution whose credential was used: neither its code nor "
            "its name is registered for it",
            expression=place,
            rule="cda-custodian",
        )


def _says(header: Header) -> set[str]:
    return {normal(text) for text in (header.custodian.extension, header.custodian_name) if text}


def _is_custodian(header: Header, one: Institution) -> bool:
    names = (one.id, one.name, *one.facilities, one.credit_code, one.institution_code)
    return not _says(header).isdisjoint(normal(name) for name in names if name)


def identity(header: Header) -> tuple[Id, int]:
    """What makes a document the same one: its id and version."""
    return header.id, header.version
