"""Bookings told to their hospital as SIU: read back by our own reader they are the same."""

from __future__ import annotations

from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from mapping_cases import TABLES, only

from fhir_gateway.errors import Invalid, Unprocessable
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.mapping.v2_draft import local_system
from fhir_gateway.mapping.v2_schedule import map_schedule
from fhir_gateway.mapping.v2_schedule_out import (
    EVENTS,
    Header,
    Notice,
    event_of,
    write_schedule,
)
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import CANONICAL

HOSPITAL = Institution(id="first", name="示范市第一医院", facilities=("S1",), charset="GB18030")
HEADER = Header("GW-1", "2026-11-22T09:00:00+08:00")
CARD = "urn:oid:2.16.840.1.113883.2.23.1.19.1"
LOCAL = local_system(HOSPITAL)
Json = dict[str, Any]


def patient(**more: Any) -> Json:
    return {
        "resourceType": "Patient",
        "id": "p",
        "identifier": [{"system": CARD, "value": "119900195803120010"}],
        "name": [{"text": "张示一"}],
        "gender": "female",
        "birthDate": "1958-03-12",
        **more,
    }


def booking(**more: Any) -> Json:
    return {
        "resourceType": "Appointment",
        "id": "booking-1",
        "status": "booked",
        "serviceType": [
            {
                "coding": [
                    {"system": f"{CANONICAL}/CodeSystem/catalogue-imaging", "code": "I001"},
                    {"system": LOCAL, "code": "CT01", "display": "头颅CT平扫"},
                ],
            }
        ],
        "start": "2026-12-07T00:00:00Z",
        "end": "2026-12-07T08:30:00+08:00",
        "patientInstruction": "检查前禁食4小时|^~\\&\n取下金属饰物",
        "participant": [
            {"actor": {"reference": "Patient/p"}, "status": "accepted"},
            {"actor": {"reference": "Location/l", "display": "CT 1室"}, "status": "accepted"},
            {"actor": {"reference": "Practitioner/d", "display": "示例医师"}, "status": "accepted"},
        ],
        **more,
    }


def written(event: str = "booked", *, hospital: Institution = HOSPITAL, **more: Any) -> bytes:
    notice = Notice(event, more.pop("appointment", booking()), more.pop("who", patient()), **more)
    return write_schedule(notice, hospital, HEADER, folder=TABLES)


def read(raw: bytes, hospital: Institution = HOSPITAL) -> list[Json]:
    message = parse(raw, default_charset=hospital.charset, folder=TABLES)
    mapped = map_schedule(message, hospital, folder=TABLES)
    assert mapped.warnings == []
    return mapped.resources


def test_what_is_told_reads_as_the_same_booking() -> None:
    resources = read(written())
    appointment, person = only(resources, "Appointment"), only(resources, "Patient")
    assert appointment["status"] == "booked"
    assert appointment["start"] == "2026-12-07T08:00:00+08:00"
    assert appointment["end"] == "2026-12-07T08:30:00+08:00"
    assert appointment["identifier"][0]["value"] == "booking-1"
    assert appointment["serviceType"][0]["coding"][0] == {
        "system": LOCAL,
        "code": "CT01",
        "display": "头颅CT平扫",
    }
    assert appointment["comment"] == "检查前禁食4小时|^~\\&\n取下金属饰物"
    assert [one["actor"].get("display") for one in appointment["participant"][1:]] == [
        "示例医师",
        "CT 1室",
    ]
    assert person["name"] == [{"text": "张示一"}]
    assert person["gender"] == "female"
    assert person["birthDate"] == "1958-03-12"
    assert [one["value"] for one in person["identifier"]] == ["119900195803120010"]


@pytest.mark.parametrize(
    ("event", "status", "read_as"),
    [
        ("booked", "pending", "pending"),
        ("booked", "booked", "booked"),
        ("rescheduled", "booked", "booked"),
        ("modified", "arrived", "arrived"),
        ("modified", "fulfilled", "fulfilled"),
        ("cancelled", "cancelled", "cancelled"),
        ("deleted", "entered-in-error", "entered-in-error"),
        ("noshow", "noshow", "noshow"),
    ],
)
def test_every_event_reads_as_the_status_that_it_tells(
    event: str, status: str, read_as: str
) -> None:
    raw = written(event, appointment=booking(status=status))
    assert f"SIU^{EVENTS[event][0]}^SIU_S12".encode() in raw
    assert only(read(raw), "Appointment")["status"] == read_as


@pytest.mark.parametrize(
    ("charset", "label"), [("GB18030", "GB 18030-2000"), ("UTF-8", "UNICODE UTF-8")]
)
def test_the_character_set_is_the_hospitals(charset: str, label: str) -> None:
    hospital = Institution(id="first", name="x", charset=charset)
    raw = written(hospital=hospital, who=patient(name=[{"text": "㑇𠮷示"}]))
    assert raw.split(b"\r")[0].split(b"|")[17] == label.encode()
    assert only(read(raw, hospital), "Patient")["name"] == [{"text": "㑇𠮷示"}]


