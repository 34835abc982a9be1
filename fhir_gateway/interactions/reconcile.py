"""What a mapped message changes of what is stored: read, compare, plan. Nothing is written here.

Messages overtake each other and repeat themselves: a report that was issued earlier than the
stored one changes nothing, a correction withdraws what it leaves out, and a field that a message
leaves empty keeps what an earlier one said. Each planned resource names the version it was
planned on, so that a faster message makes the plan fail and be made again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.errors import Conflict, Issue, Unprocessable
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.wire import parse
from fhir_gateway.mapping import merge
from fhir_gateway.mapping.doors import WRONG_PATIENT, intake_tags
from fhir_gateway.mapping.merge_visit import visit
from fhir_gateway.mapping.stated_at import when_stated
from fhir_gateway.mapping.tables import table
from fhir_gateway.mapping.v2 import flaw
from fhir_gateway.mapping.v2_oru import Mapped
from fhir_gateway.mapping.v2_rename import renamed
from fhir_gateway.mapping.v2_report import Report
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.naming import Naming

#: Types whose stored elements outlive a message that does not mention them.
_KEEPING = frozenset({"Patient", "Encounter", "ServiceRequest", "Appointment"})


class Planned(NamedTuple):
    """Resources in order, each with the version it replaces: 0 none, None whatever there is."""

    resources: list[tuple[dict[str, Any], int | None]]
    warnings: list[Issue]


async def reconcile(
    reader: Reader, mapped: Mapped, sender: Institution, *, folder: str, naming: Naming
) -> Planned:
    """The plan for a mapped message. Raises Conflict when a patient number means two people."""
    mapped = await _of_whom(reader, mapped, sender)
    warnings = list(mapped.warnings)
    plan: dict[str, tuple[dict[str, Any], int | None]] = {
        _name(resource): (resource, None) for resource in mapped.resources
    }
    for name, (resource, _) in list(plan.items()):
        if resource["resourceType"] in _KEEPING:
            plan[name] = await _keep(
                reader, resource, _Ground(folder, naming, sender.zone, warnings)
            )
    for report in mapped.reports:
        await _replace(reader, plan, report, mapped, sender.zone, warnings)
    return Planned(list(plan.values()), warnings)


class _Ground(NamedTuple):
    """What keeping needs beside the two resources."""

    folder: str
    naming: Naming
    zone: str
    warnings: list[Issue]


async def _keep(
    reader: Reader, resource: dict[str, Any], ground: _Ground
) -> tuple[dict[str, Any], int]:
    stored, version = await current(reader, _name(resource))
    type = resource["resourceType"]
    if stored is None:
        kept = {"status": "unknown", **resource} if type == "Encounter" else resource
    elif type == "Encounter":
        kept, older = visit(stored, resource, lambda text: _us(text, ground.zone))
        if older:
            ground.warnings.append(_older("status of the visit"))
    elif _is_overtaken(stored, resource, ground.zone):
        kept = merge.fill(stored, resource)
        ground.warnings.append(_older(_WHAT[type]))
    else:
        if type == "Patient":
            merge.check_same_person(stored, resource, documents(ground.folder), ground.naming)
        kept = merge.update(stored, resource)
    if type == "Appointment":
        _check_times(kept)
    return kept, version


_WHAT = {"ServiceRequest": "order", "Appointment": "appointment"}
#: Statuses in which an Appointment may have no times (R4, app-3).
_TIMELESS = frozenset({"proposed", "cancelled", "waitlist"})


def _is_overtaken(stored: dict[str, Any], new: dict[str, Any], zone: str) -> bool:
    """Whether what is stored was said later than the message."""
    said, before = _us(when_stated(new), zone), _us(when_stated(stored), zone)
    return said is not None and before is not None and said < before


def _check_times(appointment: dict[str, Any]) -> None:
    """Raises Unprocessable for an appointment whose times nobody has said."""
    if appointment["status"] not in _TIMELESS and "start" not in appointment:
        raise Unprocessable(
            "SCH[1]-11: start and end of the appointment (or its start in SCH-11.4 and its duration"
            " in SCH-9) were said neither in this message nor before",
            expression="SCH[1]-11",
            rule="v2-appointment-time",
        )


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
        await _settle(reader, plan, report)
        return
    if stored.get("subject") != resource.get("subject"):
        raise Conflict(
            "This report number was used before for another patient; nothing was stored",
            expression="OBR[1]-3",
            rule="report-patient",
        )
    times = _us(report.issued, zone), _us(_issued(stored), zone)
    if merge.is_older(stored, report.status, *times):
        _leave_out(plan, report, mapped)
        warnings.append(_older("report"))
        return
    gone = set(report.removed)
    if not merge.are_told_apart(*times):
        gone |= await _stand(reader, plan, report, warnings)
    await _settle(reader, plan, report)
    results, withdrawn = merge.results(stored, resource)
    resource["result"] = [one for one in results if one["reference"] not in gone]
    if not resource["result"]:
        del resource["result"]
        _void_emptied(plan, report)
    for reference in withdrawn:
        observation, observed = await current(reader, reference)
        if observation is None or reference in gone:
            continue
        if observation.get("status") != "entered-in-error":
            plan[reference] = (merge.voided(observation, intake_tags(resource)), observed)


async def _stand(
    reader: Reader,
    plan: dict[str, tuple[dict[str, Any], int | None]],
    report: Report,
    warnings: list[Issue],
) -> set[str]:
    """Leaves results out of the plan that were corrected or taken back before, where no time says
    that the message is the later one; the references of those that were taken back."""
    gone, settled = set[str](), {*report.removed, *(name for name, _ in report.finalised)}
    for reference in report.results:
        stored, _ = await current(reader, reference)
        if reference in settled or stored is None:
            continue
        if merge.is_before(plan[reference][0]["status"], stored):
            del plan[reference]
            gone |= {reference} if stored["status"] in _VOID else set()
    if any(reference not in plan for reference in report.results):
        warnings.append(_older("result"))
    return gone


async def _settle(
    reader: Reader, plan: dict[str, tuple[dict[str, Any], int | None]], report: Report
) -> None:
    """Results that are final without a value of their own, and those that are taken back: both
    say nothing but that of what is stored. Raises Unprocessable for a value that never came."""
    for name, place in report.finalised:
        stored, version = await current(reader, name)
        if stored is None or stored["status"] in _VOID:
            raise flaw(
                Unprocessable(
                    f"{place}: U makes a stored result final, and none is stored; send the result"
                    " with its value",
                    expression=place,
                    rule="v2-nothing-to-finalise",
                ),
                "204",
            )
        plan[name] = (merge.finalised(stored, plan[name][0]), version)
    for name in report.removed:
        stored, version = await current(reader, name)
        if stored is not None:
            plan[name] = (merge.voided(stored, intake_tags(plan[name][0])), version)


_VOID = frozenset({"cancelled", "entered-in-error"})


def _void_emptied(plan: dict[str, tuple[dict[str, Any], int | None]], report: Report) -> None:
    """A report all of whose results were another person's is another person's report."""
    name = f"DiagnosticReport/{report.id}"
    resource, version = plan[name]
    wrong = any(WRONG_PATIENT in intake_tags(plan[one][0]) for one in report.removed)
    if wrong and not resource.get("conclusion") and not resource.get("presentedForm"):
        plan[name] = (merge.voided(resource, (WRONG_PATIENT,)), version)


async def _of_whom(reader: Reader, mapped: Mapped, sender: Institution) -> Mapped:
    """The message; reports whose number stood for another patient's, until that was posted as
    wrong, under ids of their own."""
    for at in range(len(mapped.reports)):
        report = mapped.reports[at]
        stored, _ = await current(reader, f"DiagnosticReport/{report.id}")
        if stored is None or stored.get("status") != "entered-in-error":
            continue
        said = next(one for one in mapped.resources if one["id"] == report.id)
        subject = said["subject"]["reference"]
        if stored.get("subject", {}).get("reference") != subject:
            mapped = renamed(mapped, report, sender.id, subject)
    return mapped


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


def _older(what: str) -> Issue:
    return Issue(
        "informational",
        f"The {what} is older than the one that is stored; the stored one stands",
        rule="v2-older-report",
        severity="warning",
    )
