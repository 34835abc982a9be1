"""All files of supply of a site, read together: each alone, and what only shows side by side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.scheduling.calendar import Calendar, load_calendar, unknown_years
from fhir_gateway.scheduling.channel import ChannelRules, load_channel_rules
from fhir_gateway.scheduling.files import Fault
from fhir_gateway.scheduling.generate import Finding
from fhir_gateway.scheduling.limits import BookingLimits, load_limits
from fhir_gateway.scheduling.quota import QuotaTable
from fhir_gateway.scheduling.quota_file import load_quotas, read_quotas
from fhir_gateway.scheduling.quota_plan import mixed_departments
from fhir_gateway.scheduling.template import Supply
from fhir_gateway.scheduling.template_file import Items, load_supply, read_supply
from fhir_gateway.terminology.catalogue import Catalogue

FOLDER = "scheduling"


class SiteFiles(NamedTuple):
    """What planning reads."""

    calendar: Calendar
    tables: tuple[QuotaTable, ...]
    limits: BookingLimits
    channels: ChannelRules


class Checked(NamedTuple):
    """What a check of all files has found. A finding stops nothing, a fault does."""

    read: tuple[str, ...]
    faults: tuple[Fault, ...]
    findings: tuple[Finding, ...]


def items_of(catalogue: Catalogue) -> Items:
    """How a file of supply looks an item up."""

    def item(code: str) -> tuple[str, str, str] | None:
        found = catalogue.items.get(code)
        return (found.system, found.name_zh, found.modality) if found else None

    return item


def load_site(profiles: Path) -> SiteFiles:
    """The files that hold for every institution. Raises Invalid and Unprocessable with faults."""
    folder = profiles / FOLDER
    return SiteFiles(
        load_calendar(folder / "holidays.csv"), load_quotas(folder / "quotas"),
        load_limits(folder / "limits.toml"), load_channel_rules(folder / "channels.toml"),
    )  # fmt: skip


def load_named(profiles: Path, name: str, catalogue: Catalogue, site: SiteFiles) -> Supply:
    """The supply of a file, by its path or by its name in the templates folder.

    Raises Invalid with every fault, also where a department falls under two tables of quotas.
    """
    supply = load_supply(path_of(profiles, name), items_of(catalogue), site.calendar)
    mixed = list(_mixed(site.tables, supply))
    if mixed:
        raise Invalid(f"{supply.file}: {mixed[0].said}", rule=mixed[0].rule)
    return supply


def path_of(profiles: Path, name: str) -> Path:
    """The file that a name means. Raises Invalid with the names there are."""
    folder = profiles / FOLDER / "templates"
    for path in (Path(name), folder / name, folder / f"{name}.toml"):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in sorted(folder.glob("*.toml"))) or "none"
    raise Invalid(f"There is no file {name}, and no template of this name; there are {known}",
                  rule="template-unknown")  # fmt: skip


def check_site(profiles: Path, catalogue: Catalogue, today: date) -> Checked:
    """Reads every file of supply; tells all faults of all of them."""
    folder = profiles / FOLDER
    read: list[str] = []
    faults: list[Fault] = []
    findings: list[Finding] = []
    tables, found = read_quotas(folder / "quotas")
    faults += found
    read += [f"quotas/{table.file}: {table.name}, by {table.period}" for table in tables]
    for name, load in (("limits.toml", load_limits), ("channels.toml", load_channel_rules)):
        try:
            read.append(f"{name}: version {load(folder / name).version}")
        except GatewayError as error:
            faults += _faults(name, error)
    try:
        calendar = load_calendar(folder / "holidays.csv")
    except GatewayError as error:
        return Checked(tuple(read), (*faults, *_faults("holidays.csv", error)), ())
    read.insert(0, f"holidays.csv: edition {calendar.version}, years "
                f"{', '.join(map(str, sorted(calendar.years)))}")  # fmt: skip
    findings += [
        Finding("calendar-unknown", f"holidays.csv has no notice for {year}")
        for year in unknown_years(calendar, today, today.replace(year=today.year + 1, day=1))
    ]
    for path in sorted((folder / "templates").glob("*.toml")):
        page, supply = read_supply(path, items_of(catalogue), calendar)
        mixed = [] if page.faults else list(_mixed(tables, supply))
        faults += [*page.faults, *(Fault(path.name, 0, one.rule, one.said) for one in mixed)]
        if not page.faults:
            read.append(f"templates/{path.name}: {len(supply.templates)} templates of "
                        f"{supply.site.id}")  # fmt: skip
    return Checked(tuple(read), tuple(faults), tuple(findings))


def _mixed(tables: tuple[QuotaTable, ...], supply: Supply) -> Iterator[Finding]:
    """Departments under two tables, on any day on which a table or a template begins to hold."""
    days = {one.valid_from for one in supply.templates} | {one.effective_from for one in tables}
    told: set[str] = set()
    for day in sorted(days):
        live = [one for one in supply.templates if not (one.valid_to and one.valid_to < day)]
        for finding in mixed_departments(tables, supply.site, live, day):
            if finding.said not in told:
                told.add(finding.said)
                yield finding


def _faults(name: str, error: GatewayError) -> list[Fault]:
    return [
        Fault("", 0, issue.rule or "", issue.diagnostics.removeprefix(f"{name}: "))
        if issue.diagnostics.startswith(name)
        else Fault(name, 0, issue.rule or "", issue.diagnostics)
        for issue in error.issues
    ]
