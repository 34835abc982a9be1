"""What a mapped message changes of what is stored: read, compare, plan. Nothing is written here.

Messages overtake each other and repeat themselves: a report that was issued earlier than the
stored one changes nothing, a correction withdraws what it leaves out, and a field that a message
leaves empty keeps what an earlier one said. Each planned resource names the version it was
planned on, so that a faster message makes the plan fail and be made again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.errors import Conflict, Issue
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import parse
from fhir_gateway.mapping import merge
from fhir_gateway.mapping.tables import table
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.mapping.v2_report import Report
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.naming import Naming

#: Types whose stored elements outlive a message that does not mention them.
_KEEPING = frozenset({"Patient", "Encounter", "ServiceRequest"})


class Planned(NamedTuple):
    """Resources in order, each with the version it replaces: 0 none, None whatever there is."""

    resources: list[tuple[dict[str, Any], int | None]]
    warnings: list[Issue]


async def reconcile(
    reader: Reader, mapped: Mapped, sender: Institution, *, folder: str, naming: Naming
) -> Planned:
    """The plan for a mapped message. Raises Conflict when a patient number means two people."""
    warnings = list(mapped.warnings)
    plan: dict[str, tuple[dict[str, Any], int | None]] = {
        _name(resource): (resource, None) for resource in mapped.resources
    }
    for name, (resource, _) in list(plan.items()):
        if resource["resourceType"] in _KEEPING:
            plan[name] = await _keep(reader, resource, folder, naming)
    for report in mapped.reports:
        await _replace(reader, plan, report, mapped, sender.zone, warnings)
    return Planned(list(plan.values()), warnings)


async def _keep(
    reader: Reader, resource: dict[str, Any], folder: str, naming: Naming
) -> tuple[dict[str, Any], int]:
    stored, version = await current(reader, _name(resource))
    if stored is None:
        return resource, version
    if resource["resourceType"] == "Patient":
        merge.check_same_person(stored, resource, documents(folder), naming)
    return merge.update(stored, resource), version


def documents(folder: str) -> set[str]:
    """The preferred identifier systems of identity documents, by the table of mappings/v2."""
    rows = table(folder, "identifier-types", "system").values()
    return {row.extra for row in rows if row.code == "document"}


async def _replace(
    reader: Reader,
    plan: dict[str, tuple[dict[str, Any], int | None]],
    report: Report,
    mapped: Mapped,
    zone: str,
    warnings: list[Issue],
) -> None:
    """Fits one report into what is stored of it."""
    name = f"DiagnosticReport/{report.id}"
    stored, version = await current(reader, name)
    resource = plan[name][0]
    plan[name] = (resource, version)
    if stored is None:
        return
    if stored.get("subject") != resource.get("subject"):
        raise Conflict(
            "This report number was used before for another patient; nothing was stored",
            expression="OBR[1]-3",
            rule="report-patient",
        )
    if merge.is_older(stored, report.status, _us(report.issued, zone), _us(_issued(stored), zone)):
        _leave_out(plan, report, mapped)
        warnings.append(_older())
        return
    resource["result"], withdrawn = merge.results(stored, resource)
    if not resource["result"]:
        del resource["result"]
    for reference in withdrawn:
        observation, observed = await current(reader, reference)
        if observation is not None and observation.get("status") != "entered-in-error":
            plan[reference] = ({**observation, "status": "entered-in-error"}, observed)


def _leave_out(
    plan: dict[str, tuple[dict[str, Any], int | None]], report: Report, mapped: Mapped
) -> None:
    """Takes a report out of the plan, but for what another report of the message also names."""
    others = {name for other in mapped.reports if other.id != report.id for name in other.names}
    for name in report.names:
        if name not in others:
            plan.pop(name, None)


async def current(reader: Reader, name: str) -> tuple[dict[str, Any] | None, int]:
    """The stored resource, None when it is deleted or was never stored, and its version."""
    type, _, id = name.partition("/")
    stored = await reader.read(type, id)
    if stored is None:
        return None, 0
    if stored.deleted:
        return None, stored.version
    return parse(stored.whole()), stored.version


def _name(resource: dict[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _issued(report: dict[str, Any]) -> str:
    text: str = report.get("issued", "")
    return text


def _us(text: str, zone: str) -> int | None:
    return date_range(text, zone)[0] if text else None


def _older() -> Issue:
    return Issue(
        "informational",
        "The report is older than the one that is stored; the stored one stands",
        rule="v2-older-report",
        severity="warning",
    )
