"""States of appointments and of the waiting list as tables; limits and missed bookings as data."""

from __future__ import annotations

from datetime import date
from itertools import product
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from fhir_gateway.errors import Conflict, Forbidden, Invalid
from fhir_gateway.scheduling.calendar import instant_at
from fhir_gateway.scheduling.limits import (
    barred_until,
    claim_limits,
    confirm_by,
    hold_until,
    load_limits,
    offer_until,
)
from fhir_gateway.scheduling.states import (
    ANSWER,
    APPOINTMENT,
    ASKED,
    ENTRY,
    OVER,
    PARTIES,
    SEATED,
    WHO,
    entry_step,
    step,
    verbs,
)

#: http://hl7.org/fhir/ValueSet/appointmentstatus, R4 4.0.1
STATUSES = {
    "proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow",
    "entered-in-error", "checked-in", "waitlist",
}  # fmt: skip
FILE = Path(__file__).resolve().parents[2] / "profiles" / "scheduling" / "limits.toml"
LIMITS = load_limits(FILE)
ZONE = ZoneInfo("Asia/Shanghai")
VERBS = sorted({verb for _, verb in (*APPOINTMENT, *ENTRY)})


def party(verb):
    return min(WHO[verb])


def test_every_status_of_r4_is_reached_and_no_other():
    assert {after for after in APPOINTMENT.values()} == STATUSES
    assert {before for before, _ in APPOINTMENT} - {""} == STATUSES - {"entered-in-error"}
    assert set(VERBS) == set(WHO)
    assert all(parties <= set(PARTIES) and parties for parties in WHO.values())


def test_an_answer_is_a_step_that_its_giver_may_take():
    for (said, status, by_hospital), verb in ANSWER.items():
        assert said in ("accepted", "declined") and status in SEATED
        giver = "hospital" if by_hospital else "patient"
        assert giver in WHO[verb] and verb in VERBS
        if (status, verb) in APPOINTMENT:
            assert step(status, verb, giver)


def test_a_step_is_in_the_table_or_refused_with_what_can_be_done():
    for status, verb in product(["", *STATUSES], VERBS):
        wanted = APPOINTMENT.get((status, verb))
        if wanted is not None:
            assert step(status, verb, party(verb)) == wanted
            continue
        with pytest.raises(Conflict) as caught:
            step(status, verb, party(verb))
        issue = caught.value.issues[0]
        assert issue.rule == "appointment-state"
        assert "what can be done is" in issue.diagnostics or "it is over" in issue.diagnostics


@pytest.mark.parametrize("path", [
    "hold book arrive check-in fulfil", "hold hold book no-show void", "book rebook cancel",
    "wait offer decline offer expire offer accept check-in fulfil", "propose hold book fulfil",
    "hold expire", "wait cancel", "propose expire",
])  # fmt: skip
def test_usual_ways_of_an_appointment_end_where_nothing_follows(path):
    status = ""
    for verb in path.split():
        status = step(status, verb, party(verb))
    assert status in OVER
    assert {verb for before, verb in APPOINTMENT if before == status} <= {"void"}


def test_what_is_over_never_gets_a_seat_again():
    for (before, verb), after in APPOINTMENT.items():
        assert not (before in OVER and after in SEATED), verb
        assert before != "entered-in-error"


@pytest.mark.parametrize(("status", "verb"), sorted(ASKED))
def test_a_hospital_that_is_master_is_asked_and_only_its_answer_books(status, verb):
    assert step(status, verb, party(verb), master="hospital") == "pending"
    assert step(status, verb, party(verb), master="allotment") == "booked"
    assert step("pending", "confirm", "hospital", master="hospital") == "booked"
    assert step("pending", "refuse", "hospital", master="hospital") == "cancelled"


