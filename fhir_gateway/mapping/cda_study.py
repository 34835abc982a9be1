"""A study that a document names, as the header of DICOM (DICOM PS3.20 A.8, Study Act 113014).

    act 113014 (id: Study Instance UID)
      act 113015 (id: Series Instance UID; qualifier 121139: modality)
        observation DGIMG (id: SOP Instance UID; code: SOP class)

WS/T 500 has no place of its own for it; platforms add the act to the section of the examination.
A study that is not named so is never made up.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.cda_header import Header
from fhir_gateway.mapping.cda_parse import V3, Node, at, attribute, every
from fhir_gateway.mapping.cda_segments import Writer
from fhir_gateway.security.institution import Institution

_STUDY, _SERIES, _MODALITY = "113014", "113015", "121139"
_UIDS = "urn:dicom:uid"


def studies(
    writer: Writer,
    header: Header,
    institution: Institution,
    *,
    folder: str,
    subject: dict[str, str],
    name: str,
) -> list[dict[str, Any]]:
    """An ImagingStudy for each Study Act; one that cannot be read is left out with a warning."""
    found: dict[str, dict[str, Any]] = {}
    for act in header.root.iter(f"{V3}act"):
        if attribute(at(act, "code"), "code") != _STUDY:
            continue
        try:
            study = _study(header, act, institution, folder, subject, name)
        except GatewayError:
            study = None
        if study is None:
            writer.warn(act, "the study or a series has no UID; it was left out", "cda-study")
        else:
            found[study["id"]] = study
    return list(found.values())


def _study(
    header: Header,
    act: Node,
    institution: Institution,
    folder: str,
    subject: dict[str, str],
    name: str,
) -> dict[str, Any] | None:
    from fhir_gateway.mapping.dicom import join_studies, study_of_header  # noqa: PLC0415 - half a second

    joined: dict[str, Any] | None = None
    for attributes in _headers(header, act, name):
        study = study_of_header(attributes, institution, folder, subject)
        joined = study if joined is None else join_studies(joined, study)
    return joined


def _headers(header: Header, act: Node, name: str) -> Iterator[dict[str, Any]]:
    """One header for each image, or for each series that names none."""
    started = attribute(at(act, "effectiveTime"), "value")
    study = {
        "StudyInstanceUID": attribute(at(act, "id"), "root"),
        "AccessionNumber": header.number("order"),
        "StudyDate": started[:8],
        "StudyTime": started[8:14],
        "RequestedProcedureDescription": name,
    }
    for one in every(act, "entryRelationship"):
        series = at(one, "act")
        if attribute(at(series, "code"), "code") != _SERIES:
            continue
        own = study | {
            "SeriesInstanceUID": attribute(at(series, "id"), "root"),
            "SeriesDescription": attribute(at(series, "text"), "value"),
            "Modality": _modality(series),
            "BodyPartExamined": _part(act, series),
        }
        images = [at(inner, "observation") for inner in every(series, "entryRelationship")]
        named = [image for image in images if attribute(at(image, "id"), "root")]
        for image in named:
            yield own | {
                "SOPInstanceUID": attribute(at(image, "id"), "root"),
                "SOPClassUID": attribute(at(image, "code"), "code"),
            }
        if not named:
            yield own


def _modality(series: Node) -> str:
    for qualifier in every(series, "code", "qualifier"):
        if attribute(at(qualifier, "name"), "code") in (_MODALITY, ""):
            return attribute(at(qualifier, "value"), "code")
    return ""


def _part(act: Node, series: Node) -> str:
    """Body Part Examined, by DICOM's own word."""
    for node in (series, act):
        site = at(node, "targetSiteCode")
        if site is not None:
            return attribute(site, "displayName") or attribute(site, "code")
    return ""
