"""More than the process can do: orders first, refusals at once, readiness told (faults.md I)."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import permutations

import httpx
import pytest
from effort import TORTURE
from rest_server import Served

from fhir_gateway.errors import Unavailable
from fhir_gateway.interactions.table import INTERACTIONS
from fhir_gateway.rest.shedding import SHARES, SHEDDING_SECONDS, Gate, Lane, Shedding, lane_of


class Slow:
    """Doors that hold every request until it is let go."""

    def __init__(self) -> None:
        self.held: list[tuple[str, asyncio.Event]] = []
        self.done: list[str] = []

    async def __call__(self, scope, receive, send) -> None:
        event = asyncio.Event()
        self.held.append((scope["path"], event))
        await event.wait()
        self.done.append(scope["path"])

    async def let_go(self, number: int = 1) -> None:
        for _ in range(number):
            self.held.pop(0)[1].set()
            await settled()


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


class Case:
    """A gate with eight places before slow doors, with a clock of its own."""

    def __init__(self, places: int = 8) -> None:
        self.now, self.events = 0.0, Counter()
        self.doors, self.gate = Slow(), Gate(places, lambda: self.now)
        self.app = Shedding(
            self.doors, self.gate, instead=b'{"cards":["undecided"]}',
            count=lambda name, by: self.events.update({name: by}),
        )  # fmt: skip
        self.sent: list[dict] = []

    def ask(self, path: str, method: str = "GET") -> asyncio.Task:
        async def send(message) -> None:
            self.sent.append(message)

        scope = {"type": "http", "method": method, "path": path}
        return asyncio.create_task(self.app(scope, None, send))


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())


def test_136_hooks_and_break_glass_find_a_place_when_nobody_else_does() -> None:
    async def test() -> None:
        case = Case()
        asked = [case.ask("/fhir", "POST") for _ in range(20)]
        await settled()
        assert len(case.doors.held) == 6  # three quarters are for messages
        asked.append(case.ask("/fhir/Patient/1"))
        await settled()
        assert len(case.doors.held) == 7
        asked += [
            case.ask("/cds-services/x", "POST"),
            case.ask("/fhir/Patient/1/$break-glass", "POST"),
        ]
        await settled()
        assert [path for path, _ in case.doors.held][-1] == "/cds-services/x"
        assert case.gate.running == 8
        await case.doors.let_go()  # the first free place is the emergency's
        assert case.doors.held[-1][0].endswith("$break-glass")
        while case.doors.held:
            await case.doors.let_go()
        await asyncio.gather(*asked)
        assert (case.gate.running, case.gate.waiting) == (0, 0)

    run(test)


def test_137_who_waits_enters_in_the_order_of_the_lanes() -> None:
    paths = {
        Lane.EMERGENCY: "/fhir/Patient/1/$break-glass",
        Lane.DECISION: "/cds-services/x/feedback",
        Lane.READ: "/fhir/Observation",
        Lane.BOOKING: "/fhir/Slot",
        Lane.INGEST: "/hl7v2",
        Lane.EXPORT: "/fhir/_async/1/a.ndjson",
    }

    async def test(order) -> None:
        case = Case()
        full = [case.ask("/cds-services/x", "POST") for _ in range(8)]
        await settled()
        waiting = [case.ask(paths[lane]) for lane in order]
        await settled()
        assert case.gate.waiting == len(order)
        while case.doors.held:
            await case.doors.let_go()
        await asyncio.gather(*full, *waiting)
        assert case.doors.done[8:] == [paths[lane] for lane in sorted(order)]

    for order in random.Random(1).sample(list(permutations(Lane)), 12):
        run(lambda order=order: test(order))


def test_exports_have_a_quarter_at_most() -> None:
    async def test() -> None:
        case = Case()
        asked = [case.ask("/fhir/$export") for _ in range(5)]
        await settled()
        assert len(case.doors.held) == 2
        for _ in range(5):
            await case.doors.let_go()
        await asyncio.gather(*asked)

    run(test)


def test_140_a_queue_is_bounded_and_a_late_answer_is_refused_at_once() -> None:
    async def test() -> None:
        case = Case()
        full = [case.ask("/cds-services/x", "POST") for _ in range(8)]
        await settled()
        waiting = [case.ask("/fhir/Patient/1") for _ in range(32)]
        await settled()
        assert case.gate.waiting == 32
        with pytest.raises(Unavailable) as refusal:
            await case.ask("/fhir/Patient/1")
        assert (refusal.value.issues[0].rule, refusal.value.after) == ("busy", 1)
        assert case.events["shed"] == 1
        for task in waiting:  # callers that have gone leave no place taken
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert case.gate.waiting == 0
        while case.doors.held:
            await case.doors.let_go()
        await asyncio.gather(*full)
        assert case.gate.running == 0

    run(test)


def test_140_who_would_wait_longer_than_he_has_patience_is_told_when_to_come() -> None:
    async def test() -> None:
        gate = Gate(8, lambda: 0.0)
        for _ in range(200):  # requests take eight seconds of late
            await gate.enter(Lane.READ)
            gate.leave(Lane.READ, 8.0)
        for _ in range(7):
            await gate.enter(Lane.READ)
        first = asyncio.create_task(gate.enter(Lane.READ))
        await settled()
        with pytest.raises(Unavailable) as refusal:
            await gate.enter(Lane.READ)
        assert refusal.value.after == 2
        gate.leave(Lane.READ, 8.0)
        await first
        for _ in range(7):
            gate.leave(Lane.READ, 8.0)
        assert gate.running == 0

    run(test)


def test_a_wait_that_outlasts_patience_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {lane: share._replace(patience=0.01) for lane, share in SHARES.items()}
    monkeypatch.setattr("fhir_gateway.rest.shedding.SHARES", shares)

    async def test() -> None:
        case = Case()
        full = [case.ask("/cds-services/x", "POST") for _ in range(8)]
        await settled()
        with pytest.raises(Unavailable):
            await case.ask("/fhir/Patient/1")
        assert (case.gate.waiting, case.gate.running) == (0, 8)
        while case.doors.held:
            await case.doors.let_go()
        await asyncio.gather(*full)

    run(test)


def test_a_hook_that_may_not_enter_is_answered_that_nothing_was_decided() -> None:
    async def test() -> None:
        case = Case()
        full = [case.ask("/cds-services/x", "POST") for _ in range(40)]
        await settled()
        assert (len(case.doors.held), case.gate.waiting) == (8, 32)
        await case.ask("/cds-services/x", "POST")
        assert [one.get("status") or one["body"] for one in case.sent] == [
            200, b'{"cards":["undecided"]}',
        ]  # fmt: skip
        assert case.events == {"shed": 1, "hooks_undecided": 1}
        with pytest.raises(Unavailable):  # feedback is not on record unless it is stored
            await case.ask("/cds-services/x/feedback", "POST")
        for task in full:
            task.cancel()
        await asyncio.gather(*full, return_exceptions=True)
        assert (case.gate.running, case.gate.waiting) == (0, 0)

    run(test)


def test_143_liveness_stays_and_readiness_goes_while_requests_are_refused() -> None:
    async def test() -> None:
        case = Case()
        full = [case.ask("/cds-services/x", "POST") for _ in range(40)]
        await settled()
        ready = case.ask("/readyz")
        await settled()
        assert case.doors.held[-1][0] == "/readyz"  # nobody was refused yet
        case.doors.held.pop()[1].set()
        await ready
        with pytest.raises(Unavailable):
            await case.ask("/cds-services/x/feedback", "POST")
        await case.ask("/readyz")
        assert case.sent[0]["status"] == 503
        assert (b"retry-after", b"1") in case.sent[0]["headers"]
        alive = case.ask("/healthz")
        await settled()
        assert case.doors.held[-1][0] == "/healthz"
        case.now += SHEDDING_SECONDS
        assert not case.gate.is_shedding()
        for task in (*full, alive):
            task.cancel()
        await asyncio.gather(*full, alive, return_exceptions=True)

    run(test)


@pytest.mark.parametrize(
    ("method", "path", "lane"),
    [
        ("POST", "/cds-services/x", Lane.DECISION),
        ("POST", "/fhir/ServiceRequest/$recognize", Lane.DECISION),
        ("POST", "/oauth/token", Lane.DECISION),
        ("POST", "/fhir/Patient/1/$break-glass", Lane.EMERGENCY),
        ("GET", "/fhir/Patient/1", Lane.READ),
        ("POST", "/fhir/Patient/_search", Lane.READ),
        ("POST", "/fhir/Patient/$match", Lane.READ),
        ("GET", "/", Lane.READ),
        ("GET", "", Lane.READ),
        ("OPTIONS", "*", Lane.READ),
        ("POST", "/fhir", Lane.INGEST),
        ("PUT", "/fhir/Patient/1", Lane.INGEST),
        ("POST", "/hl7v2", Lane.INGEST),
        ("POST", "/fhir/Appointment", Lane.BOOKING),
        ("GET", "/fhir/$export", Lane.EXPORT),
        ("GET", "/fhir/_async/1", Lane.EXPORT),
    ],
)
def test_every_request_has_a_lane(method: str, path: str, lane: Lane) -> None:
    assert lane_of(method, path) is lane


def test_every_route_has_a_lane() -> None:
    for row in INTERACTIONS:
        assert lane_of(row.method, f"/fhir/{row.path}") in SHARES


def test_each_lane_leaves_room_for_those_before_it() -> None:
    below = [SHARES[lane].below for lane in Lane]
    assert below == sorted(below, reverse=True)
    assert SHARES[Lane.EXPORT].below < SHARES[Lane.DECISION].below == 1.0


# -- an open loop against the served gateway ------------------------------------------------------


@pytest.mark.skipif(not TORTURE, reason="a minute of more than the machine can do")
@pytest.mark.torture
def test_136_twice_the_knee_is_refused_and_orders_are_answered(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FHIR_GATEWAY_CONCURRENCY", "32")
    served = Served(tmp_path / "g.sqlite")
    try:
        knee = asyncio.run(_offered(served, rate=5_000, seconds=5))["/fhir/Patient"][200] / 5
        done = asyncio.run(_offered(served, rate=2 * knee, seconds=30))
    finally:
        served.stop()
    print("knee", knee, done)
    hooks, reads = done["/cds-services"], done["/fhir/Patient"]
    assert set(hooks) <= {200}
    assert set(reads) <= {200, 503}


async def _offered(served: Served, *, rate: float, seconds: float) -> dict[str, Counter]:
    """Requests at their times, whether or not the earlier ones are answered."""
    done = {"/cds-services": Counter(), "/fhir/Patient": Counter()}
    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(base_url=served.url, limits=limits, timeout=30) as http:

        async def one(path: str) -> None:
            done[path][(await http.get(path)).status_code] += 1

        started, tasks = time.monotonic(), []
        for number in range(int(rate * seconds)):
            wait = started + number / rate - time.monotonic()
            if wait > 0.001:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(list(done)[number % 10 != 0])))
        await asyncio.gather(*tasks)
    return done
