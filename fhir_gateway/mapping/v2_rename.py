"""A report number that stands for another patient's report again, after it was posted as wrong.

A laboratory that has sent a result under the wrong patient takes it back (OBX-11 or OBR-25 W) and
sends it under the right one, with the number that it has on its own books. What was taken back
stays where it was, in error, in that patient's record; a resource never moves into another's. So
what comes under the number for somebody else has ids that are made of the number and the patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.mapping.ids import business_id
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.mapping.v2_report import Report

#: What a report number makes the id of.
_NAMED_BY_REPORT = frozenset({"DiagnosticReport", "Observation", "ServiceRequest", "Specimen"})


def renamed(mapped: Mapped, report: Report, institution: str, subject: str) -> Mapped:
    """The message with other ids for all that belongs to one of its reports."""
    new = {
        name: _other(name, institution, subject)
        for name in report.names
        if name.partition("/")[0] in _NAMED_BY_REPORT
    }
    resources = [_with_names(resource, new) for resource in mapped.resources]
    reports = [_report_with(one, new) for one in mapped.reports]
    return mapped._replace(resources=resources, reports=reports)


def _other(name: str, institution: str, subject: str) -> str:
    type, _, id = name.partition("/")
    return f"{type}/{business_id(institution, type, 'of-another', id, subject)}"


def _with_names(resource: dict[str, Any], new: Mapping[str, str]) -> dict[str, Any]:
    own = f"{resource['resourceType']}/{resource['id']}"
    made: dict[str, Any] = _followed(resource, new)
    return made | {"id": new[own].partition("/")[2]} if own in new else made


def _followed(value: Any, new: Mapping[str, str]) -> Any:
    """The same, with every reference to a renamed resource following it."""
    if isinstance(value, list):
        return [_followed(item, new) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _followed(item, new) for key, item in value.items()}
    reference = made.get("reference")
    if isinstance(reference, str) and reference in new:
        made["reference"] = new[reference]
    return made


def _report_with(report: Report, new: Mapping[str, str]) -> Report:
    return report._replace(
        id=new.get(f"DiagnosticReport/{report.id}", f"/{report.id}").partition("/")[2],
        results=[new.get(name, name) for name in report.results],
        names=[new.get(name, name) for name in report.names],
        finalised=tuple((new.get(name, name), place) for name, place in report.finalised),
        removed=tuple(new.get(name, name) for name in report.removed),
    )
