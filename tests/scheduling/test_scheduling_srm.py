"""SRM over HTTP: a clinic's own system books, moves and cancels by v2, once for each message."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from booking_world import World
from city import id_number
from databases import Databases
from running import Running

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
    assert (made.by["SCH"].text(1), made.standing) == ("P-1", "Booked")
    stored = appointment(world, made.booking)
    assert stored["status"] == "booked" and stored["slot"][0]["reference"] == f"Slot/{first}"
    moved = send(world, srm("S02", f1="P-1", f5=f"{second}^^SLOT"))
    assert (moved.code, moved.booking) == ("AA", made.booking), moved.text
    assert appointment(world, made.booking)["slot"][0]["reference"] == f"Slot/{second}"
    gone = send(world, srm("S04", f2=made.booking))
    assert (gone.code, gone.standing) == ("AA", "Cancelled"), gone.text
    assert world.status(first) == world.status(second) == "free"


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
        (srm("S03", f2="x"), "AR", "srm-modify"),
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
