"""Visits, orders and bookings by v2: stored once, in the order in which they were said."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from intake_cases import PERSON, SECOND, Opened, opened

from fhir_gateway.mapping.ids import business_id

_ids = count(1)
PV1 = "PV1|1|I|B5" + "|" * 16 + "V77" + "|" * 25 + "20261118080000"


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder: Path = tmp_path_factory.mktemp("messages")
    with opened(folder) as one:
        yield one


def send(hospital: Opened, kind: str, at: str, *lines: str) -> list[str]:
    """The segments of the answer to a message that was written then."""
    head = f"MSH|^~\\&|HIS|S2|GW|CITY|{at}||{kind}|m{next(_ids)}|P|2.5.1||||||UNICODE UTF-8"
    answer = hospital.send("\r".join([head, *lines]).encode())
    return answer.body.decode().split("\r")


def test_a_late_admission_does_not_open_a_visit_again(hospital: Opened) -> None:
    assert send(hospital, "ADT^A03", "20261118120000", PERSON, PV1)[1].startswith("MSA|AA")
    said = send(hospital, "ADT^A01", "20261118080000", PERSON, PV1)
    assert said[1].startswith("MSA|AA")
    assert "v2-older-report" in said[2]
    visit = hospital.read("Encounter", business_id(SECOND.id, "Encounter", "V77"))
    assert visit["status"] == "finished"
    assert visit["period"]["end"] == "2026-11-18T12:00:00+08:00"


def test_an_update_of_a_visit_that_nobody_announced_is_of_unknown_status(hospital: Opened) -> None:
    send(hospital, "ADT^A08", "20261118090000", PERSON, PV1.replace("V77", "V78"))
    visit = hospital.read("Encounter", business_id(SECOND.id, "Encounter", "V78"))
    assert visit["status"] == "unknown"


def test_a_cancelled_order_stays_cancelled_when_the_order_comes_late(hospital: Opened) -> None:
    obr = "OBR|1|P1||CT01^胸部CT平扫^L"
    said = send(hospital, "OML^O21", "20261118100000", PERSON, "ORC|CA|P1", obr)
    assert said[0].split("|")[8] == "ORL^O22^ORL_O22"
    assert said[1].startswith("MSA|AA")
    assert said[-2] == "ORC|OK|P1|"
    late = send(hospital, "OML^O21", "20261118090000", PERSON, "ORC|NW|P1", obr)
    assert "v2-older-report" in late[2]
    order = hospital.read("ServiceRequest", business_id(SECOND.id, "ServiceRequest", "P1", "CT01"))
    assert order["status"] == "revoked"


def test_a_refused_order_is_answered_in_the_type_of_its_answer(hospital: Opened) -> None:
    said = send(hospital, "ORM^O01", "20261118100000", PERSON, "ORC|NW|P3", "OBR|1|P3")
    assert said[0].split("|")[8] == "ORR^O02^ORR_O02"
    assert said[1].startswith("MSA|AE")
    assert said[2].startswith("ERR||OBR^1^4|101^")


def test_a_booking_is_moved_and_deleted(hospital: Opened) -> None:
    sch = "SCH||A5|||||||30|MIN|^^^{at}"
    moved = sch.format(at="20261121090000")
    send(hospital, "SIU^S13", "20261118110000", moved, PERSON)
    late = send(hospital, "SIU^S12", "20261118100000", sch.format(at="20261120090000"), PERSON)
    assert "v2-older-report" in late[2]
    id = business_id(SECOND.id, "Appointment", "A5")
    assert hospital.read("Appointment", id)["start"] == "2026-11-21T09:00:00+08:00"
    send(hospital, "SIU^S17", "20261118120000", "SCH||A5", PERSON)
    gone = hospital.read("Appointment", id)
    assert (gone["status"], gone["start"]) == ("entered-in-error", "2026-11-21T09:00:00+08:00")


def test_a_booking_without_times_is_refused_with_its_field(hospital: Opened) -> None:
    said = send(hospital, "SIU^S12", "20261118110000", "SCH||A6", PERSON)
    assert said[1].startswith("MSA|AE")
    assert said[2].startswith("ERR||SCH^1^11|")


def test_a_cancelled_booking_needs_no_times(hospital: Opened) -> None:
    assert send(hospital, "SIU^S15", "20261118110000", "SCH||A7", PERSON)[1].startswith("MSA|AA")
