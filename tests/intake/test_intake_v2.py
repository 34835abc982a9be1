"""Receiving v2 messages: one commit, one answer, repeats, corrections, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intake_cases import ACTOR, ALT, CREA, OTHER, PERSON, Opened, opened, report

from fhir_gateway.interactions.intake import receive_v2
from fhir_gateway.security.actor import OPEN, Actor

TYPES = ("Patient", "ServiceRequest", "Specimen", "Observation", "DiagnosticReport")


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path) as one:
        yield one


def msa(body: bytes) -> str:
    return body.decode("gb18030").split("\r")[1]


def test_a_report_is_stored_and_accepted(hospital: Opened) -> None:
    answer = hospital.send(report())
    assert (answer.status, msa(answer.body)) == (200, "MSA|AA|1")
    assert hospital.stored(*TYPES) == {
        "Patient": 1, "ServiceRequest": 1, "Specimen": 0, "Observation": 2, "DiagnosticReport": 1,
    }  # fmt: skip


def test_a_message_sent_again_gets_the_same_bytes_and_stores_nothing(hospital: Opened) -> None:
    first = hospital.send(report())
    before = hospital.stored(*TYPES, "AuditEvent")
    again = hospital.send(report())
    assert again.body == first.body
    assert (again.repeated, hospital.stored(*TYPES, "AuditEvent")) == (True, before)


def test_messages_sent_at_the_same_time_are_stored_once(hospital: Opened) -> None:
    async def flood() -> list[bytes]:
        sent = (receive_v2(hospital.gateway, ACTOR, report()) for _ in range(8))
        return [answer.body for answer in await asyncio.gather(*sent)]

    assert len(set(hospital.runner.run(flood()))) == 1
    assert hospital.stored("DiagnosticReport") == {"DiagnosticReport": 1}


def test_a_control_id_with_other_content_is_refused(hospital: Opened) -> None:
    hospital.send(report())
    answer = hospital.send(report(value="99"))
    assert (answer.status, msa(answer.body)[:8]) == (409, "MSA|AE|1")
    (alt, _) = hospital.ids(report(), "Observation")
    assert str(hospital.read("Observation", alt)["valueQuantity"]["value"]) == "32"


def test_another_control_id_with_the_same_content_makes_no_new_version(hospital: Opened) -> None:
    hospital.send(report("1"))
    answer = hospital.send(report("2"))
    assert answer.outcome is not None
    assert {result.kind for result in answer.outcome.results} == {"unchanged"}


def test_two_applications_of_a_hospital_may_use_the_same_control_id(hospital: Opened) -> None:
    hospital.send(report())
    answer = hospital.send(report(value="33").replace(b"|LIS|", b"|RIS|"))
    assert answer.status == 200


def test_a_correction_changes_the_same_result(hospital: Opened) -> None:
    hospital.send(report("1"))
    hospital.send(report("2", value="33", status="C", issued="202611181230"))
    (alt, _) = hospital.ids(report(), "Observation")
    found = hospital.read("Observation", alt)
    assert (found["meta"]["versionId"], found["status"]) == ("2", "corrected")
    assert str(found["valueQuantity"]["value"]) == "33"
    assert hospital.stored("Observation") == {"Observation": 2}


def test_a_correction_withdraws_what_it_leaves_out(hospital: Opened) -> None:
    hospital.send(report("1"))
    hospital.send(report("2", status="C", lines=(ALT,)))
    (alt, crea) = hospital.ids(report(), "Observation")
    (found,) = hospital.ids(report(), "DiagnosticReport")
    assert hospital.read("Observation", crea)["status"] == "entered-in-error"
    assert hospital.read("DiagnosticReport", found)["result"] == [
        {"reference": f"Observation/{alt}"}
    ]


def test_a_void_report_voids_its_results(hospital: Opened) -> None:
    hospital.send(report("1"))
    hospital.send(report("2", status="D", lines=()))
    statuses = [hospital.read("Observation", id)["status"]
                for id in hospital.ids(report(), "Observation")]  # fmt: skip
    assert statuses == ["entered-in-error", "entered-in-error"]


def test_a_second_part_of_a_report_adds_to_the_first(hospital: Opened) -> None:
    hospital.send(report("1", lines=(ALT,)))
    hospital.send(report("2", lines=(CREA,)))
    (found,) = hospital.ids(report(), "DiagnosticReport")
    assert len(hospital.read("DiagnosticReport", found)["result"]) == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1),
                                   (2, 1, 0)])  # fmt: skip
def test_the_order_of_arrival_does_not_matter(tmp_path: Path, order: tuple[int, ...]) -> None:
    messages = [
        report("1", value="30", status="P", issued="202611181030"),
        report("2", value="31", status="F", issued="202611181130"),
        report("3", value="33", status="C", issued="202611181230"),
    ]
    with opened(tmp_path) as hospital:
        answers = [hospital.send(messages[n]).status for n in order]
        (alt, _) = hospital.ids(report(), "Observation")
        found = hospital.read("Observation", alt)
        assert answers == [200, 200, 200]
        assert (found["status"], str(found["valueQuantity"]["value"])) == ("corrected", "33")


def test_a_poorer_message_does_not_take_the_identity_number_away(hospital: Opened) -> None:
    hospital.send(report("1"))
    hospital.send(report("2", person="PID|1||700123^^^S2^PI||张示一"))
    (id,) = hospital.ids(report(), "Patient")
    found = hospital.read("Patient", id)
    assert (found["birthDate"], len(found["identifier"])) == ("1958-03-12", 2)


def test_a_patient_number_of_another_person_is_refused(hospital: Opened) -> None:
    hospital.send(report("1"))
    answer = hospital.send(report("2", person=PERSON.replace("195803120010", "198507300029")))
    assert (answer.status, msa(answer.body)[:6]) == (409, "MSA|AE")
    assert hospital.stored("Patient") == {"Patient": 1}


def test_a_report_number_of_another_patient_is_refused(hospital: Opened) -> None:
    hospital.send(report("1"))
    answer = hospital.send(report("2", person="PID|1||700456^^^S2^PI||李示二"))
    assert answer.status == 409
    assert hospital.stored("Patient") == {"Patient": 1}


def test_another_hospital_has_its_own_patients(hospital: Opened) -> None:
    hospital.send(report())
    other = Actor("institution", OTHER.name, institution=OTHER.id)
    answer = hospital.send(report().replace(b"|S2|", b"|S3|"), other)
    assert answer.status == 200
    assert hospital.stored("Patient", "DiagnosticReport") == {"Patient": 2, "DiagnosticReport": 2}


def test_a_message_of_another_facility_is_rejected(hospital: Opened) -> None:
    answer = hospital.send(report().replace(b"|S2|", b"|S3|"))
    assert (answer.status, msa(answer.body)[:6]) == (403, "MSA|AR")


def test_under_open_access_the_facility_says_who_sends(hospital: Opened) -> None:
    assert hospital.send(report(), OPEN).status == 200
    unknown = hospital.send(report("2").replace(b"|S2|", b"|S9|"), OPEN)
    assert (unknown.status, msa(unknown.body)[:6]) == (403, "MSA|AR")


def test_the_received_bytes_are_kept_by_their_hash(hospital: Opened) -> None:
    raw = report()
    hospital.send(raw)
    assert hospital.received(sha256(raw).digest()) == ("x-application/hl7-v2+er7", raw)


def test_a_receipt_and_a_refusal_are_audited(hospital: Opened) -> None:
    before = hospital.stored("AuditEvent")["AuditEvent"]
    hospital.send(report())
    assert hospital.stored("AuditEvent")["AuditEvent"] == before + 1
    hospital.send(report("2").replace(b"PID|", b"ZID|"))
    assert hospital.stored("AuditEvent")["AuditEvent"] == before + 2


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "AR"), (b"hello", 400, "AR"), (report().replace(b"PID|", b"ZID|"), 422, "AE"),
        (report()[:-60], 422, "AE"), (report().replace(b"ORU^R01", b"MFN^M02"), 400, "AR"),
        (report().replace(b"GB 18030-2000", b"UNICODE UTF-8")[:-1] + b"\xff", 400, "AR"),
    ],
    ids=["empty", "no message", "no PID", "cut", "other type", "bytes of no character set"],
)  # fmt: skip
def test_bad_messages_are_refused_whole(
    hospital: Opened, raw: bytes, status: int, code: str
) -> None:
    answer = hospital.send(raw)
    assert (answer.status, msa(answer.body)[4:6]) == (status, code)
    assert hospital.stored(*TYPES) == dict.fromkeys(TYPES, 0)


edits = st.lists(
    st.tuples(st.integers(0, 700), st.integers(0, 6), st.binary(max_size=6)), min_size=1, max_size=4
)


@settings(
    max_examples=examples(120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(changes=edits)
def test_a_mutated_message_is_stored_whole_or_not_at_all(
    hospital: Opened, changes: list[tuple[int, int, bytes]]
) -> None:
    raw = bytearray(report())
    for place, length, data in changes:
        raw[place : place + length] = data
    before = hospital.stored(*TYPES)
    answer = hospital.send(bytes(raw))
    code = answer.body.split(b"\r")[1].split(answer.body[3:4])[1]
    assert answer.status < 500
    assert code in (b"AA", b"AE", b"AR")
    assert (code == b"AA") is (answer.status == 200)
    if code != b"AA":
        assert hospital.stored(*TYPES) == before


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(raw=st.binary(max_size=200))
def test_random_bytes_are_refused(hospital: Opened, raw: bytes) -> None:
    answer = hospital.send(raw)
    assert 400 <= answer.status < 500
