"""Rows of Schedules and Slots: what is read of them, and what is no row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fhir_gateway.scheduling.rows import derive, items_of, slot_row, unknown_items
from fhir_gateway.settings import CANONICAL, load_settings
from fhir_gateway.store.changes import Derived
from fhir_gateway.store.claim_rows import ScheduleRow, SlotRow
from fhir_gateway.terminology.catalogue import IMAGING_SYSTEM, load_catalogue

EXAMPLES = Path(load_settings({}).profiles) / "examples"
CATALOGUE = load_catalogue(load_settings({}).terminology)
HOUR = 3_600_000_000
Json = dict[str, Any]


def example(name: str) -> Json:
    text = (EXAMPLES / f"{name}.json").read_text(encoding="utf-8")
    found: Json = json.loads(text.replace("{CANONICAL}", CANONICAL))
    return found


def derived(resource: Json) -> Derived:
    made = Derived()
    derive(resource, made, catalogue=CATALOGUE)
    return made


def without(slot: Json, name: str) -> Json:
    kept = [one for one in slot["extension"] if not one["url"].endswith(name)]
    return {**slot, "extension": kept}


def test_a_schedule_of_the_pool_gives_its_row() -> None:
    assert derived(example("schedule/good-pool")).schedules == [
        ScheduleRow(
            master="gateway",
            department="radiology-ct",
            kind="exam",
            items=["I001"],
            services=["demo-first-ct"],
            district="110105",
            practitioner="",
            location="",
            active=True,
        )
    ]


def test_a_clinic_names_its_doctor_and_no_item() -> None:
    (row,) = derived(example("schedule/good-allotment-clinic")).schedules
    assert (row.master, row.kind, row.items) == ("allotment", "visit", [])
    assert row.practitioner == "PractitionerRole/demo-first-expert"


def test_a_schedule_without_master_is_shown_and_not_sold() -> None:
    made = derived(example("schedule/good-machine"))
    assert (made.schedules, made.slots) == ([], [])


def test_a_schedule_that_does_not_say_its_kind_is_for_examinations_where_it_names_items() -> None:
    schedule = example("schedule/good-pool")
    del schedule["serviceCategory"]
    assert derived(schedule).schedules[0].kind == "exam"
    assert derived({**schedule, "serviceType": []}).schedules[0].kind == "visit"


def test_a_slot_of_a_bucket_gives_its_row() -> None:
    (row,) = derived(example("slot/good-pool")).slots
    assert row == SlotRow(
        schedule="Schedule/schedule-good-pool",
        start=row.start,
        end=row.start + HOUR // 2,
        capacity=4,
        open=True,
        kind="ordinary",
        items=["I001"],
        bucket="demo-first|radiology-ct|2026-12-07",
        busy=False,
    )
    assert row.start == 1_796_601_600_000_000  # 2026-12-07T08:00+08:00
    assert derived(example("slot/good-expert")).slots[0].kind == "expert"


@pytest.mark.parametrize(
    ("status", "is_open", "busy"),
    [
        ("free", True, False),
        ("busy", True, True),
        ("busy-unavailable", False, False),
        ("busy-tentative", False, False),
        ("entered-in-error", False, False),
    ],
)
def test_what_a_status_means_for_sale(status: str, is_open: bool, busy: bool) -> None:
    row = slot_row({**example("slot/good-pool"), "status": status})
    assert row is not None
    assert (row.open, row.busy) == (is_open, busy)


def test_a_slot_that_does_not_say_takes_one_booking() -> None:
    row = slot_row(without(example("slot/good-pool"), "slot-capacity"))
    assert row is not None
    assert row.capacity == 1


@pytest.mark.parametrize(
    "broken",
    [
        {"extension": []},
        {"schedule": {"display": "words"}},
        {"schedule": {"reference": "https://elsewhere.example/fhir/Schedule/1"}},
        {"start": "2026-12-07T09:00:00+08:00"},  # begins after it ends
        {"start": "yesterday"},
        {"end": None},
    ],
)
def test_what_cannot_be_sold_is_no_row(broken: Json) -> None:
    assert slot_row({**example("slot/good-pool"), **broken}) is None


def test_codes_that_the_catalogue_lacks_find_nobody_a_slot_and_are_named() -> None:
    codings = [{"system": IMAGING_SYSTEM, "code": code} for code in ("I002", "I99999", "I001")]
    slot = {**example("slot/good-pool"), "serviceType": [{"text": "x"}, {"coding": codings}]}
    assert items_of(slot, CATALOGUE) == ["I001", "I002"]
    assert list(unknown_items(slot, CATALOGUE)) == [("serviceType[1].coding[1].code", "I99999")]


def test_other_resources_give_nothing() -> None:
    made = derived(example("appointment/good-held"))
    assert (made.schedules, made.slots) == ([], [])
