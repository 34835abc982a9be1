"""More requests than the process can work on: what an order waits for goes first.

A process works on so many requests at once (`concurrency`). Further ones wait, each in the lane of
its kind, and enter in the order of the lanes; lower lanes leave room for the higher ones. A request
that would wait longer than its lane has patience is refused at once, with 503 and Retry-After: a
late answer is worth nothing and costs the others. A call of a hook is not even refused: its answer
is the card that nothing was decided. Liveness stays true, readiness is false while requests are
refused. One process, one loop; docs/hardening.md.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from enum import IntEnum
from math import ceil
from time import monotonic
from typing import Any, NamedTuple

from fhir_gateway.errors import Unavailable
from fhir_gateway.rest.exchange import Scope

App = Callable[[Scope, Any, Any], Any]


class Lane(IntEnum):
    """Kinds of work, the first of them first."""

    EMERGENCY = 0
    DECISION = 1
    READ = 2
    BOOKING = 3
    INGEST = 4
    EXPORT = 5


class Share(NamedTuple):
    """Of the process's places: `below` is how many may be taken when one of this lane enters,
    `own` how many the lane itself may have. `patience` is how many seconds one waits."""

    below: float
    own: float
    patience: float


SHARES: Mapping[Lane, Share] = {
    Lane.EMERGENCY: Share(1.0, 1.0, 5.0),
    Lane.DECISION: Share(1.0, 1.0, 0.3),
    Lane.READ: Share(0.9, 0.9, 1.5),
    Lane.BOOKING: Share(0.85, 0.85, 2.0),
    Lane.INGEST: Share(0.75, 0.75, 5.0),
    Lane.EXPORT: Share(0.5, 0.25, 5.0),
}
#: Requests that wait, for each place.
_QUEUE = 4
#: Seconds for which a refusal makes the process not ready.
SHEDDING_SECONDS = 5.0

_OPEN = frozenset({"/healthz", "/metrics"})
_BUSY = b'{"status":"shedding"}'


def lane_of(method: str, path: str) -> Lane:
    """The lane of a request, by its method and path alone: nothing is parsed for one that waits."""
    if path.startswith("/fhir"):
        segments = path[6:].split("/")
        last = segments[-1]
        known = _LANES.get(last, _LANES.get(segments[0]))
        if known is not None:
            return known
        is_read = method in _READING or last == "_search" or last[:1] == "$"
        return Lane.READ if is_read else Lane.INGEST
    return _DOORS.get(path[1:].partition("/")[0], Lane.READ)


#: By the first segment of a path.
_DOORS = {"cds-services": Lane.DECISION, "oauth": Lane.DECISION, "hl7v2": Lane.INGEST,
          "cda": Lane.INGEST}  # fmt: skip
#: Below the FHIR base by the last segment, or else by the first.
_LANES = {
    "$break-glass": Lane.EMERGENCY,
    "$recognize": Lane.DECISION,
    "$answer": Lane.DECISION,
    "$acknowledge": Lane.DECISION,
    "$export": Lane.EXPORT,
    "_async": Lane.EXPORT,
    "Appointment": Lane.BOOKING,
    "AppointmentResponse": Lane.BOOKING,
    "Schedule": Lane.BOOKING,
    "Slot": Lane.BOOKING,
}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


class Gate:
    """Who may work now. `now` is a clock that never steps back, in seconds."""

    def __init__(self, places: int, now: Callable[[], float] = monotonic) -> None:
        self._now, self._places = now, places
        self._below = [max(1, int(places * SHARES[lane].below)) for lane in Lane]
        self._own = [max(1, int(places * SHARES[lane].own)) for lane in Lane]
        self._waiting: tuple[deque[asyncio.Future[None]], ...] = tuple(deque() for _ in Lane)
        self._inside = [0] * len(Lane)
        self.running = 0
        self.refused_at = float("-inf")
        self._seconds = 0.0  # that a request takes, of late

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting))

    def is_shedding(self) -> bool:
        """Whether somebody was refused of late."""
        return self._now() - self.refused_at < SHEDDING_SECONDS

    async def enter(self, lane: Lane) -> None:
        """Returns when a place is taken, which `leave` gives back. Raises Unavailable."""
        if self._has_room(lane) and not any(self._waiting[: lane + 1]):
            self._take(lane)
            return
        patience = SHARES[lane].patience
        ahead = sum(map(len, self._waiting[: lane + 1]))
        if ahead >= _QUEUE * self._places or self._wait(ahead) > patience:
            raise self._refusal(ahead)
        place = asyncio.get_running_loop().create_future()
        self._waiting[lane].append(place)
        try:
            async with asyncio.timeout(patience):
                await place
        except TimeoutError:
            self._give_up(lane, place)
            raise self._refusal(ahead) from None
        except BaseException:
            self._give_up(lane, place)
            raise

    def leave(self, lane: Lane, seconds: float) -> None:
        """Gives the place back, to the first who waits; `seconds` is how long it was taken."""
        self._inside[lane] -= 1
        self.running -= 1
        self._seconds += (seconds - self._seconds) * 0.05
        self._let_in()

    def _let_in(self) -> None:
        for lane in Lane:
            queue = self._waiting[lane]
            while queue and self._has_room(lane):
                place = queue.popleft()
                if not place.done():
                    self._take(lane)
                    place.set_result(None)

    def _has_room(self, lane: Lane) -> bool:
        return self.running < self._below[lane] and self._inside[lane] < self._own[lane]

    def _take(self, lane: Lane) -> None:
        self._inside[lane] += 1
        self.running += 1

    def _give_up(self, lane: Lane, place: asyncio.Future[None]) -> None:
        """Of one who waits no longer: out of the queue, or his place to the next."""
        if place.done() and not place.cancelled():
            self.leave(lane, self._seconds)
        else:
            place.cancel()
            if place in self._waiting[lane]:
                self._waiting[lane].remove(place)

    def _wait(self, ahead: int) -> float:
        """Seconds that one waits behind so many others, as far as one can know."""
        return (ahead + 1) * self._seconds / self._places

    def _refusal(self, ahead: int) -> Unavailable:
        self.refused_at = self._now()
        error = Unavailable("The gateway has more to do than it can: try again", rule="busy")
        error.after = max(1, min(30, ceil(self._wait(ahead))))
        return error


class Shedding:
    """The doors behind a gate. `instead` is what a hook's call is answered that may not enter."""

    def __init__(
        self, app: App, gate: Gate, *, instead: bytes, count: Callable[[str, int], None]
    ) -> None:
        self.app, self.gate, self._instead, self._count = app, gate, instead, count

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """One request, when its turn has come. Raises Unavailable when it would not come."""
        path, gate = scope["path"], self.gate
        if path in _OPEN or path == "/readyz":
            if path == "/readyz" and gate.is_shedding():
                await _answer(send, 503, _BUSY)
            else:
                await self.app(scope, receive, send)
            return
        lane = lane_of(scope["method"], path)
        try:
            await gate.enter(lane)
        except Unavailable:
            self._count("shed", 1)
            if not _is_hook(scope["method"], path):
                raise
            scope["template"] = "/cds-services/{id}"
            self._count("hooks_undecided", 1)
            await _answer(send, 200, self._instead)
            return
        started = monotonic()
        try:
            await self.app(scope, receive, send)
        finally:
            gate.leave(lane, monotonic() - started)


def _is_hook(method: str, path: str) -> bool:
    """A hook's own call; feedback is not on record unless it was stored."""
    return method == "POST" and path.startswith("/cds-services/") and path.count("/") == 2


async def _answer(send: Any, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        *([(b"retry-after", b"1")] if status == 503 else ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
