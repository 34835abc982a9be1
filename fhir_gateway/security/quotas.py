"""How much each client may ask: points in a purse that fills again, and a purse for misses.

A request costs points by its kind (profiles/access/quotas.toml); a purse is a token bucket. What
was not found is counted apart, because guessing the numbers of persons is cheap to ask and dear to
allow. Calls that an order waits for are counted and never refused: the receiving doctor decides.
The purses lie in the memory of one process, a bounded number of them. Takes the time as an
argument, in microseconds. draft-ietf-httpapi-ratelimit-headers; OWASP API4:2023.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Throttled
from fhir_gateway.security.actor import Actor

#: Kinds of requests that an order or an emergency waits for: counted, never refused.
SPARED = frozenset({"hook", "feedback", "$recognize", "$answer", "$break-glass"})
#: Kinds that find out whether something is there: they stop when the purse of misses is empty.
LOOKUPS = frozenset({"read", "history", "search", "operation", "$match", "$ihe-pix", "$everything",
                     "$lastn", "$prior-results"})  # fmt: skip
#: Kinds that every tariff has a price for; an operation without one of its own costs `operation`.
KINDS = ("metadata", "read", "history", "search", "create", "update", "patch", "delete", "bundle",
         "operation", "job", "file", "message", "hook", "feedback")  # fmt: skip
#: Purses that one process keeps.
MOST_PURSES = 20_000

_MILLION = 1_000_000


class Budget(NamedTuple):
    """What a client may spend: points at once and points a second, and the same of misses."""

    burst: int
    per_second: float
    misses: int
    misses_per_second: float


class Tariff(NamedTuple):
    """What the file says: points by kind, budgets by role and by client or institution."""

    costs: Mapping[str, int]
    budgets: Mapping[str, Budget]
    clients: Mapping[str, Budget]


@dataclass(slots=True)
class Purse:
    """Points at a moment: a token bucket. `said` until it is half full again, so that an alarm is
    raised once."""

    size: float
    rate: float  # points a microsecond
    points: float
    at: int
    said: bool = False

    def fill(self, now: int) -> float:
        """The points of this moment; a clock that steps back brings none."""
        if now > self.at:
            self.points = min(self.size, self.points + (now - self.at) * self.rate)
        self.at = now
        if self.said and self.points * 2 > self.size:
            self.said = False
        return self.points

    @property
    def window(self) -> int:
        """Seconds in which an empty purse fills."""
        return ceil(self.size / self.rate / _MILLION)

    def seconds_until(self, points: float) -> int:
        """Seconds until so many points are there."""
        missing = min(points, self.size) - self.points
        return max(1, ceil(missing / self.rate / _MILLION)) if missing > 0 else 0


@dataclass(slots=True)
class Quotas:
    """The purses of one process; of `processes` that share the work each keeps its part."""

    tariff: Tariff
    processes: int = 1
    _points: dict[str, Purse] = field(default_factory=dict)
    _misses: dict[str, Purse] = field(default_factory=dict)

    def spend(self, actor: Actor, kind: str, now: int, *, more: int = 0) -> Purse | None:
        """Takes what a request costs; the purse it came from, None for a caller without a budget.

        Raises Throttled when the purse cannot pay, or when it is a lookup and the purse of misses
        is empty; `after` says in how many seconds it can. A spared kind only empties it.
        """
        key = _key(actor)
        purse = self._points.get(key)
        if purse is None:
            budget = self._budget(actor)
            if budget is None:
                return None
            purse = self._new(self._points, key, budget.burst, budget.per_second, now)
        costs = self.tariff.costs
        cost = (costs.get(kind) or costs["operation"]) + more
        points = purse.fill(now)
        if points < cost and kind not in SPARED:
            raise _throttled("This client has spent its quota", "quota", purse.seconds_until(cost))
        if self._misses and kind in LOOKUPS and key in self._misses:
            self._check_misses(self._misses[key], now)
        purse.points = points - cost if points > cost else 0.0
        return purse

    def is_spent(self, actor: Actor) -> bool:
        """Whether a caller has nothing left, which is told once until it has something again."""
        purse = self._points.get(_key(actor))
        return purse is not None and purse.points < 1 and _first(purse)

    def miss(self, actor: Actor, now: int) -> bool:
        """Counts something that was not found. True when it emptied the purse: an alarm."""
        budget = self._budget(actor)
        return budget is not None and self._missed(_key(actor), budget, now)[1]

    def stranger(self, address: str, now: int) -> tuple[int, bool]:
        """Counts a credential that was none, from an address.

        Seconds after which the address may try again, 0 when it need not wait, and whether this
        is the one that emptied its purse.
        """
        budget = self.tariff.budgets.get("address")
        if budget is None:
            return 0, False
        purse, first = self._missed(f"address {neighbourhood(address)}", budget, now)
        return (purse.seconds_until(1) if purse.points < 1 else 0), first

    def _missed(self, key: str, budget: Budget, now: int) -> tuple[Purse, bool]:
        purse = self._misses.get(key)
        if purse is None:
            purse = self._new(self._misses, key, budget.misses, budget.misses_per_second, now)
        purse.points = max(0.0, purse.fill(now) - 1)
        return purse, purse.points < 1 and _first(purse)

    def _check_misses(self, purse: Purse, now: int) -> None:
        if purse.fill(now) < 1:
            raise _throttled(
                "This client asked for too much that is not there",
                "quota-misses",
                purse.seconds_until(1),
            )

    def _budget(self, actor: Actor) -> Budget | None:
        clients = self.tariff.clients
        if clients:
            own = clients.get(actor.client) or clients.get(actor.institution or "")
            if own is not None:
                return own
        return self.tariff.budgets.get(actor.role)

    def _new(self, purses: dict[str, Purse], key: str, size: float, rate: float, now: int) -> Purse:
        if len(purses) >= MOST_PURSES:
            _make_room(purses, now)
        share = max(1.0, size / self.processes)
        purse = purses[key] = Purse(share, rate / self.processes / _MILLION, share, now)
        return purse


def _first(purse: Purse) -> bool:
    said, purse.said = purse.said, True
    return not said


def _make_room(purses: dict[str, Purse], now: int) -> None:
    """Forgets those that are full, which are like new ones, else the half that is fullest."""
    by_need = sorted(purses, key=lambda key: purses[key].fill(now) / purses[key].size)
    full = [key for key in by_need if purses[key].points >= purses[key].size]
    for key in full or by_need[len(by_need) // 2 :]:
        del purses[key]


def _key(actor: Actor) -> str:
    """Whose purse it is: a person's within a client, else the client's or the institution's."""
    return f"{actor.role} {actor.client or actor.institution or actor.name} {actor.user}"


