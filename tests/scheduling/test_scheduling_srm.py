"""SRM over HTTP: a clinic's own system books, moves and cancels by v2, once for each message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import Any

import pytest
from booking_world import World
from city import id_number
from databases import Databases
from running import Running

from fhir_gateway.interactions.institutions import issue_token
from fhir_gateway.mapping.v2 import parse
from fhir_gateway.settings import load_settings

_ids = count(1)
RANGE = "20260101^20991231"
FOLDER = f"{load_settings({}).mappings}/v2"


@pytest.fixture(scope="module")
def world(shared_database: Databases) -> Iterator[World]:
    one = Running(shared_database.url("srm"), area="110000")
    yield World(one)
    one.close()


def srm(event: str, *, control: str = "", person: int = 0, ais: str = "", **arq: str) -> str:
    """A request; ARQ fields by number, such as f5."""
    fields = {int(name[1:]): value for name, value in arq.items()}
    line = "|".join(["ARQ", *(fields.get(n, "") for n in range(1, 25))])
    lines = [
        f"MSH|^~\\&|HIS||GW||20261122090000+0800||SRM^{event}^SRM_S01|"
        f"{control or f'M{next(_ids)}'}|P|2.5.1||||||UNICODE UTF-8",
        line.rstrip("|"),
    ]
    if person:
        lines.append(
            f"PID|1||C{person}^^^^PI~{id_number(person)}^^^^NI||测试乙{person}||19900307|M"
        )
    lines += ["RGS|1|A", ais] if ais else []
    return "\r".join(lines) + "\r"


class Said:
    """An answer."""

    def __init__(self, status: int, raw: bytes) -> None:
        self.status, self.raw, self.text = status, raw, raw.decode()
        message = parse(raw, default_charset="utf-8", folder=FOLDER)
        self.type = (message.header.text(9), message.header.text(9, 2))
        self.by = {one.name: one for one in message.segments}
        self.code = self.by["MSA"].text(1)

    @property
    def rule(self) -> str:
        return self.by["ERR"].text(5)

    @property
    def booking(self) -> str:
        return self.by["SCH"].text(2)

    @property
    def standing(self) -> str:
        return self.by["SCH"].text(25)


def send(world: World, message: str, who: Any = None) -> Said:
    answer = world.running.request(
        "POST", "/hl7v2", content=message.encode(),
        headers={"content-type": "application/hl7-v2", **(who or world.clinic)},
    )  # fmt: skip
    return Said(answer.status_code, answer.content)


def appointment(world: World, id: str) -> Any:
    return world.read(f"Appointment/{id}", world.clinic).json()


def test_a_slot_is_booked_moved_and_cancelled_by_the_numbers_of_either_side(world: World) -> None:
    first, second = world.slots(2, hours=500, item="I030")
    made = send(world, srm("S01", person=501, f1="P-1", f5=f"{first}^^SLOT", f7="^腹痛"))
    assert (made.status, made.code, made.type) == (200, "AA", ("SRR", "S01")), made.text
    assert (made.by["AIL"].text(3), made.by["AIL"].text(3, 4)) == ("CT室", "示范医院")
    assert (made.by["SCH"].text(1), made.standing) == ("P-1", "Booked")
    stored = appointment(world, made.booking)
    assert stored["status"] == "booked" and stored["slot"][0]["reference"] == f"Slot/{first}"
    moved = send(world, srm("S02", f1="P-1", f5=f"{second}^^SLOT"))
    assert (moved.code, moved.booking) == ("AA", made.booking), moved.text
    assert appointment(world, made.booking)["slot"][0]["reference"] == f"Slot/{second}"
    gone = send(world, srm("S04", f2=made.booking))
    assert (gone.code, gone.standing) == ("AA", "Cancelled"), gone.text
    assert world.status(first) == world.status(second) == "free"


def test_what_a_booking_says_is_changed_and_its_place_is_not(world: World) -> None:
    """S03 with another reason, remarks, or an order; what would move it is refused by its place."""
    first, second = world.slots(2, hours=580, item="I034")
    made = send(world, srm("S01", person=520, f1="P-40", f5=f"{first}^^SLOT", f7="^腹痛"))
    assert made.code == "AA", made.text
    before = appointment(world, made.booking)
    patient = before["participant"][0]["actor"]["reference"].partition("/")[2]
    number = {"system": "urn:clinic:order", "value": "O-7"}
    order = world.order(patient, "I034", identifier=[number])
    changed = send(world, srm("S03", control="CHANGE-1", f1="P-40", f7="^胸痛", f24="O-7",
                              ais="AIS|1|A|I034^CT^99GW"))  # fmt: skip
    assert (changed.code, changed.type, changed.booking) == ("AA", ("SRR", "S03"), made.booking)
    after = appointment(world, made.booking)
    assert after["reasonCode"][0]["text"] == "胸痛" and after["slot"] == before["slot"]
    assert after["basedOn"] == [{"reference": f"ServiceRequest/{order}"}]
    again = send(world, srm("S03", control="CHANGE-1", f1="P-40", f7="^胸痛", f24="O-7",
                            ais="AIS|1|A|I034^CT^99GW"))  # fmt: skip
    assert again.raw == changed.raw
    assert appointment(world, made.booking)["meta"] == after["meta"]
    for message, place in (
        (srm("S03", f1="P-40", f7="^x", f5=f"{second}^^SLOT"), "ARQ"),
        (srm("S03", f1="P-40", f7="^x", ais="AIS|1|A|I035^CT^99GW"), "AIS"),
        (srm("S03", f1="P-40", f7="^x", ais="AIS|1|A|I034^CT^99GW|20991231080000+0800"), "AIS"),
        (srm("S03", f1="P-40", f7="^x", f11="20990101^20991231"), "ARQ"),
        (srm("S03", f1="P-40"), "ARQ"),
    ):
        said = send(world, message)
        assert (said.code, said.rule) == ("AE", "srm-modify"), said.text
        assert said.by["ERR"].text(2).startswith(place)
    unknown = send(world, srm("S03", f1="P-40", f7="^胸闷", f24="O-none"))
    assert (unknown.code, unknown.rule) == ("AA", "srm-order"), unknown.text
    assert send(world, srm("S04", f1="P-40")).code == "AA"
    late = send(world, srm("S03", f1="P-40", f7="^x"))
    assert (late.code, late.rule) == ("AE", "appointment-state")


def test_the_same_message_again_gets_the_same_bytes_and_books_once(world: World) -> None:
    world.slots(3, hours=520, item="I031")
    ais = "AIS|1|A|I031^CT^99GW"
    message = srm("S01", control="ONCE-1", person=502, f1="P-2", ais=ais, f11=RANGE)
    one, two = send(world, message), send(world, message)
    assert one.code == "AA", one.text
    assert one.raw == two.raw
    other = send(world, srm("S01", control="ONCE-1", person=502, f1="P-3", ais=ais,
                            f11=RANGE))  # fmt: skip
    assert (other.code, other.rule) == ("AE", "v2-control-id")
    taken = send(world, srm("S01", person=502, f1="P-2", ais=ais, f11=RANGE))
    assert (taken.code, taken.rule) == ("AE", "srm-placer")

    path = "/fhir/Organization/clinic/$messages?name=ONCE-1"
    listed = world.running.get(path, headers=world.clinic)
    assert listed.status_code == 200 and "ONCE-1" in listed.text, listed.text


@pytest.mark.parametrize(
    ("message", "code", "rule"),
    [
        (srm("S03", f2="x"), "AE", "appointment-unknown"),
        (srm("S04", f1="P-none"), "AE", "srm-placer"),
        (srm("S04", f2="nothing"), "AE", ""),
        (srm("S01", person=503, f1="P-9", f5="nowhere^^SLOT"), "AE", "slot-unknown"),
        (srm("S01", person=503, f1="P-10"), "AE", ""),
        (srm("S01", f1="P-11", f5="x^^SLOT"), "AE", "v2-segment-missing"),
        (srm("S09", f1="P-12"), "AR", ""),
    ],
)
def test_what_cannot_be_done_is_refused_in_plain_words(
    world: World, message: str, code: str, rule: str
) -> None:
    said = send(world, message)
    assert said.status >= 400 and said.code == code, said.text
    assert not rule or said.rule == rule, said.text
    assert "SCH" not in said.by


def test_a_full_slot_is_refused_and_another_institutions_booking_is_not_there(
    world: World,
) -> None:
    (slot,) = world.slots(1, hours=540, item="I032")
    made = send(world, srm("S01", person=504, f1="P-20", f5=f"{slot}^^SLOT"))
    assert made.code == "AA", made.text
    full = send(world, srm("S01", person=505, f1="P-21", f5=f"{slot}^^SLOT"))
    assert (full.code, full.rule) == ("AE", "slot-full"), full.text
    foreign = send(world, srm("S04", f2=made.booking), world.other)
    assert foreign.status in (403, 404), foreign.text
    assert appointment(world, made.booking)["status"] == "booked"


def test_a_request_that_was_killed_before_its_answer_is_answered_and_not_searched_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only seat is taken by the request itself: a new search would find nothing."""
    (slot,) = world.slots(1, hours=560, item="I033")
    ais = "AIS|1|A|I033^CT^99GW"
    message = srm("S01", person=510, f1="P-30", ais=ais, f11=RANGE)

    async def killed(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("fhir_gateway.scheduling.srm.kept", killed)
        lost = send(world, message)
    assert lost.code == "AE" and world.status(slot) == "busy"
    token = {"authorization": f"Bearer {world.running.run(issue_token(world.gateway, 'clinic'))}"}
    made = send(world, message, token)  # by another credential of the same institution
    assert made.code == "AA" and made.standing == "Booked", made.text
    assert send(world, message).raw == made.raw
    (other,) = world.slots(1, hours=561, item="I033")
    moved = srm("S02", f1="P-30", f11=RANGE, ais=ais)
    with monkeypatch.context() as patch:
        patch.setattr("fhir_gateway.scheduling.srm.kept", killed)
        assert send(world, moved).code == "AE"
    again = send(world, moved)
    assert (again.code, again.booking) == ("AA", made.booking), again.text
    assert (world.status(slot), world.status(other)) == ("free", "busy")


def test_two_messages_at_once_under_one_placer_number_book_once(world: World) -> None:
    world.slots(4, hours=580, item="I034")
    ais = "AIS|1|A|I034^CT^99GW"
    messages = [srm("S01", person=511 + n % 2, f1="P-31", ais=ais, f11=RANGE) for n in range(4)]
    headers = {"content-type": "application/hl7-v2", **world.clinic}

    async def race() -> list[Any]:
        ask = world.running.http.request
        return await asyncio.gather(*(
            ask("POST", "/hl7v2", content=one.encode(), headers=headers) for one in messages
        ))  # fmt: skip

    said = [Said(one.status_code, one.content) for one in world.running.run(race())]
    assert sorted(one.code for one in said) == ["AA", "AE", "AE", "AE"], [o.text for o in said]
    assert {one.rule for one in said if one.code == "AE"} <= {"srm-placer", "overtaken"}


def test_a_booking_of_another_person_than_pid_names_is_left_alone(world: World) -> None:
    first, second = world.slots(2, hours=600, item="I035")
    made = send(world, srm("S01", person=513, f1="P-32", f5=f"{first}^^SLOT"))
    send(world, srm("S01", person=514, f1="P-33", f5="none^^SLOT"))  # known, and not booked
    for event, person in (("S04", 514), ("S05", 515), ("S02", 514)):
        said = send(world, srm(event, person=person, f1="P-32", f5=f"{second}^^SLOT"))
        assert (said.code, said.rule) == ("AE", "appointment-other-person"), said.text
    assert appointment(world, made.booking)["status"] == "booked"
    assert send(world, srm("S04", person=513, f1="P-32")).standing == "Cancelled"


def test_what_moves_without_a_service_stays_what_it_is(world: World) -> None:
    """A range alone does not turn a CT into whatever is free first, or move it elsewhere."""
    world.slots(1, hours=1, item="I037")
    world.slots(1, hours=2, item="I036", hospital="other")
    first, second = world.slots(2, hours=620, item="I036")
    (wrong,) = world.slots(1, hours=640, item="I037")
    made = send(world, srm("S01", person=516, f1="P-34", f5=f"{first}^^SLOT"))
    refused = send(world, srm("S02", f1="P-34", f5=f"{wrong}^^SLOT"))
    assert (refused.code, refused.rule) == ("AE", "srm-service"), refused.text
    moved = send(world, srm("S02", f1="P-34", f11=RANGE))
    assert (moved.code, moved.booking) == ("AA", made.booking), moved.text
    assert appointment(world, made.booking)["slot"][0]["reference"] == f"Slot/{second}"


def test_what_is_said_beside_a_slot_has_to_be_so_and_no_service_is_left_out(world: World) -> None:
    (slot,) = world.slots(1, hours=660, item="I038")
    begin = world.read(f"Slot/{slot}").json()["start"]
    other = "AIS|1|A|I039^MR^99GW"
    for ais, rule in (
        (other, "srm-service"),
        ("AIS|1|A|I038^CT^99GW|20310101080000+0800", "slot-changed"),
        (f"AIS|1|A|I038^CT^99GW\r{other}", "srm-service"),
        ("AIS|1|A|LOCAL-X^未知^L", "srm-service"),
    ):
        said = send(world, srm("S01", person=517, f1="P-35", ais=ais, f5=f"{slot}^^SLOT"))
        assert (said.code, said.rule) == ("AE", rule), said.text
    both = send(world, srm("S01", person=517, f1="P-35", f11=RANGE,
                           ais=f"AIS|1|A|I038^CT^99GW\r{other}"))  # fmt: skip
    assert (both.code, both.rule) == ("AE", "slot-none"), both.text
    time = datetime.fromisoformat(begin).strftime("%Y%m%d%H%M%S%z")
    made = send(world, srm("S01", person=517, f1="P-35", f24="ORD-1", f5=f"{slot}^^SLOT",
                           ais=f"AIS|1|A|I038^CT^99GW|{time}"))  # fmt: skip
    assert (made.code, made.rule) == ("AA", "srm-order"), made.text


def test_the_order_of_arq_24_stands_behind_the_booking(world: World) -> None:
    orm = (
        "MSH|^~\\&|HIS||GW||20261122090000+0800||ORM^O01|O-1|P|2.5.1||||||UNICODE UTF-8\r"
        f"PID|1||C518^^^^PI~{id_number(518)}^^^^NI||测试乙518||19900307|M\r"
        "ORC|NW|ORD-518|||IP\rOBR|1|ORD-518||CT-X^胸部CT^L\r"
    )
    assert send(world, orm).code == "AA"
    (slot,) = world.slots(1, hours=680, item="I040")
    made = send(world, srm("S01", person=518, f1="P-36", f24="ORD-518", f5=f"{slot}^^SLOT"))
    assert made.code == "AA" and "ERR" not in made.by, made.text
    (order,) = appointment(world, made.booking)["basedOn"]
    assert order["reference"].startswith("ServiceRequest/")


def siu(event: str, booking: str, *, number: str = "", status: str = "", person: int = 0,
        start: str = "", control: str = "") -> str:  # fmt: skip
    """What the hospital's own system says of a booking of the gateway's."""
    end = f"{start[:8]}235959{start[14:]}" if start else ""
    fields = {1: booking, 2: number, 11: f"^^^{start}^{end}" if start else "", 25: status}
    sch = "|".join(["SCH", *(fields.get(n, "") for n in range(1, 26))]).rstrip("|")
    return (
        f"MSH|^~\\&|HIS||GW||20261122090000+0800||SIU^{event}^SIU_S12|"
        f"{control or f'H{next(_ids)}'}|P|2.5.1||||||UNICODE UTF-8\r{sch}\r"
        f"PID|1||H{person}^^^^PI~{id_number(person)}^^^^NI||测试乙{person}||19900307|M\r"
    )


def test_a_hospital_confirms_and_tells_the_rest_by_siu(world: World) -> None:
    first, second = world.slots(2, hours=700, item="I042", master="hospital")
    made = send(world, srm("S01", person=560, f1="P-60", f5=f"{first}^^SLOT"))
    assert (made.code, made.standing) == ("AA", "Pending"), made.text

    def says(event: str, **more: Any) -> Said:
        return send(world, siu(event, made.booking, person=560, **more), world.hospital)

    wrong = says("S12", start="20310101080000+0800")
    assert (wrong.code, wrong.rule) == ("AE", "siu-time"), wrong.text
    other = send(world, siu("S12", made.booking, person=517), world.hospital)
    assert (other.code, other.rule) == ("AE", "appointment-other-person"), other.text
    one = says("S12", number="H-1", control="CONFIRM-1")
    assert (one.code, one.type) == ("AA", ("ACK", "S12")), one.text
    assert says("S12", number="H-1", control="CONFIRM-1").raw == one.raw
    stored = appointment(world, made.booking)
    assert stored["status"] == "booked" and stored["identifier"][0]["value"] == "H-1"
    path = "/fhir/Organization/hospital/$messages?name=CONFIRM-1"
    kept = world.running.get(path, headers=world.hospital).text
    assert "SIU^S12 booking" in kept, kept  # left out of a replayed day
    assert world.status(first) == "busy"
    assert says("S14", number="H-1").code == "AA"  # told twice
    assert appointment(world, made.booking)["meta"] == stored["meta"]
    found = world.read("Appointment?identifier=H-1", world.hospital).json()
    assert found["total"] == 1  # no second one beside it
    assert says("S14", status="Started").code == "AA"
    assert says("S14", status="Complete").code == "AA"
    assert appointment(world, made.booking)["status"] == "fulfilled"
    late = says("S15")
    assert (late.code, late.rule) == ("AE", "appointment-state"), late.text

    asked = send(world, srm("S01", person=561, f1="P-61", f5=f"{second}^^SLOT"))
    gone = send(world, siu("S15", asked.booking, person=561), world.hospital)
    assert gone.code == "AA" and appointment(world, asked.booking)["status"] == "cancelled"
    assert world.status(second) == "free"
    late = send(world, siu("S12", asked.booking, person=561), world.hospital)
    assert (late.code, late.rule) == ("AE", "appointment-state"), late.text
    own = send(world, siu("S12", "OWN-1", person=561, start="20310101080000+0800"), world.hospital)
    assert own.code == "AA", own.text
