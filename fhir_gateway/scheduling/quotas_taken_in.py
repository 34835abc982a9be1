"""Quotas of Slots that hospitals submit: their release period, and their seats by channel.

The same tables (profiles/scheduling/quotas) by the same arithmetic as for slots that are planned
from templates; what a template file says of a hospital (municipal, core of a consortium) counts
here too. docs/scheduling-fhir.md, docs/adr/0050
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Unavailable
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.scheduling.calendar import instant_at
from fhir_gateway.scheduling.generate import period_start
from fhir_gateway.scheduling.membership import memberships_at
from fhir_gateway.scheduling.quota import CLASSES, Moment, QuotaTable, apportion, table_for
from fhir_gateway.scheduling.quota_file import load_quotas
from fhir_gateway.scheduling.quota_plan import Row, rows_at
from fhir_gateway.scheduling.template import Kind, Site
from fhir_gateway.security.institution import level_of
from fhir_gateway.store.claim_rows import QuotaRow, Settle
from fhir_gateway.store.slot_sql import capacities, quota_rows
from fhir_gateway.store.store import Reader


class Counted(NamedTuple):
    """What a bucket is divided by, and by how many seats of each class it grows."""

    site: Site
    kind: str
    modality: str
    more: dict[str, int]


async def site_of(gateway: Gateway, reader: Reader, institution: str) -> Site:
    """What tables of quotas ask of an institution: its grade by the registry, and by its file of
    templates, where it has one, whether it is municipal and core of a consortium."""
    known = (await institutions_at(gateway, reader)).get(institution)
    said = _said(str(_folder(gateway) / "templates")).get(institution, {})
    level = level_of(known.level) if known is not None else None
    core = bool(said.get("consortium_core")) or any(
        one.core == institution and one.active
        for one in (await memberships_at(gateway, reader)).all
    )
    return Site(
        id=institution,
        name=known.name if known is not None else "",
        level=level.code if level is not None else "",
        rank=level.rank if level is not None else 0,
        municipal=said.get("municipal") is True,
        core=core,
        district=known.area if known is not None else "",
    )


def first_day(gateway: Gateway, site: Site, kind: str, modality: str, day: date) -> date:
    """The first day of the release period in which seats of a day are counted."""
    table = _table(gateway, site, kind, modality, day)
    return period_start(day, table.period if table is not None else "week")


async def settle(
    gateway: Gateway, reader: Reader, home: int, bucket: str, counted: Counted
) -> list[Settle]:
    """The claims that divide all seats of a bucket among the channels as they stand now."""
    capacity = await reader.steps(lambda _: capacities(home, bucket))
    stored = await reader.steps(lambda _: quota_rows(home, bucket))
    seats = {kind: capacity.get(kind, 0) + counted.more.get(kind, 0) for kind in CLASSES}
    first = date.fromisoformat(bucket.rpartition("|")[2])
    table = _table(gateway, counted.site, counted.kind, counted.modality, first)
    zone = ZoneInfo(gateway.settings.zone)
    rows = rows_at(_rows(table, seats, first, zone), gateway.clock.now())
    serial = max((row.serial for row in stored), default=0)
    return [
        Settle(home, bucket, kind, [
            QuotaRow(row.channel, row.cap, row.opens, row.closes, row.falls_to)
            for row in rows if row.kind == kind
        ], serial)
        for kind in CLASSES
    ]  # fmt: skip


def _rows(
    table: QuotaTable | None, seats: Mapping[str, int], first: date, zone: ZoneInfo
) -> Sequence[Row]:
    """The part of each channel; without a table all seats are ordinary and open at once."""
    if table is None:
        return [Row(kind, "ordinary", seats[kind], 0, 0, "") for kind in CLASSES]
    caps = apportion(table, seats["expert"], seats["ordinary"]).seats
    return [
        Row(
            kind, share.channel, caps[share.channel][kind], _at(first, share.opens, zone),
            _at(first, share.closes, zone) if share.closes else 0, share.falls_to,
        )
        for kind in CLASSES
        for share in table.shares
    ]  # fmt: skip


def _at(first: date, moment: Moment, zone: ZoneInfo) -> int:
    return instant_at(first - timedelta(days=moment.days_before), moment.minutes, zone)


def _table(gateway: Gateway, site: Site, kind: str, modality: str, day: date) -> QuotaTable | None:
    tables = _tables(str(_folder(gateway) / "quotas"))
    return table_for(tables, site, cast(Kind, kind), modality, day)


def _folder(gateway: Gateway) -> Path:
    return Path(gateway.settings.profiles) / "scheduling"


@lru_cache(maxsize=8)
def _tables(folder: str) -> tuple[QuotaTable, ...]:
    """The tables of a folder, read once. Raises Unavailable where they cannot be used."""
    try:
        return load_quotas(Path(folder))
    except Invalid as error:
        raise Unavailable(
            f"The quotas of this gateway cannot be used: {error.issues[0].diagnostics}; the "
            "operator finds all faults with fhir-gateway pools check",
            rule="quota-files",
        ) from None


@lru_cache(maxsize=8)
def _said(folder: str) -> Mapping[str, Mapping[str, Any]]:
    """What files of templates say of their institutions; what they lack, pools check tells."""
    found: dict[str, Mapping[str, Any]] = {}
    for path in sorted(Path(folder).glob("*.toml")):
        try:
            said = tomllib.loads(path.read_text(encoding="utf-8")).get("institution", {})
        except (OSError, ValueError):
            continue
        if isinstance(said, dict) and isinstance(said.get("id"), str):
            found[said["id"]] = said
    return found
