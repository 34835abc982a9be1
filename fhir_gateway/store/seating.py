"""The claims of a change set, and the Slots and Schedules that it puts or derives again.

Claims are judged first, then Slots are put, then quotas settled: so one change set can give up the
seats of a Slot and close it, and generate Slots and divide them. docs/adr/0049
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.store.changes import ChangeSet, Reindex
from fhir_gateway.store.claim_rows import ScheduleRow, Settle, SlotRow
from fhir_gateway.store.claim_state import Key, ScheduleState, SlotState
from fhir_gateway.store.claims import Places, judge_claims
from fhir_gateway.store.claims_draft import Draft, slot_state
from fhir_gateway.store.claims_slots import check_busy, settle_quotas, turn_slots
from fhir_gateway.store.lookups import Lookups
from fhir_gateway.store.placing import Placed
from fhir_gateway.store.rows import Rows

#: Types whose resources give rows of bookable time.
SEATING = frozenset({"Slot", "Schedule"})

_T = TypeVar("_T")
_Turned = tuple[Key, SlotState | None]


def seat(
    lookups: Lookups, change_set: ChangeSet, placed: Sequence[Placed], *, now: int
) -> Callable[[Rows], None]:
    """Judges what the claims, Slots and Schedules of a change set make of bookable time. Returns
    what gathers it, once nothing else of the change set is refused.

    Raises ClaimLost or ClaimRefused.
    """
    turned = [one for one in placed if one.put.type in SEATING and one.outcome != "unchanged"]
    if not change_set.claims and not turned:
        return _nothing
    draft = Draft(lookups, now)
    judge_claims(draft, _places(lookups, placed), change_set.claims)
    changed = turn_slots(draft, _slots(turned))
    settles = [claim for claim in change_set.claims if isinstance(claim, Settle)]
    settle_quotas(draft, settles, changed)
    check_busy(draft)

    def gather(rows: Rows) -> None:
        draft.gather(rows)
        for one in turned:
            if one.put.type == "Schedule":
                row = None if one.put.op == "delete" else _first(one.put.derived.schedules)
                key = (one.home, key64(f"Schedule/{one.put.id}"))
                _gather_schedule(rows, key, one.put.id, row)

    return gather


def _nothing(rows: Rows) -> None:
    """Gathers what there is not."""


def reseat(lookups: Lookups, rows: Rows, wanted: Iterable[Reindex], *, now: int) -> None:
    """As `seat`, for Slots and Schedules that stay and are derived again. A Slot of which persons
    have seats that the new row would not have keeps its row."""
    for item in wanted:
        if item.type not in SEATING:
            continue
        current = lookups.current(type_key(item.type), item.id)
        if current is None or current.deleted or current.version != item.version:
            continue
        key = (current.home, key64(f"{item.type}/{item.id}"))
        if item.type == "Schedule":
            _gather_schedule(rows, key, item.id, _first(item.derived.schedules))
            continue
        draft = Draft(lookups, now)
        try:
            changed = turn_slots(draft, [_slot(key, item.id, _first(item.derived.slots))])
            settle_quotas(draft, (), changed)
        except GatewayError:
            continue
        draft.gather(rows)
        lookups.take(rows)


def _places(lookups: Lookups, placed: Sequence[Placed]) -> Places:
    here = {(one.put.type, one.put.id): one.home for one in placed if one.put.op != "delete"}

    def home(type: str, id: str) -> int | None:
        found = here.get((type, id))
        return lookups.home(type_key(type), id) if found is None else found

    return Places(home)


def _slots(turned: Iterable[Placed]) -> Iterator[_Turned]:
    for one in turned:
        put = one.put
        if put.type == "Slot":
            row = None if put.op == "delete" else _first(put.derived.slots)
            yield _slot((one.home, key64(f"Slot/{put.id}")), put.id, row)


def _slot(key: Key, id: str, row: SlotRow | None) -> _Turned:
    return key, None if row is None else slot_state(key, id, key64(row.schedule), row)


def _first(rows: Sequence[_T]) -> _T | None:
    return rows[0] if rows else None


def _gather_schedule(rows: Rows, key: Key, id: str, row: ScheduleRow | None) -> None:
    if row is None:
        rows.schedule_row_gone.append(key)
        return
    rows.schedule_row.append(ScheduleState(
        *key, id, row.master, row.department, row.kind, _json(row.items), _json(row.services),
        row.district, row.practitioner, row.location, int(row.active),
    ))  # fmt: skip


def _json(names: Iterable[str]) -> str:
    return msgspec.json.encode(sorted(set(names))).decode()
