"""Booking requests by SRM, and the SRR that answers them."""

from __future__ import annotations

from typing import Any

import pytest
from mapping_cases import SECOND, TABLES, message

from fhir_gateway.errors import Conflict, GatewayError, Issue, Unprocessable
from fhir_gateway.mapping import v2_srm
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_ack import by_mode, read_header
from fhir_gateway.mapping.v2_srm import Booking, BookingRequest, map_request

PERSON = "PID|1||700123^^^S2^PI||张示一||19580312|F"
AIS = "AIS|1|A|CT01^头颅CT平扫^L"


def header(event: str, more: str = "") -> str:
    kind = f"SRM^{event}^SRM_S01"
    return f"MSH|^~\\&|HIS|S2|GW|CITY|20261122090000||{kind}|77|P|2.5.1|||{more}|||UNICODE UTF-8"


def arq(**fields: str) -> str:
    cells = [""] * 26
    for name, text in fields.items():
        cells[int(name[1:])] = text
    return "|".join(["ARQ", *cells[1:]])


def asked(event: str, *lines: str) -> BookingRequest:
    raw = message(header(event), *lines)
    parsed = parse(raw, default_charset="GB18030", folder=TABLES)
    return map_request(parsed, SECOND, folder=TABLES)


def refused(event: str, *lines: str) -> tuple[str, str, str]:
    """(place, condition of table 0357, rule) of a request that is refused."""
    with pytest.raises(GatewayError) as caught:
        asked(event, *lines)
    issue = caught.value.issues[0]
    return issue.expression or "", caught.value.condition, issue.rule or ""


def test_a_new_booking_of_a_slot_that_was_found() -> None:
    found = asked("S01", arq(_1="P-1", _5="slot-9^^SLOT", _7="R51^头痛", _24="O-1"), PERSON, AIS)
    assert (found.action, found.placer, found.filler) == ("new", "P-1", "")
    assert (found.slot, found.schedule) == ("Slot/slot-9", "")
    assert found.patient == f"Patient/{found.resources[0]['id']}"
    assert found.services[0]["coding"][0]["code"] == "CT01"
    assert found.reason["text"] == "头痛"
    assert found.order == "O-1"


def test_a_range_of_days_in_a_schedule_with_place_and_doctor() -> None:
    found = asked(
        "S01",
        arq(_1="P-1", _5="sch-1", _11="20261207^20261211"),
        "NTE|1|P|轮椅",
        PERSON,
        "RGS|1|A",
        AIS,
        "AIL|1|A|CT^2^1",
        "AIP|1|A|D7^示例^医师",
    )
    assert (found.schedule, found.since, found.until) == (
        "Schedule/sch-1",
        "2026-12-07",
        "2026-12-11",
    )
    assert (found.places, found.persons, found.note) == (["CT 2 1"], ["D7 示例 医师"], "轮椅")


def test_a_time_of_its_own_with_a_duration() -> None:
    ais = "AIS|1|A|CT01^头颅CT平扫^L|20261207080000|||0.5|H"
    found = asked("S01", arq(_1="P-1"), PERSON, ais)
    assert (found.start, found.end) == ("2026-12-07T08:00:00+08:00", "2026-12-07T08:30:00+08:00")


@pytest.mark.parametrize(
    ("event", "action", "fields"),
    [
        ("S02", "reschedule", {"_2": "app-1", "_5": "slot-2^^SLOT"}),
        ("S03", "modify", {"_1": "P-1"}),
        ("S04", "cancel", {"_2": "app-1", "_6": "PAT^患者取消"}),
        ("S05", "discontinue", {"_1": "P-1", "_2": "app-1"}),
    ],
)
def test_what_else_is_asked_for(event: str, action: str, fields: dict[str, str]) -> None:
    found = asked(event, arq(**fields))
    assert found.action == action
    assert (found.placer, found.filler) == (fields.get("_1", ""), fields.get("_2", ""))
    assert found.patient == ""


