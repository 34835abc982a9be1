"""The Gateway value: what every interaction is handed. Made once by app.build, never changed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from fhir_gateway.search.index import Extractor
from fhir_gateway.security.policy import Policy, policy_of
from fhir_gateway.security.quotas import Quotas
from fhir_gateway.security.rights import Rights, rights_of
from fhir_gateway.security.tokens import Known
from fhir_gateway.settings import Settings
from fhir_gateway.store.changes import Derived
from fhir_gateway.store.store import Store
from fhir_gateway.terminology.local_codes import LocalCodes

#: Reads facts, identity keys or register rows from a resource and adds them to `Derived`. Pure.
Deriver = Callable[[dict[str, Any], Derived], None]

#: Adds catalogue codings to a resource of an institution, in place. Pure. Returns the elements
#: that were coded and those that no map knows, as FHIRPath expressions.
Coder = Callable[[dict[str, Any], str], tuple[list[str], list[str]]]

#: Judges what a write would store of what the gateway decides by, on its snapshot:
#: (gateway, reader, actor, steps, guards). Raises what refuses it, adds guards that keep it true.
Governor = Callable[..., Awaitable[None]]

#: Takes (gateway, actor, sent) and does what a message asks for; gives the bytes of its answer,
#: None for a message that asks for nothing and is stored as it is.
Requests = Callable[..., Awaitable[bytes | None]]

#: Counts events by name (unmapped, commits …) for the operator's metrics.
Counter = Callable[[str, int], None]

_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _BASE32 for second in _BASE32]
_SHIFTS = tuple(range(120, -1, -10))


class Clock(Protocol):
    """The time, injected everywhere."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""


class SystemClock:
    """The machine's wall clock."""

    def now(self) -> int:
        """Microseconds since 1970 UTC."""
        return time.time_ns() // 1000


class PooledRandom:
    """os.urandom in larger helpings: a system call for each id would cost more than the id.

    Every thread has a helping of its own, and a forked process starts without one, so that no
    byte is ever given out twice.
    """

    HELPING = 8_192

    def __init__(self) -> None:
        self._mine = threading.local()
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self, count: int) -> bytes:
        """So many random bytes."""
        mine = self._mine
        at: int = getattr(mine, "at", self.HELPING)
        if at + count > self.HELPING:
            if count > self.HELPING:
                return os.urandom(count)
            mine.bytes, at = os.urandom(self.HELPING), 0
        mine.at = at + count
        given: bytes = mine.bytes[at : at + count]
        return given

    def _forget(self) -> None:
        self._mine = threading.local()


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything an interaction may use.

    `audit` is always True in the product: the benchmark alone builds one without, to compare
    with servers that keep no audit. `local_codes` are the codes of the institutions, brought up
    to date by interactions.local_codes; commands that store no results have none. `policy` says by
    which legal basis outside results are seen, and which classes are sensitive. `tokens`
    remembers for seconds who a bearer token belongs to, by its hash. `quotas` are the purses of
    callers; a command has none. `started` is when the process began.
    """

    settings: Settings
    store: Store
    extractor: Extractor
    clock: Clock
    derivers: tuple[Deriver, ...] = ()
    governors: tuple[Governor, ...] = ()
    requests: Requests | None = None
    local_codes: LocalCodes | None = None
    random: Callable[[int], bytes] = os.urandom
    policy: Policy = field(default_factory=lambda: policy_of(""))
    audit: bool = True
    started: int = 0
    count: Counter = lambda name, by: None
    tokens: dict[bytes, Known] = field(default_factory=dict)
    quotas: Quotas | None = None

    @property
    def rights(self) -> Rights:
        """What each role may do: the table in the folder of profiles, read once."""
        return rights_of(self.settings.profiles)

    @property
    def coders(self) -> tuple[Coder, ...]:
        """What codes as of now: others once the maps of local codes are known to have changed."""
        return self.local_codes.coders if self.local_codes is not None else ()


def new_id(gateway: Gateway) -> str:
    """A logical id that nobody has: 26 characters, sorting by time (48 bits ms, 80 random)."""
    number = ((gateway.clock.now() // 1000) << 80) | int.from_bytes(gateway.random(10), "big")
    return "".join([_PAIRS[(number >> shift) & 1023] for shift in _SHIFTS])
