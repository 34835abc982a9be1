"""Observation/$lastn: the newest observations of each kind (observation-operation-lastn.html).

The search parameters of Observation say which are meant. Observations are of one kind when their
codes share a coding, directly or by way of others; a code that is text alone is its text. Each
kind gives its newest `max`, and those that tie with the last of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, NotSupported, TooCostly
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.interactions.audit import disclose_search
from fhir_gateway.interactions.operation_definitions import Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.interactions.people import people_of
from fhir_gateway.interactions.permits import check_plan
from fhir_gateway.interactions.search_answer import ids_of, of_persons, said_of
from fhir_gateway.interactions.search_codes import codes_for
from fhir_gateway.search.context import INT64_MAX, INT64_MIN
from fhir_gateway.search.page import self_link
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.registry import searchables
from fhir_gateway.search.results import PERSON, RESULTS
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Stored

LASTN = Definition(
    code="lastn",
    title="The newest observations of each code",
    says=(
        "The newest observations of one subject, grouped by code. Takes the search parameters of "
        "Observation: patient or subject, and category or one that contains a code, are required; "
        "what shapes a result (_sort, _count, _include …) is refused. A Patient stands for all "
        "records of the person unless _person=false."
    ),
    types=("Observation",),
    levels=("type",),
    takes=(P("max", "positiveInt", "How many of each code; 1 when left out"),),
    gives=(P("return", "Bundle", "A searchset, newest first within each code", 1),),
    standard="Observation-lastn",
    search=True,
)

#: Observations that are looked through, and that are answered, at most.
MOST_SEEN, MOST_GIVEN = 20_000, 5_000

_PIECE = 500
_SUBJECTS = frozenset({"patient", "subject"})
_NEVER = (INT64_MIN, INT64_MIN)


class _Coding(msgspec.Struct, frozen=True):
    system: str = ""
    code: str = ""


class _Code(msgspec.Struct, frozen=True):
    coding: tuple[_Coding, ...] = ()
    text: str = ""


class _Period(msgspec.Struct, frozen=True):
    start: str = ""
    end: str = ""


class _Timing(msgspec.Struct, frozen=True):
    event: tuple[str, ...] = ()


class _Observation(msgspec.Struct, frozen=True, rename="camel"):
    """What grouping and order depend on."""

    code: _Code = _Code()
    effective_date_time: str = ""
    effective_instant: str = ""
    effective_period: _Period = _Period()
    effective_timing: _Timing = _Timing()


_decoder = msgspec.json.Decoder(_Observation)

Name = tuple[str, str]


class _Seen:
    """The observations so far, by kind. Kinds grow together when an observation has both codes."""

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._parents: dict[Name, Name] = {}
        self.found: list[tuple[Name, tuple[int, int], Stored]] = []

    def add(self, stored: Stored) -> None:
        observation = _decoder.decode(stored.whole())
        names = _names(observation.code) or [("id", stored.id)]
        roots = [self.kind(name) for name in names]
        for root in roots[1:]:
            self._parents[self.kind(root)] = self.kind(roots[0])
        self.found.append((names[0], _effective(observation, self._zone), stored))

    def kind(self, name: Name) -> Name:
        """The name that stands for all that are equal to this one."""
        parents = self._parents
        while (parent := parents.setdefault(name, name)) != name:
            parents[name] = parents[parent]
            name = parent
        return name

    def newest(self, most: int) -> list[Stored]:
        """The newest of each kind, kinds in the order of their newest."""
        self.found.sort(key=lambda one: (one[1], one[2].rid), reverse=True)
        kinds: dict[Name, list[tuple[tuple[int, int], Stored]]] = {}
        for name, time, stored in self.found:
            members = kinds.setdefault(self.kind(name), [])
            if len(members) < most or members[-1][0] == time:
                members.append((time, stored))
        return [stored for members in kinds.values() for _, stored in members]


def _names(code: _Code) -> list[Name]:
    codings = [(one.system, one.code) for one in code.coding if one.code]
    return codings or ([("text", code.text)] if code.text else [])


def _effective(observation: _Observation, zone: str) -> tuple[int, int]:
    """(end, begin) of what is effective, in microseconds; what has no time comes last."""
    points = [observation.effective_date_time, observation.effective_instant]
    points += observation.effective_timing.event
    ranges = [date_range(text, zone) for text in points if text]
    period = observation.effective_period
    if period.start or period.end:
        low = date_range(period.start, zone)[0] if period.start else INT64_MIN
        high = date_range(period.end, zone)[1] if period.end else INT64_MAX
        ranges.append((low, high))
    return max(((high, low) for low, high in ranges), default=_NEVER)


async def lastn(gateway: Gateway, actor: Actor, call: Call) -> bytes:
    """A searchset of the newest observations of each code, with their total.

    Raises Invalid without a subject or without a category or code, and for search parameters that
    are wrong; NotSupported for those that shape a result; TooCostly instead of leaving any out.
    """
    _check(call.pairs)
    plan = plan_search(
        "Observation",
        call.pairs,
        secret=gateway.store.index_key,
        base_url=gateway.settings.base_url or call.base,
        zone=gateway.settings.zone,
        lenient=call.lenient,
        page_limit=gateway.settings.page_limit,
        codes=await codes_for(gateway, call.pairs, base=call.base),
        naming=gateway.extractor.naming,
    )
    _check(plan.applied)  # lenient handling may have dropped one
    check_plan(gateway, actor, plan)
    async with gateway.store.snapshot(actor.access) as reader:
        people = await people_of(reader, plan.people)
    plan = of_persons(plan, people)
    seen = _Seen(gateway.settings.zone)
    await _look_through(gateway, actor, plan, seen)
    maximum = call.value("max")
    newest = seen.newest(maximum or 1)
    if len(newest) > MOST_GIVEN:
        raise TooCostly(
            f"The answer would hold over {MOST_GIVEN} observations; ask for a smaller max, or for "
            "one category or code",
            expression="max",
        )
    asked = [("max", str(maximum)), *plan.applied] if maximum else list(plan.applied)
    link = self_link("", SearchPlan("Observation/$lastn", applied=tuple(asked))).removeprefix("/")
    async with gateway.store.snapshot(actor.access) as reader:
        said = await said_of(gateway, reader, actor, plan, people, newest)
    await disclose_search(
        gateway,
        actor,
        asked=link,
        bound=plan.patients,
        named=ids_of(people) if said else (),
        matches=newest,
        interaction="operation",
    )
    hits = [bundle.Hit(f"{call.base}/{one.type}/{one.id}", one.whole()) for one in newest]
    links = [("self", f"{call.base}/{link}")]
    return bundle.searchset([*hits, *said], links=links, total=len(hits))


def _check(pairs: Iterable[tuple[str, str]]) -> None:
    bases = {name.partition(":")[0].partition(".")[0] for name, _ in pairs}
    for base in sorted(bases):
        if base in RESULTS and base != PERSON:
            raise NotSupported(
                f"$lastn has an order and a size of its own; leave {base} out",
                expression=base,
                rule="parameter",
            )
    if not bases & _SUBJECTS:
        raise Invalid("$lastn needs patient or subject", expression="patient", rule="required")
    coded = {code for code in searchables("Observation") if "code" in code.split("-")}
    if not bases & (coded | {"category"}):
        raise Invalid(
            "$lastn needs category, code or another parameter that contains a code",
            expression="category",
            rule="required",
        )


async def _look_through(gateway: Gateway, actor: Actor, plan: SearchPlan, seen: _Seen) -> None:
    """All that the search finds, piece by piece, each on a snapshot of its own."""
    after: tuple[Any, ...] | None = None
    while True:
        piece = msgspec.structs.replace(plan, count=_PIECE, after=after)
        async with gateway.store.snapshot(actor.access) as reader:
            page = await reader.search(piece)
        for stored in page.matches:
            seen.add(stored)
        if page.next is None:
            return
        if len(seen.found) >= MOST_SEEN:
            raise TooCostly(
                f"Over {MOST_SEEN} observations meet this; add a date or a code",
                expression="date",
            )
        after = page.next