@pytest.mark.parametrize(
    ("event", "lines", "expected"),
    [
        ("S01", [PERSON, AIS], ("ARQ[1]", "100", "v2-segment-missing")),
        ("S01", [arq(_5="s^^SLOT"), PERSON], ("ARQ[1]-1", "101", "v2-required")),
        ("S01", [arq(_1="P", _5="s^^SLOT")], ("PID[1]", "100", "v2-segment-missing")),
        ("S01", [arq(_1="P"), PERSON, AIS], ("ARQ[1]-11", "101", "v2-required")),
        ("S01", [arq(_1="P", _11="20261207"), PERSON], ("ARQ[1]-5", "101", "v2-required")),
        ("S01", [arq(_1="P", _5="a b"), PERSON], ("ARQ[1]-5", "102", "v2-field")),
        ("S01", [arq(_1="P", _11="20261211^20261207"), PERSON, AIS],
         ("ARQ[1]-11", "102", "v2-field")),
        ("S01", [arq(_1="P", _11="^20261207"), PERSON, AIS], ("ARQ[1]-11", "101", "v2-required")),
        ("S01", [arq(_1="P", _11="soon"), PERSON, AIS], ("ARQ[1]-11", "102", "v2-field")),
        ("S01", [arq(_1="P"), PERSON, f"{AIS}|20261207"], ("AIS[1]-4", "102", "v2-field")),
        ("S01", [arq(_1="P"), PERSON, f"{AIS}|202612070800|||x"], ("AIS[1]-7", "102", "v2-field")),
        ("S01", [arq(_1="P"), PERSON, f"{AIS}|202612070800|||9|D"],
         ("AIS[1]-7", "102", "v2-field")),
        ("S02", [arq(_2="a")], ("ARQ[1]-11", "101", "v2-required")),
        ("S04", [arq(_6="x")], ("ARQ[1]-2", "101", "v2-required")),
        ("S06", [arq(_2="a")], ("MSH[1]-9", "201", "v2-unsupported")),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(
    event: str, lines: list[str], expected: tuple[str, str, str]
) -> None:
    assert refused(event, *lines) == expected


def segments(raw: bytes) -> list[list[str]]:
    return [line.split("|") for line in raw.decode().split("\r") if line]


def head(more: str = "", event: str = "S01") -> Any:
    return read_header(message(header(event, more)))


STANDS = Booking(
    "P-1", "app-1", "booked", "2026-12-07T00:00:00Z", "2026-12-07T08:30:00+08:00", "禁食4小时|"
)
AT = {"time": "20261122090001", "control_id": "R1", "zone": "Asia/Shanghai"}


def test_a_granted_request_is_answered_with_the_booking_as_it_stands() -> None:
    warning = Issue("invalid", "look at this", "PID[1]-8", "v2-sex", "warning")
    msh, msa, err, sch = segments(v2_srm.answer(head(), STANDS, **AT, warnings=[warning]))
    assert msh[8] == "SRR^S01^SRR_S01"
    assert msa == ["MSA", "AA", "77"]
    assert err[4] == "W"
    assert (sch[1], sch[2], sch[25]) == ("P-1", "app-1", "Booked")
    assert sch[11] == "^^^20261207080000+0800^20261207083000+0800"
    assert sch[6] == "^禁食4小时\\F\\"


def test_a_refusal_names_its_condition_and_how_the_booking_stands() -> None:
    error = Conflict("All seats are taken; ask for another slot", rule="slot-full")
    msh, msa, err, sch = segments(
        v2_srm.refuse(head(event="S02"), error, **AT, booking=STANDS._replace(status="cancelled"))
    )
    assert msh[8] == "SRR^S02^SRR_S01"
    assert msa[1] == "AE"
    assert err[3] == "206^Application record locked^HL70357"
    assert (err[5], err[8]) == ("slot-full", "All seats are taken; ask for another slot")
    assert sch[25] == "Cancelled"
    without = segments(v2_srm.refuse(head(), Unprocessable("x", rule="y"), **AT))
    assert [one[0] for one in without] == ["MSH", "MSA", "ERR"]


def test_the_accept_acknowledgement_of_the_enhanced_mode_tells_no_booking() -> None:
    sent = head("AL|AL")
    accepted, answered = by_mode(sent, v2_srm.answer(sent, STANDS, **AT), stored=True)
    assert [one[0] for one in segments(accepted)] == ["MSH", "MSA"]
    assert segments(accepted)[1][1] == "CA"
    assert [one[0] for one in segments(answered)] == ["MSH", "MSA", "SCH"]
