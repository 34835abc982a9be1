"""ADT of visits, orders and schedules: what a message says, whatever order messages come in."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from mapping_cases import PERSON, SECOND, TABLES, message, only

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.mapping.merge_visit import visit
from fhir_gateway.mapping.stated_at import when_stated
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_ack import acknowledge, by_mode, read_header
from fhir_gateway.mapping.v2_messages import MESSAGES, map_message
from fhir_gateway.mapping.v2_oru import Mapped

PV1 = "PV1|1|I|B5^501^2||||||||||||||||V77|||||||||||||||||||||||||20261118080000|{out}"


def header(kind: str, at: str = "20261118113100") -> str:
    return f"MSH|^~\\&|HIS|S2|GW|CITY|{at}||{kind}|1|P|2.5.1||||||UNICODE UTF-8"


def mapped(*lines: str) -> Mapped:
    raw = message(*lines)
    found = map_message(parse(raw, default_charset="utf-8", folder=TABLES), SECOND, folder=TABLES)
    assert isinstance(found, Mapped)
    return found


def adt(event: str, at: str, out: str = "") -> dict[str, Any]:
    """The Encounter of an ADT message that was recorded then."""
    lines = header(f"ADT^{event}"), f"EVN||{at}", PERSON, PV1.format(out=out)
    return only(mapped(*lines).resources, "Encounter")


@pytest.mark.parametrize(("event", "status", "end"), [
    ("A01", "in-progress", None),
    ("A04", "in-progress", None),
    ("A03", "finished", "2026-11-18T12:00:00+08:00"),
    ("A11", "cancelled", None),
    ("A13", "in-progress", None),
])  # fmt: skip
def test_an_event_of_a_visit_has_its_status(event: str, status: str, end: str | None) -> None:
    found = adt(event, "20261118120000")
    assert found["status"] == status
    assert found["class"]["code"] == "IMP"
    assert found["period"]["start"] == "2026-11-18T08:00:00+08:00"
    assert found["period"].get("end") == end
    assert found["statusHistory"] == [
        {"status": status, "period": {"start": "2026-11-18T12:00:00+08:00"}}
    ]


def test_the_time_of_discharge_is_said_by_the_visit_first() -> None:
    assert adt("A03", "20261118120000", out="20261118113000")["period"]["end"] == (
        "2026-11-18T11:30:00+08:00"
    )
    lines = header("ADT^A03"), "EVN||20261118120000||||20261118110000", PERSON, PV1.format(out="")
    found = only(mapped(*lines).resources, "Encounter")
    assert found["period"]["end"] == "2026-11-18T11:00:00+08:00"


def test_an_update_says_nothing_of_the_status() -> None:
    found = adt("A08", "20261118120000")
    assert "status" not in found
    assert "statusHistory" not in found


@pytest.mark.parametrize("event", ["A28", "A31"])
def test_an_event_of_a_person_makes_no_visit(event: str) -> None:
    found = mapped(header(f"ADT^{event}"), PERSON, PV1.format(out="")).resources
    assert [one["resourceType"] for one in found] == ["Patient"]


def test_whatever_order_events_come_in_the_visit_ends_the_same() -> None:
    events = [adt("A01", "20261118080000"), adt("A03", "20261118100000"),
              adt("A13", "20261118110000"), adt("A03", "20261118120000")]  # fmt: skip
    ends = set()
    for order in permutations(events):
        stands = order[0]
        for event in order[1:]:
            stands, _ = visit(stands, event, lambda text: date_range(text, "Asia/Shanghai")[0])
        last = stands["statusHistory"][-1]["status"]
        ends.add((stands["status"], stands["period"].get("end"), last))
        starts = [one["period"]["start"] for one in stands["statusHistory"]]
        assert starts == sorted(starts)
        assert all("end" in one["period"] for one in stands["statusHistory"][:-1])
    assert ends == {("finished", "2026-11-18T12:00:00+08:00", "finished")}


def test_a_report_in_passing_leaves_the_status_of_the_visit() -> None:
    stands = adt("A01", "20261118080000")
    passing = {**stands, "status": "finished", "period": {"end": "2026-11-18T09:00:00+08:00"}}
    del passing["statusHistory"]
    found, older = visit(stands, passing, lambda text: date_range(text, "Asia/Shanghai")[0])
    assert (found["status"], older) == ("in-progress", False)
    assert found["period"] == stands["period"]
    assert found["statusHistory"] == stands["statusHistory"]


@pytest.mark.parametrize(("lines", "place", "condition"), [
    ((header("ADT^A01"), PERSON), "PV1[1]", "100"),
    ((header("ADT^A01"), PERSON, "PV1|1|I"), "PV1[1]-19", "101"),
    ((header("ADT^A01", at=""), PERSON, PV1.format(out="")), "MSH[1]-7", "101"),
    ((header("ADT^A01"), "EVN||20261118"), "PID[1]", "100"),
    ((header("ADT^A99"), PERSON), "MSH[1]-9", "201"),
    ((header("MFN^M02"), PERSON), "MSH[1]-9", "200"),
    ((header("OML^O21"), PERSON, "OBR|1|P1||CT1"), "ORC[1]", "100"),
    ((header("OML^O21"), PERSON, "ORC|NW|P1"), "ORC[1]", "100"),
    ((header("OML^O21"), PERSON, "ORC|NW|P1", "ORC|NW|P2", "OBR|1|P2||CT1"), "ORC[1]", "100"),
    ((header("OML^O21"), PERSON, "ORC|QQ|P1", "OBR|1|P1||CT1"), "ORC[1]-1", "103"),
    ((header("OML^O21"), PERSON, "ORC|SC|P1|||QQ", "OBR|1|P1||CT1"), "ORC[1]-5", "103"),
    ((header("OML^O21"), PERSON, "ORC|NW", "OBR|1|||CT1"), "ORC[1]-2", "101"),
    ((header("OML^O21"), PERSON, "ORC|NW|P1", "OBR|1|P1"), "OBR[1]-4", "101"),
    ((header("SIU^S12"), PERSON), "SCH[1]", "100"),
    ((header("SIU^S12"), "SCH|A1"), "PID[1]", "100"),
    ((header("SIU^S12"), "SCH|", PERSON), "SCH[1]-2", "101"),
])  # fmt: skip
def test_what_is_missing_is_named(lines: tuple[str, ...], place: str, condition: str) -> None:
    with pytest.raises(GatewayError) as raised:
        mapped(*lines)
    assert raised.value.issues[0].expression == place
    assert raised.value.condition == condition


@pytest.mark.parametrize(("control", "status", "asked"), [
    ("NW", "", "active"), ("CA", "", "revoked"), ("DC", "", "revoked"), ("XO", "", "active"),
    ("HD", "", "on-hold"), ("RL", "", "active"), ("SC", "CM", "completed"), ("SC", "IP", "active"),
    ("SC", "", "unknown"),
])  # fmt: skip
def test_an_order_follows_its_control(control: str, status: str, asked: str) -> None:
    orc = f"ORC|{control}|P1|F9||{status}||||20261118090000|||7^李^四"
    obr = "OBR|1|P1|F9|CT01^胸部CT平扫^L|||||||||||||||||||||||||||||"
    found = mapped(header("ORM^O01"), PERSON, PV1.format(out=""), orc, obr)
    order = only(found.resources, "ServiceRequest")
    assert order["status"] == asked
    assert order["requester"] == {"display": "李四"}
    assert order["code"]["coding"][0]["code"] == "CT01"
    assert "performer" not in order
    assert when_stated(order) == "2026-11-18T09:00:00+08:00"
    assert found.orders == (("P1", "F9"),)


def test_an_order_and_the_report_about_it_are_one_request() -> None:
    order = mapped(header("OML^O21"), PERSON, "ORC|NW|P1", "OBR|1|P1||CT01^胸部CT平扫^L")
    report = mapped(
        header("ORU^R01"), PERSON,
        "OBR|1|P1|R1|CT01^胸部CT平扫^L|||202611180812|||||||||||||||202611181130||RAD|F",
    )  # fmt: skip
    assert (
        only(order.resources, "ServiceRequest")["id"]
        == only(report.resources, "ServiceRequest")["id"]
    )


@pytest.mark.parametrize(("kind", "reply"), [
    ("ORM^O01", "ORR^O02^ORR_O02"), ("OML^O21^OML_O21", "ORL^O22^ORL_O22"),
])  # fmt: skip
def test_orders_are_answered_one_by_one(kind: str, reply: str) -> None:
    plain = read_header(message(header(kind)))
    answer = acknowledge(plain, time="t", control_id="c1", orders=(("P|1", "F1"), ("P2", "")))
    lines = answer.decode().split("\r")
    assert lines[0].split("|")[8] == reply
    assert lines[2:4] == ["ORC|OK|P\\F\\1|F1", "ORC|OK|P2|"]
    both = plain._replace(accept="AL", application="AL")
    accepted, said = (one.decode().split("\r") for one in by_mode(both, answer, stored=True))
    assert accepted[0].split("|")[8] == f"ACK^{kind.split('^')[1]}^ACK"
    assert accepted[1:] == ["MSA|CA|1", ""]
    assert said == lines


SCH = "SCH|P5|A5|||||复查^复查^L|MRI^磁共振^L|30|MIN|^^^20261120093000^{end}||||||||||||||{status}"
REST = ("AIS|1|A|MR01^头颅MRI平扫^L|20261120093000", "AIL|1|A|MR2^2", "AIP|1|A|7^王^五")


def booking(event: str, *, end: str = "20261120100000", status: str = "") -> dict[str, Any]:
    sch = SCH.format(end=end, status=status)
    found = mapped(header(f"SIU^{event}"), sch, PERSON, "RGS|1", *REST)
    return only(found.resources, "Appointment")


@pytest.mark.parametrize(("event", "said", "status"), [
    ("S12", "", "booked"), ("S12", "Pending", "pending"), ("S13", "Booked", "booked"),
    ("S14", "Complete", "fulfilled"), ("S15", "Booked", "cancelled"),
    ("S17", "", "entered-in-error"),
    ("S26", "", "noshow"), ("S12", "somehow", "booked"),
])  # fmt: skip
def test_a_booking_follows_its_event(event: str, said: str, status: str) -> None:
    assert booking(event, status=said)["status"] == status


def test_a_booking_says_what_when_where_and_who() -> None:
    found = booking("S12")
    assert (found["start"], found["end"]) == (
        "2026-11-20T09:30:00+08:00", "2026-11-20T10:00:00+08:00")  # fmt: skip
    assert found["serviceType"][0]["coding"][0]["code"] == "MR01"
    assert [one["actor"] for one in found["participant"]][1:] == [
        {"display": "王五"}, {"display": "MR2 2"}]  # fmt: skip
    assert found["participant"][0]["actor"]["reference"].startswith("Patient/")
    assert booking("S12", end="")["end"] == found["end"], "SCH-9 says how long"


OBR = "OBR|{n}|P{n}|R{n}|{code}|||202611180812|||||||||||||||202611181130||CH|F"
OBX = "OBX|1|NM|{code}||{value}|U/L|9--50||||F"


def test_reports_by_specimen_are_the_reports_of_an_oru() -> None:
    first, second = OBR.format(n=1, code="A^甲^L"), OBR.format(n=2, code="B^乙^L")
    alt, crea = OBX.format(code="ALT", value=32), OBX.format(code="CREA", value=79)
    spm = "SPM|1|T77||BLD^全血^HL70487"
    by_specimen = mapped(
        header("OUL^R22"), PERSON, spm, "OBX|1|NM|VOL||3|mL|||||F",
        first, "ORC|RE|P1", alt, "NTE|1||溶血", second, "ORC|RE|P2", crea,
    )  # fmt: skip
    by_order = mapped(
        header("ORU^R01"), PERSON, "ORC|RE|P1", first, alt, "NTE|1||溶血", spm,
        "ORC|RE|P2", second, crea, spm,
    )  # fmt: skip
    assert by_specimen.resources == by_order.resources
    assert by_specimen.reports == by_order.reports
    assert [one.expression for one in by_specimen.warnings] == ["OBX[1]"]


@pytest.mark.parametrize(("lines", "place"), [
    (("SPM|1|T1", OBR.format(n=1, code="A")), "OBR[1]"),
    ((PERSON, OBR.format(n=1, code="A")), "OBR[1]"),
    ((PERSON, PERSON), "PID[2]"),
    (("SPM|1|T1",), "PID[1]"),
    ((PERSON, "SPM|1|T1"), "OBR[1]"),
])  # fmt: skip
def test_an_oul_out_of_order_is_refused(lines: tuple[str, ...], place: str) -> None:
    with pytest.raises(GatewayError) as raised:
        mapped(header("OUL^R22"), *lines)
    assert raised.value.issues[0].expression == place


def test_every_message_of_the_table_has_a_mapper_that_takes_it() -> None:
    for kind, events in MESSAGES.items():
        for event in events:
            with pytest.raises(GatewayError) as raised:  # for what is missing, not for its type
                mapped(header(f"{kind}^{event}"))
            assert raised.value.condition not in ("200", "201"), (kind, event)
