"""Care dates: which search parameters tell when the care that a resource is about took place.

`Patient/$everything` takes a range of care dates, "not record currency dates"
(hl7.org/fhir/R4/patient-operation-everything.html). A type that is not here has no care date, and
its resources are in every range; so has what lasts until nobody knows when. Where the end of
something is another parameter than its beginning, or unknown, a row says so: a condition that began
before the range and has not abated belongs to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from fhir_gateway.search.registry import searchables
from fhir_gateway.store.store import Dates


class CareDate(NamedTuple):
    """The parameters whose values begin and end the care; no `ends`: it goes on."""

    begins: tuple[str, ...]
    ends: tuple[str, ...]


def _at(*codes: str) -> CareDate:
    return CareDate(codes, codes)


CARE_DATES: Mapping[str, CareDate] = {
    "Account": _at("period"),
    "AdverseEvent": _at("date"),
    "Appointment": _at("date"),
    "CarePlan": _at("date"),
    "CareTeam": _at("date"),
    "ChargeItem": _at("occurrence"),
    "ClinicalImpression": _at("date"),
    "Communication": _at("sent", "received"),
    "CommunicationRequest": _at("authored", "occurrence"),
    "Composition": _at("date", "period"),
    "Condition": CareDate(("onset-date",), ("abatement-date",)),
    "DetectedIssue": _at("identified"),
    "DeviceRequest": CareDate(("authored-on",), ()),
    "DiagnosticReport": _at("date"),
    "DocumentReference": _at("date", "period"),
    "Encounter": _at("date"),
    "EpisodeOfCare": _at("date"),
    "Flag": _at("date"),
    "Goal": CareDate(("start-date",), ()),
    "ImagingStudy": _at("started"),
    "Immunization": _at("date"),
    "Media": _at("created"),
    "MedicationAdministration": _at("effective-time"),
    "MedicationDispense": _at("whenprepared", "whenhandedover"),
    "MedicationRequest": CareDate(("authoredon",), ()),
    "MedicationStatement": _at("effective"),
    "NutritionOrder": CareDate(("datetime",), ()),
    "Observation": _at("date"),
    "Procedure": _at("date"),
    "QuestionnaireResponse": _at("authored"),
    "RequestGroup": CareDate(("authored",), ()),
    "RiskAssessment": _at("date"),
    "ServiceRequest": _at("authored", "occurrence"),
    "Specimen": _at("collected"),
    "Task": _at("authored-on", "period"),
    "VisionPrescription": CareDate(("datewritten",), ()),
}


def care_dates(low: int | None, high: int | None) -> Dates | None:
    """The range (µs, inclusive) with the parameters that it is about; None for no range."""
    if low is None and high is None:
        return None
    return Dates(*_parameters(), low, high)


@lru_cache(maxsize=1)
def _parameters() -> tuple[tuple[int, ...], tuple[int, ...]]:
    begins, ends = [], []
    for type, dates in CARE_DATES.items():
        known = searchables(type)
        begins += [known[code].number for code in dates.begins]
        ends += [known[code].number for code in dates.ends]
    return tuple(begins), tuple(ends)