def test_a_name_that_cannot_be_written_is_refused_and_not_spoiled() -> None:
    western = Institution(id="first", name="x", charset="ISO-8859-1")
    with pytest.raises(Unprocessable) as caught:
        written(hospital=western)
    assert caught.value.issues[0].rule == "v2-charset"
    assert caught.value.issues[0].diagnostics.startswith("NTE holds a character")
    assert "张" not in caught.value.issues[0].diagnostics


def test_the_hospitals_own_numbers_go_first() -> None:
    own = {"system": HOSPITAL.system("appointment"), "value": "HIS-77"}
    raw = written(appointment=booking(identifier=[own]), number="700123", order="REQ-5")
    sch = raw.decode("gb18030").split("\r")[1].split("|")
    assert (sch[1], sch[2], sch[26]) == ("booking-1", "HIS-77", "REQ-5")
    resources = read(raw)
    assert only(resources, "Appointment")["identifier"][0]["value"] == "HIS-77"
    assert only(resources, "Patient")["identifier"][0]["value"] == "700123"


def test_the_schedule_names_what_the_booking_does_not() -> None:
    schedule = {"id": "s1", "actor": [{"reference": "HealthcareService/ct", "display": "CT室"}]}
    slot = {"serviceType": [{"text": "颅脑CT平扫"}]}
    bare = booking(serviceType=[], participant=[{"actor": {"reference": "Patient/p"}}])
    raw = written(appointment=bare, schedule=schedule, slot=slot)
    appointment = only(read(raw), "Appointment")
    assert appointment["serviceType"] == [{"text": "颅脑CT平扫"}]
    assert appointment["participant"][1]["actor"] == {"display": "CT室"}
    assert raw.decode("gb18030").split("\r")[1].split("|")[5] == "s1"


def test_what_cannot_be_attended_or_names_nobody_is_not_told() -> None:
    with pytest.raises(Unprocessable) as caught:
        written(appointment=booking(start=None))
    assert caught.value.issues[0].expression == "Appointment.start"
    with pytest.raises(Unprocessable) as caught:
        written(who=patient(identifier=[{"system": "urn:x", "value": "1"}]))
    assert caught.value.issues[0].expression == "Patient.identifier"
    with pytest.raises(Invalid):
        written("moved")


def test_a_document_is_told_by_its_type_of_table_0203_whichever_system_it_was_stored_under():
    shared = {"system": "urn:oid:2.16.156.10011.1.3", "value": "119900195803120010"}
    for one in (shared, {**shared, "system": CARD}):
        assert "|119900195803120010^^^^NI|" in written(who=patient(identifier=[one])).decode(
            "gb18030"
        )


@pytest.mark.parametrize(
    ("before", "after", "moved", "event"),
    [
        ("", "pending", False, "booked"),
        ("", "booked", False, "booked"),
        ("waitlist", "booked", False, "booked"),
        ("pending", "booked", False, "modified"),
        ("booked", "booked", True, "rescheduled"),
        ("booked", "booked", False, "modified"),
        ("booked", "cancelled", False, "cancelled"),
        ("cancelled", "cancelled", False, ""),
        ("waitlist", "cancelled", False, ""),
        ("proposed", "cancelled", False, ""),
        ("booked", "noshow", False, "noshow"),
        ("booked", "entered-in-error", False, "deleted"),
        ("", "entered-in-error", False, ""),
        ("", "waitlist", False, ""),
        ("", "proposed", False, ""),
    ],
)
def test_what_is_told_of_a_change(before: str, after: str, moved: bool, event: str) -> None:
    assert event_of(before, after, moved=moved) == event


_WORDS = st.text(
    st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), max_codepoint=0x9FFF),
    min_size=1,
    max_size=20,
)
_NAMES = st.text(
    st.characters(codec="utf-8", categories=("Lu", "Ll", "Lo"), max_codepoint=0x9FFF),
    min_size=1,
    max_size=8,
)


@settings(max_examples=examples(50), deadline=None)
@given(_WORDS, _WORDS, _NAMES)
def test_no_text_escapes_its_field(words: str, place: str, name: str) -> None:
    hospital = Institution(id="first", name="x", charset="UTF-8")
    actors = [{"actor": {"reference": "Location/l", "display": place}, "status": "accepted"}]
    raw = written(
        hospital=hospital,
        appointment=booking(
            patientInstruction=words, serviceType=[{"text": "检查"}], participant=actors
        ),
        who=patient(name=[{"text": name}]),
    )
    resources = read(raw, hospital)
    appointment = only(resources, "Appointment")
    assert appointment["start"] == "2026-12-07T08:00:00+08:00"
    assert appointment.get("comment", "") == words.strip()
    assert appointment["serviceType"] == [{"text": "检查"}]
    said = [one["actor"].get("display", "") for one in appointment["participant"][1:]]
    assert "".join(said) == place.strip()
    assert only(resources, "Patient")["name"] == [{"text": name}]
