"""A hospital's nightly list, missed appointments and appeals, waiting lists, by API and command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from databases import Databases
from pool_world import DAY, HOUR, ITEM, ZONE, Pool, PoolRunning

from fhir_gateway.cli import main
from fhir_gateway.errors import GatewayError
from fhir_gateway.scheduling.appointment import said
from fhir_gateway.scheduling.book import BookRequest, HoldRequest, book, cancel
from fhir_gateway.scheduling.pool_list import OurBooking, OurSlot, compare, read_list
from fhir_gateway.scheduling.reconcile_pool import reconcile
from fhir_gateway.scheduling.seat_commit import Asked
from fhir_gateway.scheduling.supply_change import WITHDRAWN, Affected
from fhir_gateway.scheduling.visit import take_step
from fhir_gateway.scheduling.waitlist_offers import offer
from fhir_gateway.scheduling.withdrawal import bookings_on, move, tell_affected
from fhir_gateway.security.actor import GATEWAY
from fhir_gateway.store.claim_rows import QuotaRow, Settle


@pytest.fixture(scope="module")
def running(shared_database: Databases) -> Iterator[PoolRunning]:
    one = PoolRunning(shared_database.url("operations"))
    yield one
    one.close()


def booked(pool: Pool, slot: str, person: str) -> str:
    take = HoldRequest(f"{pool.name}-{slot}", person, channel="ordinary", institution=pool.clinic)
    id: str = pool.run(book(pool.gateway, GATEWAY, BookRequest(take=take))).id
    return id


def listed(pool: Pool, *rows: tuple[str, int, str, str, str]) -> str:
    """A list: (schedule, hour, status, booking, person)."""
    lines = ["schedule,start,end,status,booking,person"]
    for schedule, hour, status, booking, person in rows:
        start, end = (said(pool.start + (hour + n) * HOUR, ZONE) for n in (0, 1))
        lines.append(f"{pool.name}-{schedule},{start},{end},{status},{booking},{person}")
    return "\n".join(lines)


def parts(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return {
        one["name"]: next(value for name, value in one.items() if name.startswith("value"))
        for one in answer.json()["parameter"] if "part" not in one
    }  # fmt: skip


def call(pool: Pool, path: str, by: str, **parameters: Any) -> Any:
    body: dict[str, Any] = {"resourceType": "Parameters"}
    if parameters:
        body["parameter"] = [
            {"name": name.replace("_", "-"), key: value}
            for name, (key, value) in parameters.items()
        ]
    return pool.running.post(f"/fhir/{path}", body, headers=pool.tokens[by])


def faults_of(pool: Pool, resource: dict[str, Any]) -> list[Any]:
    """What the validator says against a resource."""
    path = f"/fhir/{resource['resourceType']}/$validate"
    answer = pool.running.post(path, resource, headers=pool.tokens[pool.clinic])
    return [one for one in answer.json()["issue"] if one["severity"] in ("error", "fatal")]


def test_fault_178_what_a_hospital_lists_and_we_do_not_becomes_a_task_once_and_closes(
    running: PoolRunning,
) -> None:
    pool = Pool(running, "night")
    pool.supply("a", "b", "c")
    people = [pool.person() for _ in range(3)]
    first, second = booked(pool, "a", people[0]), booked(pool, "b", people[1])
    slots = [("ct", hour, "free", "", "") for hour in range(3)]
    wrong = listed(
        pool, *slots, ("ct", 0, "booked", first, f"MRN-{people[0]}"),
        ("ct", 2, "booked", "theirs-1", f"MRN-{people[2]}"), ("ct", 5, "free", "", ""),
    )  # fmt: skip
    send = {"list": ("valueString", wrong)}
    path = f"Organization/{pool.hospital}/$reconcile-pool"
    answer = call(pool, path, pool.hospital, **send)
    told = parts(answer)
    assert (told["rows"], told["bookings"], told["differences"], told["opened"]) == (6, 2, 3, 3)
    again = parts(call(pool, path, pool.hospital, **send))
    assert (again["opened"], again["open"], again["closed"]) == (0, 3, 0)
    tasks = pool.found("Task?code=pool-difference&_count=50", pool.hospital)
    assert sorted(one["input"][0]["valueCode"] for one in tasks) == [
        "booking-missing-here", "booking-missing-there", "slot-missing-here"
    ]  # fmt: skip
    assert "MRN" not in answer.text + str(tasks)
    assert [faults_of(pool, one) for one in tasks] == [[], [], []]
    assert call(pool, path, pool.clinic, **send).status_code == 403

    settled = next(one for one in tasks if one["focus"]["reference"].startswith("Appointment/"))
    done = pool.running.put(f"/fhir/Task/{settled['id']}", settled | {"status": "in-progress"},
                            headers=pool.tokens[pool.hospital])  # fmt: skip
    assert done.status_code == 200, done.text

    pool.run(cancel(pool.gateway, GATEWAY, second))
    right = listed(
        pool, *slots, ("ct", 0, "booked", first, f"MRN-{people[0]}"), ("ct", 5, "free", "", "")
    )
    told = parts(call(pool, path, pool.hospital, list=("valueString", right)))
    assert (told["differences"], told["open"], told["closed"]) == (1, 1, 2)
    pool.run(take_step(pool.gateway, GATEWAY, first, "fulfil", Asked("$fulfil")))
    told = parts(call(pool, path, pool.hospital, list=("valueString", right)))
    assert (told["bookings"], told["differences"]) == (1, 1)


def test_how_two_lists_differ_is_told_by_kind() -> None:
    mine, others = b"m", b"o"
    rows = read_list(
        b'{"schedule":"s","start":"2031-06-02 08:00","end":"2031-06-02 09:00","status":"free"}\n'
        b'{"schedule":"s","start":"2031-06-02T09:00","end":"2031-06-02T09:30","status":"busy"}\n'
        b'{"schedule":"s","start":"2031-06-02T10:00","end":"2031-06-02T11:00",'
        b'"status":"unavailable"}\n'
        b'{"schedule":"s","start":"2031-06-02T08:00","end":"2031-06-02T09:00","status":"booked",'
        b'"booking":"1","person":"o"}\n'
        b'{"schedule":"s","start":"2031-06-02T09:00","end":"2031-06-02T09:30","status":"booked",'
        b'"booking":"2"}\n'
        b'{"schedule":"s","start":"2031-06-02T10:00","end":"2031-06-02T11:00",'
        b'"status":"cancelled","person":"m"}\n',
        "Asia/Shanghai", lambda text: text.encode(),
    )  # fmt: skip
    t = [row.start for row in rows[:3]]
    slots = [OurSlot(f"{n}", "s", start, start + HOUR, True) for n, start in enumerate(t)]
    slots.append(OurSlot("3", "s", t[2] + HOUR, t[2] + 2 * HOUR, True))
    bookings = [
        OurBooking("a1", "s", t[0], frozenset({"a1", "1"}), frozenset({mine})),
        OurBooking("a2", "s", t[2], frozenset({"a2", "2"}), frozenset({others})),
        OurBooking("a3", "s", t[2], frozenset({"a3"}), frozenset({mine})),
        OurBooking("a4", "s", t[2], frozenset({"a4"}), frozenset(), pending=True),
    ]
    found = [(one.kind, one.about) for one in compare(rows, slots, bookings)]
    assert found == [
        ("booking-person", "Appointment/a1"), ("slot-end", "Slot/1"),
        ("booking-cancelled-there", "Appointment/a3"), ("booking-time", "Appointment/a2"),
        ("slot-closed-there", "Slot/2"), ("slot-missing-there", "Slot/3"),
    ]  # fmt: skip


def test_what_was_carried_out_by_the_evening_is_no_difference() -> None:
    """A list of today that is sent at night has those who have come, and those who have not."""
    head = "schedule,start,end,status,booking,person\n"
    line = "s,2031-06-02T{0}:00,2031-06-02T{0}:30,{1},{2},\n"
    content = head + line.format("08", "booked", "a1") + line.format("09", "cancelled", "a2")
    rows = read_list(content.encode(), "Asia/Shanghai", lambda text: text.encode())
    t = rows[0].start
    slots = [OurSlot(f"{n}", "s", t + n * HOUR, t + n * HOUR + HOUR // 2, True) for n in range(2)]
    over = [
        OurBooking(f"a{n}", "s", t + n * HOUR - HOUR, frozenset({f"a{n}"}), frozenset(), over=True)
        for n in (1, 2)
    ]
    gone = OurBooking("a3", "s", t, frozenset({"a3"}), frozenset(), over=True)
    assert compare(rows, slots, [*over, gone]) == []


@pytest.mark.parametrize(("content", "rule"), [
    (b"\xff\xfe", "list-encoding"),
    (b"schedule,start\n", "list-columns"),
    (b"schedule,start,end,status\n,2031-06-02T08:00,2031-06-02T09:00,free\n", "list-row"),
    (b"schedule,start,end,status\ns,yesterday,2031-06-02T09:00,free\n", "list-row"),
    (b"schedule,start,end,status\ns,2031-06-02T08:00,2031-06-02T09:00,booked\n", "list-row"),
    (b'{"schedule": 1\n', "list-row"),
    (b'{"schedule": ' + b"[" * 100_000 + b"\n", "list-row"),
    (b"schedule,start,end,status," + b"x" * 200_000 + b"\n", "list-row"),
    (b"schedule,start,end,status\n" + b"x" * 200_000 + b"\n", "list-row"),
])  # fmt: skip
def test_a_list_that_cannot_be_read_says_so_by_row(content: bytes, rule: str) -> None:
    with pytest.raises(GatewayError) as told:
        read_list(content, "Asia/Shanghai", lambda text: text.encode())
    assert told.value.issues[0].rule == rule


def test_a_list_with_anothers_schedule_stores_nothing(running: PoolRunning) -> None:
    pool = Pool(running, "foreign")
    pool.supply("a")
    other = listed(pool, ("elsewhere", 0, "free", "", ""))
    with pytest.raises(GatewayError) as told:
        pool.run(reconcile(pool.gateway, GATEWAY, pool.hospital, other.encode()))
    assert told.value.issues[0].rule == "list-schedule"


def test_three_missed_bar_and_an_appeal_that_is_granted_opens_again(running: PoolRunning) -> None:
    pool = Pool(running, "missed")
    pool.supply("a", "b", "c")
    person = pool.person()
    missed = []
    for number, slot in enumerate("abc"):
        pool.clock.time = pool.start - DAY
        pool.store(pool.slot(slot, pool.start + number * 2 * DAY))
        missed.append(slot)
    ids = []
    for number, slot in enumerate(missed):
        ids.append(booked(pool, slot, person))
        pool.clock.time = pool.start + number * 2 * DAY + HOUR
        pool.run(take_step(pool.gateway, GATEWAY, ids[-1], "no-show", Asked("$no-show")))
    seen = parts(call(pool, f"Patient/{person}/$missed-appointments", pool.clinic))
    assert (seen["counted"], seen["most"], "barred-until" in seen) == (3, 3, True)

    text = {"text": ("valueString", "停电，示例")}
    answer = call(pool, f"Appointment/{ids[0]}/$appeal", pool.clinic, **text)
    task = parts(answer)["task"]["reference"]
    assert call(pool, f"Appointment/{ids[0]}/$appeal", pool.clinic, **text).status_code == 409
    own = {"reference": f"Organization/{pool.hospital}"}
    changed = {"status": "completed", "requester": own}
    stolen = pool.read("Task", task.partition("/")[2]) | changed
    plain = pool.running.put(f"/fhir/{task}", stolen, headers=pool.tokens[pool.hospital])
    assert (plain.status_code, plain.json()["issue"][0]["details"]["text"]) == (
        403, "booking-governed"
    )  # fmt: skip
    decision = {"decision": ("valueCode", "excused"), "person": ("valueString", "示例主任")}
    path = f"{task}/$decide-appeal"
    assert call(pool, path, pool.clinic, **decision).status_code in (403, 404)
    assert call(pool, path, pool.hospital, **decision).status_code == 200
    assert call(pool, path, pool.hospital, **decision).status_code == 409
    after = pool.read("Task", task.partition("/")[2])
    assert faults_of(pool, after) == []
    assert (after["status"], after["businessStatus"]["coding"][0]["code"]) == (
        "completed", "excused"
    )  # fmt: skip
    seen = parts(call(pool, f"Patient/{person}/$missed-appointments", pool.clinic))
    assert (seen["counted"], "barred-until" in seen) == (2, False)
    upheld = call(pool, f"Appointment/{ids[1]}/$appeal", pool.clinic, **text)
    path = f"{parts(upheld)['task']['reference']}/$decide-appeal"
    refuse = {"decision": ("valueCode", "upheld"), "person": ("valueString", "示例主任")}
    assert call(pool, path, pool.hospital, **refuse).status_code == 200
    seen = parts(call(pool, f"Patient/{person}/$missed-appointments", pool.clinic))
    assert seen["counted"] == 2


def test_a_clinic_waits_is_offered_a_seat_and_books_it_by_api(running: PoolRunning) -> None:
    pool = Pool(running, "wait")
    pool.supply("a")
    person = pool.person()
    asked = {
        "patient_reference": ("valueReference", {"reference": f"Patient/{person}"}),
        "service": ("valueReference", {"reference": f"HealthcareService/{pool.name}-ct"}),
        "item": ("valueCode", ITEM),
        "start": ("valueDateTime", said(pool.start - DAY, ZONE)),
        "end": ("valueDateTime", said(pool.start + DAY, ZONE)),
    }
    entry = call(pool, "Appointment/$waitlist", pool.clinic, **asked).json()
    assert entry["status"] == "waitlist", entry
    assert faults_of(pool, entry) == []
    assert call(pool, "Appointment/$waitlist", pool.clinic, **asked).status_code == 409
    name = f"Appointment/{entry['id']}"
    assert call(pool, f"{name}/$decline", pool.clinic).status_code == 409
    mine = [one for one in pool.all(offer(pool.gateway)) if one.appointment == entry["id"]]
    assert [one.outcome for one in mine] == ["offered"]
    offered = pool.read("Appointment", entry["id"])
    assert faults_of(pool, offered) == []
    told = pool.found(f"Task?focus={name}")
    assert [(one["status"], faults_of(pool, one)) for one in told] == [("requested", [])]
    reference = {"appointment_reference": ("valueReference", {"reference": name})}
    done = call(pool, "Appointment/$book", pool.clinic, **reference)
    assert done.status_code == 200, done.text
    assert pool.read("Appointment", entry["id"])["status"] == "booked"
    assert [one["status"] for one in pool.found(f"Task?focus={name}")] == ["completed"]
    assert pool.faults() == []


@pytest.mark.drivers("sqlite")
def test_the_commands_do_by_hand_what_the_worker_does(running: PoolRunning, tmp_path: Any) -> None:
    pool = Pool(running, "hand")
    pool.supply("a")
    file = tmp_path / "list.csv"
    file.write_text(listed(pool, ("ct", 3, "free", "", "")), encoding="utf-8")
    database = ("--database", running.settings.database)

    def run(*words: str) -> Any:
        return CliRunner().invoke(main, ["pools", *words, *database])

    for words in (("cut-off", "--dry-run"), ("no-shows", pool.hospital)):
        done = run(*words)
        assert done.exit_code == 0, done.output
    done = run("audit")
    assert (done.exit_code, done.output.strip().splitlines()[-1]) == (0, "everything agrees")
    done = run("reconcile", pool.hospital, str(file), "--dry-run")
    assert done.exit_code == 3, done.output
    assert "slot-missing-here" in done.output
    assert "2 differences" in done.output


def test_who_booked_a_withdrawn_slot_is_told_once_and_moved_by_the_hospital(
    running: PoolRunning,
) -> None:
    pool = Pool(running, "gone")
    pool.supply("a", "b", "c")
    people = [pool.person() for _ in range(2)]
    first, second = booked(pool, "a", people[0]), booked(pool, "b", people[1])
    pool.store(pool.schedule("other"))
    bucket = pool.bucket
    pool.bucket = f"{pool.hospital}|ct|other"
    rows = [QuotaRow("ordinary", 1)]
    pool.store(
        pool.slot("x", pool.start + 5 * HOUR, schedule="other"),
        claims=(Settle(pool.home, pool.bucket, "ordinary", rows, 1),),
    )
    pool.bucket = bucket
    affected = [
        Affected(f"{pool.name}-{slot}", WITHDRAWN, (f"Appointment/{id}",))
        for slot, id in (("a", first), ("b", second), ("c", first))
    ]
    told = pool.all(tell_affected(pool.gateway, affected))
    assert [one.outcome for one in told] == ["told", "told", "gone"]
    assert told[0].slots == (f"{pool.name}-c", f"{pool.name}-x")
    again = pool.all(tell_affected(pool.gateway, affected))
    assert [one.outcome for one in again] == ["told-already", "told-already", "gone"]
    tasks = pool.found(f"Task?focus=Appointment/{first}")
    assert [one["code"]["coding"][0]["code"] for one in tasks] == ["booking-rebook"]

    days = (pool.start - DAY, pool.start + DAY)
    taken = pool.run(bookings_on(pool.gateway, pool.hospital, f"{pool.name}-ct", *days))
    dry = pool.all(move(pool.gateway, taken, f"{pool.name}-other", dry_run=True))
    assert [one.outcome for one in dry] == ["would-move", "would-move"]
    moved = pool.all(move(pool.gateway, taken, f"{pool.name}-other"))
    assert [(one.outcome, one.slot, one.rule) for one in moved] == [
        ("moved", f"{pool.name}-x", ""), ("left", "", "slot-full"),
    ]  # fmt: skip
    assert pool.read("Appointment", first)["slot"] == [{"reference": f"Slot/{pool.name}-x"}]
    assert pool.read("Appointment", second)["slot"] == [{"reference": f"Slot/{pool.name}-b"}]
    statuses = [pool.found(f"Task?focus=Appointment/{id}")[0]["status"] for id in (first, second)]
    assert statuses == ["completed", "requested"]
    assert pool.faults() == []