def test_nobody_takes_a_step_that_is_not_his():
    for verb, who in product(VERBS, PARTIES):
        before = next(status for status, one in (*APPOINTMENT, *ENTRY) if one == verb)
        run = step if (before, verb) in APPOINTMENT else entry_step
        if who in WHO[verb]:
            run(before, verb, who)
            continue
        with pytest.raises(Forbidden) as caught:
            run(before, verb, who)
        assert caught.value.issues[0].rule == "appointment-party"


def test_a_patient_may_cancel_and_not_confirm():
    assert verbs("booked", "patient") == ["rebook", "amend", "cancel", "check-in"]
    assert verbs("pending", "hospital") == [
        "hold", "book", "confirm", "refuse", "rebook", "amend", "cancel", "void",
    ]  # fmt: skip
    assert verbs("fulfilled", "patient") == []


def test_an_entry_of_the_waiting_list():
    taken = 0
    for state, verb in product(
        ["", "waiting", "offered", "accepted", "ended"],
        ["wait", "offer", "accept", "decline", "expire", "cancel", "end"],
    ):
        wanted = ENTRY.get((state, verb))
        if wanted is None:
            with pytest.raises(Conflict):
                entry_step(state, verb, party(verb))
        else:
            taken += 1
            assert entry_step(state, verb, party(verb)) == wanted
    assert taken == len(ENTRY)


def at(text, minutes=480):
    return instant_at(date.fromisoformat(text), minutes, ZONE)


@pytest.mark.parametrize(("missed", "now", "barred"), [
    ([], "2026-12-07", False),
    (["2026-10-01", "2026-11-01"], "2026-12-07", False),
    (["2026-01-05", "2026-11-01", "2026-12-01"], "2026-12-07", True),
    (["2025-12-02", "2026-11-01", "2026-12-01"], "2026-12-07", True),
    (["2025-12-01", "2026-11-01", "2026-12-01"], "2026-12-07", False),
    (["2026-11-10", "2026-11-20", "2026-11-30"], "2027-02-27", True),
    (["2026-11-10", "2026-11-20", "2026-11-30"], "2027-03-01", False),
    (["2026-09-01", "2026-09-02", "2026-09-03"], "2026-12-03", False),
])  # fmt: skip
def test_three_missed_in_twelve_months_bar_for_three(missed, now, barred):
    until = barred_until(LIMITS, [at(day) for day in missed], ZONE)
    assert (at(now) < until) is barred


def test_deadlines_end_before_the_slot_begins():
    now, start = at("2026-12-07", 0), at("2026-12-07", 20)
    assert hold_until(LIMITS, now) == now + 600_000_000
    assert confirm_by(LIMITS, now, start) == start
    assert offer_until(LIMITS, now, start) == start
    assert offer_until(LIMITS, now, at("2026-12-08")) == now + 1_800_000_000


def test_a_claim_is_judged_by_the_numbers_of_the_file():
    found = claim_limits(LIMITS, ZONE)
    assert (found.per_day, found.per_department_day, found.no_shows) == (5, 1, 3)
    assert (found.window_months, found.bar_months, found.documented) == (12, 3, True)
    assert found.zone == "Asia/Shanghai"


@pytest.mark.parametrize(("old", "new", "rule"), [
    ("per_department_day = 1", "per_department_day = 6", "limits-order"),
    ("minutes = 10", "minutes = 0", "file-number"),
    ("minutes = 10", 'minutes = "10"', "file-number"),
    ("[hold]", "[holds]", "limits-missing"),
    ("[warning]", "[warnings]", "limits-missing"),
    ("documented = true", 'documented = "yes"', "file-flag"),
    ("renewals = 2", "renewal = 2", "file-key"),
    ('source = "实名预约；数量为演示值"', "", "limits-source"),
    ("effective_from = 2024-01-01", "", "file-day"),
])  # fmt: skip
def test_faults_of_the_limits_are_told(tmp_path, old, new, rule):
    file = tmp_path / "limits.toml"
    file.write_text(FILE.read_text("utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(Invalid) as caught:
        load_limits(file)
    assert rule in [issue.rule for issue in caught.value.issues]
