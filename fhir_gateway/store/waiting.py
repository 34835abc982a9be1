"""What waits to be written, and who waits for it: the same queue before both writers."""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

from fhir_gateway.errors import Unavailable
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.jobs import Command
from fhir_gateway.store.log import LogCommand
from fhir_gateway.store.refusals import Refusal, error_of

#: More than this many waiting requests are refused: the callers are faster than the disk.
MOST_WAITING = 10_000

#: Every so many requests one that is not urgent goes first, so that none waits for ever.
FAIRNESS = 16


class Drain(NamedTuple):
    """A request to give the next journal entries their index rows; answered by how many.

    As housework it also forgets old change-set ids.
    """

    housework: bool = False


Work = ChangeSet | Command | LogCommand | Drain


class Lost(Exception):
    """The writer is gone or going; the request may or may not be done. Send it to the next one."""


class Pending(NamedTuple):
    """A request and who waits for it."""

    work: Work
    future: asyncio.Future[Any]


class Waiting:
    """The queue: urgent change sets, commands and drains before ordinary ones, each in order."""

    def __init__(self) -> None:
        self._urgent: deque[Pending] = deque()
        self._ordinary: deque[Pending] = deque()
        self._picked = 0

    def __len__(self) -> int:
        return len(self._urgent) + len(self._ordinary)

    def add(self, work: Work) -> asyncio.Future[Any]:
        """The outcome to come. Raises Unavailable when too much is waiting."""
        if len(self) >= MOST_WAITING:
            raise Unavailable("More is waiting to be written than can be", rule="backlog")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        is_ordinary = type(work) is ChangeSet and not work.urgent
        (self._ordinary if is_ordinary else self._urgent).append(Pending(work, future))
        return future

    def next(self) -> Pending | None:
        """The next request, taken out."""
        self._picked += 1
        if self._ordinary and (not self._urgent or self._picked % FAIRNESS == 0):
            return self._ordinary.popleft()
        return self._urgent.popleft() if self._urgent else None

    def put_back(self, pendings: Iterable[Pending]) -> None:
        """These come first again, in their order."""
        self._urgent.extendleft(reversed([*pendings]))

    def take_all(self) -> list[Pending]:
        """Everything, taken out."""
        waiting = [*self._urgent, *self._ordinary]
        self._urgent.clear()
        self._ordinary.clear()
        return waiting


def tell(future: asyncio.Future[Any], outcome: Any) -> None:
    """Resolves the future of a caller that still waits."""
    if future.done():
        return
    if isinstance(outcome, Refusal):
        future.set_exception(error_of(outcome))
    elif isinstance(outcome, BaseException):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def tell_all(pendings: Iterable[Pending], error: BaseException) -> None:
    """The same refusal for everybody who still waits."""
    for pending in pendings:
        tell(pending.future, error)


def place_of(error: BaseException) -> str:
    """Class and place of a fault, without its text, which might quote a patient's data."""
    places = "".join(traceback.format_tb(error.__traceback__))
    return f"{error.__class__.__name__}\n{places}"
