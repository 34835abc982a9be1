"""Terms of DICOM (dicom.nema.org, PS3.16) with the designator DCM: modalities, roles, measures.

They are R4's (CodeSystem dicom-dcim) and, where an edition since has more, those of pydicom's own
dictionary. Neither is the current edition, so an unknown code is not a wrong one. Codes of SNOMED
CT, which PS3.16 uses for most of anatomy, need a licence and are not here; body parts are the
table terminology/tables/body-part.csv.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fhir_gateway.fhir.terminology import ConceptRow

DCM = "http://dicom.nema.org/resources/ontology/DCM"

#: What R4 binds ImagingStudy.modality to, context group 29, and what it calls the same elsewhere.
MODALITIES = (
    "http://dicom.nema.org/medical/dicom/current/output/chtml/part16/sect_CID_29.html",
    "http://hl7.org/fhir/ValueSet/dicom-cid29",
)
_CID_29 = (
    "AR BDUS BI BMD CFM CR CT DG DMS DX ECG EEG EMG EOG EPS ES GM HD IO IVOCT IVUS KER LEN LS MG "
    "MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS PA POS PT PX RESP RF RG RTIMAGE SM SRF TG US "
    "VA XA XC"
)
NOTICE = (
    "These codes are excerpted from Digital Imaging and Communications in Medicine (DICOM) "
    "Standard, Part 16: Content Mapping Resource, copyright © by the National Electrical "
    "Manufacturers Association."
)

Rows = Iterable[ConceptRow]


def dcm_rows(load: Callable[[], Rows], names: Mapping[str, str]) -> Callable[[], Rows]:
    """What gives R4's rows of DCM, then those that pydicom knows beside them."""

    def rows() -> Iterator[ConceptRow]:
        seen = set()
        for row in load():
            seen.add(row.code)
            yield row
        for code, meaning in _newer():
            if code not in seen:
                seen.add(code)
                named = {"zh-CN": names[code]} if code in names else {}
                yield ConceptRow(code, meaning, names=named)

    return rows


def _newer() -> Iterator[tuple[str, str]]:
    from pydicom.sr.codedict import codes  # noqa: PLC0415 - 0.3 s, not for those who ask nothing of DICOM

    for concept in codes.DCM.concepts.values():
        yield concept.value, concept.meaning


def modality_value_sets() -> list[dict[str, Any]]:
    """The value set of context group 29, Acquisition Modality, under each of its urls."""
    return [_modalities(url) for url in MODALITIES]


def _modalities(url: str) -> dict[str, Any]:
    concepts = [{"code": code} for code in _CID_29.split()]
    return {
        "resourceType": "ValueSet",
        "id": "dicom-cid-29",
        "url": url,
        "name": "AcquisitionModality",
        "title": "Acquisition Modality (CID 29)",
        "status": "active",
        "experimental": False,
        "copyright": NOTICE,
        "compose": {"include": [{"system": DCM, "concept": concepts}]},
    }