def neighbourhood(address: str) -> str:
    """An address as one client has it: of IPv6 the network of 64 bits, of IPv4 all of it."""
    if ":" not in address:
        return address
    head = address.partition("::")[0].split(":")
    return ":".join(head[:4])


def _throttled(says: str, rule: str, after: int) -> Throttled:
    error = Throttled(f"{says}: come again in {max(1, after)} s", rule=rule)
    error.after = max(1, after)
    return error


# -- the file -------------------------------------------------------------------------------------

_FIELDS = {"burst": 1, "per_second": 0, "misses": 1, "misses_per_second": 0}


def load_quotas(file: Path) -> Tariff:
    """The tariff of a file. Raises Invalid for one that cannot be read or meant."""
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError):
        raise _wrong(f"{file.name} cannot be read as TOML") from None
    if unknown := set(told) - {"costs", "budgets", "clients"}:
        raise _wrong(f"{file.name} has a table {sorted(unknown)[0]} that means nothing")
    return Tariff(
        _costs(told.get("costs", {})),
        {name: _read_budget(name, one) for name, one in told.get("budgets", {}).items()},
        {name: _read_budget(name, one) for name, one in told.get("clients", {}).items()},
    )


def _costs(told: Mapping[str, Any]) -> Mapping[str, int]:
    for kind, points in told.items():
        if kind not in KINDS and not kind.startswith("$"):
            raise _wrong(f"costs.{kind} is no kind of request: {', '.join(KINDS)} or $operation")
        if type(points) is not int or not 1 <= points <= _MILLION:
            raise _wrong(f"costs.{kind} must be a whole number from 1")
    if missing := [kind for kind in KINDS if kind not in told]:
        raise _wrong(f"costs.{missing[0]} is missing")
    return dict(told)


def _read_budget(name: str, told: Any) -> Budget:
    if not isinstance(told, dict) or set(told) != set(_FIELDS):
        raise _wrong(f"the budget of {name} has {', '.join(_FIELDS)} and nothing else")
    for key, least in _FIELDS.items():
        value = told[key]
        if type(value) not in (int, float) or not least <= value <= 1e12 or value <= 0:
            raise _wrong(f"{key} of {name} must be a number above 0")
    return Budget(**told)


def _wrong(says: str) -> Invalid:
    return Invalid(f"quotas: {says}", rule="setting-value")
