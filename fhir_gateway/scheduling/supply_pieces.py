"""What is stored together: buckets that slots move between, their Slots and quotas. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.scheduling import extensions as ext
from fhir_gateway.scheduling.generate import Finding, Plan
from fhir_gateway.scheduling.quota import CLASSES, QuotaTable
from fhir_gateway.scheduling.quota_plan import Bucket, Seats, plan_buckets, rows_at
from fhir_gateway.scheduling.rows import capacity_of, class_of
from fhir_gateway.scheduling.supply_change import SupplyChange, Write
from fhir_gateway.scheduling.template import Supply
from fhir_gateway.store.claim_rows import QuotaRow
from fhir_gateway.store.claim_state import QuotaState


class Piece(NamedTuple):
    """One commit: buckets, the Slots to be written, all quotas of each bucket and class."""

    keys: tuple[str, ...]
    writes: tuple[Write, ...]
    quotas: tuple[tuple[str, str, list[QuotaRow]], ...]

    def counts(self) -> Mapping[str, int]:
        """How many slots are created, changed, withdrawn and kept back."""
        return Counter(one.action for one in self.writes)

    def needed(self, stored: Mapping[str, Sequence[QuotaState]]) -> Piece:
        """The piece without quotas of classes of which there are no seats and never were."""
        return self._replace(quotas=tuple(
            (key, kind, rows) for key, kind, rows in self.quotas
            if any(row.cap for row in rows) or any(one.kind == kind for one in stored[key])
        ))  # fmt: skip

    def is_settled(self, stored: Mapping[str, Sequence[QuotaState]]) -> bool:
        """Whether settling would leave the stored quotas of these buckets as they are."""
        return all(
            _as_settled(rows, [one for one in stored[key] if one.kind == kind])
            for key, kind, rows in self.quotas
        )


def _as_settled(rows: Sequence[QuotaRow], stored: Sequence[QuotaState]) -> bool:
    """Compares with what the store would make of the rows: none below what it has used, and what
    is too much taken from the last ones that have something left."""
    used = {one.channel: one.used for one in stored}
    caps = [max(row.cap, used.get(row.channel, 0)) for row in rows]
    over = sum(caps) - sum(row.cap for row in rows)
    for place in range(len(rows) - 1, -1, -1):
        part = min(over, caps[place] - used.get(rows[place].channel, 0))
        caps[place] -= part
        over -= part
    wanted = [
        (row.channel, cap, row.opens, row.closes, row.falls_to)
        for row, cap in zip(rows, caps, strict=True)
    ]
    return wanted == [(one.channel, one.cap, one.opens, one.closes, one.falls_to) for one in stored]


def pieces_of(tables: Sequence[QuotaTable], plan: Plan, change: SupplyChange,
              before: Mapping[str, str], zone: ZoneInfo, now: int
              ) -> tuple[list[Piece], list[Finding]]:  # fmt: skip
    """The pieces of a change, and what is to be said of their quotas.

    `before` is the bucket of each stored slot. Buckets of departments that the file does not know
    are a hospital's own and left alone; so are buckets in which nothing begins any more.
    """
    moved = {str(one.slot["id"]): _bucket(one.slot) for one in change.writes}
    keys = _touched(plan, change, before, moved)
    seats = [
        Seats(_bucket(slot), class_of(slot), capacity_of(slot)) for slot in change.stands.values()
    ]
    empty = [Seats(key, kind, 0) for key in keys for kind in CLASSES]
    buckets = {
        one.key: one
        for one in plan_buckets(
            tables, plan.supply, [*(one for one in seats if one.bucket in keys), *empty], zone
        )
    }
    findings = [one for bucket in buckets.values() for one in bucket.findings]
    groups = _joined(keys, [
        (before[id], key) for id, key in moved.items() if id in before and before[id] in keys
    ])  # fmt: skip
    return [_piece(group, change, buckets, now) for group in groups], findings


def _touched(plan: Plan, change: SupplyChange, before: Mapping[str, str],
             moved: Mapping[str, str]) -> set[str]:  # fmt: skip
    """The buckets of this file that are planned for or written to."""
    begins = {one.id: one.bucket for one in plan.slots if one.id in change.stands}
    left = {key for id, key in before.items() if id in moved}
    found = {*begins.values(), *moved.values(), *left}
    return {key for key in found if _is_own(key, plan.supply)}


def _is_own(key: str, supply: Supply) -> bool:
    institution, _, rest = key.partition("|")
    return institution == supply.site.id and rest.partition("|")[0] in supply.departments


def _piece(group: Sequence[str], change: SupplyChange, buckets: Mapping[str, Bucket], now: int
           ) -> Piece:  # fmt: skip
    quotas = []
    for key in group:
        rows = rows_at(buckets[key].rows, now)
        quotas += [
            (key, kind, [
                QuotaRow(row.channel, row.cap, row.opens, row.closes, row.falls_to)
                for row in rows if row.kind == kind
            ])
            for kind in CLASSES
        ]  # fmt: skip
    writes = tuple(one for one in change.writes if _bucket(one.slot) in group)
    return Piece(tuple(group), writes, tuple(quotas))


def _joined(keys: set[str], pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Buckets in groups: two between which a slot moves stand in one."""
    leader = {key: key for key in keys}

    def lead(key: str) -> str:
        while leader[key] != key:
            key = leader[key]
        return key

    for one, other in pairs:
        leader[lead(one)] = lead(other)
    groups: dict[str, list[str]] = {}
    for key in sorted(keys):
        groups.setdefault(lead(key), []).append(key)
    return sorted(groups.values())


def _bucket(slot: Mapping[str, Any]) -> str:
    return str(ext.value_of(slot, ext.BUCKET) or "")
