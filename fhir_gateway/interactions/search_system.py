"""search across types: [base]?_type=Observation,Condition&… and a whole compartment,
[base]/Patient/123/* (hl7.org/fhir/R4/http.html#search, search.html#base).

The answer goes through the types in order, each as if it were searched alone; a page link says in
which type it goes on. So parameters are those that all of these types know, and what orders or
joins matches across types is refused: _sort, _include and _revinclude take one type.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid, NotSupported
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.interactions.audit import audited, disclose_search
from fhir_gateway.interactions.paging import holder_of
from fhir_gateway.interactions.people import people_of
from fhir_gateway.interactions.permits import check_plan, check_types, searched
from fhir_gateway.interactions.search_answer import hits, ids_of, links, of_persons, said_of
from fhir_gateway.interactions.search_codes import codes_for
from fhir_gateway.interactions.types import check_type, interactions_of
from fhir_gateway.search.compartment import member_types, plan_compartment
from fhir_gateway.search.context import Codes
from fhir_gateway.search.page import (
    Holder,
    begin_cursor,
    check_beginning,
    encode_cursor,
    not_of_this,
    resume,
    self_link,
)
from fhir_gateway.search.params import parse_name, shown
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.results import CURSOR
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader, Stored

Pairs = Sequence[tuple[str, str]]
Planner = Callable[[str, Pairs], SearchPlan]

#: Between the type in which a page goes on and the place in it; twice before its beginning.
_MARK = "~"

#: What makes no sense across types.
_ONE_TYPE = {
    "_sort": "the types follow one another",
    "_include": "it starts from one type",
    "_revinclude": "it points to one type",
    "__explain": "each type has a plan of its own",
}


class Found(NamedTuple):
    """One page across types. `following` is the type in which the next page begins, and after
    which match of it; None on the last page."""

    matches: list[Stored]
    included: list[Stored]
    following: tuple[int, tuple[int | str, ...] | None] | None
    total: int | None


@audited("search-system")
async def search_system(
    gateway: Gateway, actor: Actor, *, pairs: Pairs, base: str, lenient: bool = False
) -> bytes:
    """A searchset of one page across the types of `_type`.

    Raises Invalid and NotSupported for what any of the types refuses, and without `_type`;
    TooCostly when one of them would visit too many rows.
    """
    types, rest = _take_types(pairs)
    if not types:
        raise NotSupported(
            "Say with _type which types to search, such as _type=Observation,Condition",
            expression="_type",
            rule="search-type",
        )
    check_types(gateway, actor, types, expression="_type")
    plans = await _plans(gateway, types, rest, base, lenient, None)
    asked = f"?{urlencode(pairs)}" if lenient else ""
    return await _answer(gateway, actor, plans, base, asked)


@audited("search-system")
async def search_whole_compartment(
    gateway: Gateway,
    actor: Actor,
    *,
    compartment: str,
    owner: str,
    pairs: Pairs,
    base: str,
    lenient: bool = False,
) -> bytes:
    """A searchset of one page of all that is in a compartment, or of the types of `_type` in it.

    Raises NotFound for a compartment that R4 does not have, and what `search_system` raises.
    """
    members = [type for type in member_types(compartment) if interactions_of(type)]
    types, rest = _take_types(pairs)
    check_types(gateway, actor, types, expression="_type")
    members = searched(gateway, actor, members)
    plans = await _plans(gateway, types or members, rest, base, lenient, (compartment, owner))
    if not types:
        plans = [msgspec.structs.replace(plan, applied=plan.applied[1:]) for plan in plans]
    asked = f"{compartment}/{owner}/*?{urlencode(pairs)}" if lenient else ""
    return await _answer(gateway, actor, plans, base, asked)


def _take_types(pairs: Pairs) -> tuple[list[str], Pairs]:
    """The types of `_type`, and the other parameters."""
    given = [text for name, text in pairs if name == "_type"]
    if not given:
        return [], pairs
    types = list(dict.fromkeys(given[0].split(",")))
    for type in types:
        if type not in definitions().resource_type_set or len(given) > 1:
            raise Invalid(
                "_type is one list of resource types of FHIR R4",
                expression="_type",
                rule="search-value",
            )
        check_type(type, "search-type")
    return types, [pair for pair in pairs if pair[0] != "_type"]


async def _plans(
    gateway: Gateway,
    types: Sequence[str],
    pairs: Pairs,
    base: str,
    lenient: bool,
    owner: tuple[str, str] | None,
) -> list[SearchPlan]:
    """A plan for each type; what lenient handling drops for one of them is dropped for all."""
    _check_joint(types, pairs)
    codes = await codes_for(gateway, pairs, base=base)
    plan = _planner(gateway, base, lenient, owner, codes)
    plans = [plan(type, pairs) for type in types]
    dropped = tuple(dict.fromkeys(name for one in plans for name in one.dropped))
    if dropped:
        kept = [pair for pair in pairs if shown(pair[0]) not in dropped]
        plans = [plan(type, kept) for type in types]
    named = ("_type", ",".join(types))
    return [
        msgspec.structs.replace(one, applied=(named, *one.applied), dropped=dropped)
        for one in plans
    ]


def _check_joint(types: Sequence[str], pairs: Pairs) -> None:
    for name, _ in pairs if len(types) > 1 else ():
        why = _ONE_TYPE.get(parse_name(name).base)
        if why is not None:
            raise NotSupported(
                f"{shown(name)} takes a search of one type: {why}",
                expression=shown(name),
                rule="search-types",
            )


def _planner(
    gateway: Gateway,
    base: str,
    lenient: bool,
    owner: tuple[str, str] | None,
    codes: Codes | None,
) -> Planner:
    settings = gateway.settings

    def plan(type: str, pairs: Pairs) -> SearchPlan:
        try:
            if owner is None:
                return plan_search(
                    type, pairs, secret=gateway.store.index_key,
                    base_url=settings.base_url or base, zone=settings.zone, lenient=lenient,
                    page_limit=settings.page_limit, codes=codes,
                    naming=gateway.extractor.naming,
                )  # fmt: skip
            return plan_compartment(
                *owner, type, pairs, secret=gateway.store.index_key,
                base_url=settings.base_url or base, zone=settings.zone, lenient=lenient,
                page_limit=settings.page_limit, codes=codes,
                naming=gateway.extractor.naming,
            )  # fmt: skip
        except GatewayError as error:
            raise _said_of(type, error) from None

    return plan


def _said_of(type: str, error: GatewayError) -> GatewayError:
    """The refusal, with the type whose it is: each type has parameters of its own."""
    issue = error.issues[0]
    return error.__class__(
        f"Of {type}: {issue.diagnostics}", expression=issue.expression, rule=issue.rule
    )


async def _answer(
    gateway: Gateway, actor: Actor, plans: Sequence[SearchPlan], base: str, asked: str
) -> bytes:
    holder = holder_of(gateway, actor)
    for plan in plans:
        check_plan(gateway, actor, plan)
    async with gateway.store.snapshot(actor.access) as reader:
        people = await people_of(reader, dict.fromkeys(id for one in plans for id in one.people))
        plans = [of_persons(one, people) for one in plans]
        first, after = _place(plans, holder)
        found = await _page(reader, plans, first, after)
        said: list[bundle.Hit] = []
        if plans[0].cursor is None:
            said = await said_of(gateway, reader, actor, plans[0], people, found.matches)
    # the address of the search: no type, or * in a compartment
    whole = msgspec.structs.replace(plans[0], type="*" if plans[0].compartment else "")
    applied, following = self_link(base, whole), None
    if found.following is not None:
        index, last = found.following
        plan = plans[index]
        mark = begin_cursor(plan, holder) if last is None else encode_cursor(plan, last, holder)
        pair = (CURSOR, f"{plan.type}{_MARK * (1 + (last is None))}{mark}")
        following = self_link(base, msgspec.structs.replace(whole, applied=(*whole.applied, pair)))
    await disclose_search(
        gateway,
        actor,
        asked=asked or applied[len(base) + 1 :],
        bound=tuple(dict.fromkeys(id for plan in plans for id in plan.patients)),
        named=ids_of(people) if said else (),
        matches=found.matches,
        included=found.included,
        interaction="search-system",
    )
    return bundle.searchset(
        hits(whole, found.matches, found.included, base) + said,
        links=links(base, whole, applied, following),
        total=found.total,
    )


def _place(plans: Sequence[SearchPlan], holder: Holder) -> tuple[int, tuple[int | str, ...] | None]:
    """The type that this page begins with, and after which of its matches."""
    cursor = plans[0].cursor
    if cursor is None:
        return 0, None
    type, mark, place = cursor.partition(_MARK)
    for index, plan in enumerate(plans):
        if plan.type != type or not mark:
            continue
        if place.startswith(_MARK):
            check_beginning(plan, place.removeprefix(_MARK), holder)
            return index, None
        return index, resume(msgspec.structs.replace(plan, cursor=place), holder).after
    raise not_of_this()


async def _page(
    reader: Reader,
    plans: Sequence[SearchPlan],
    first: int,
    after: tuple[int | str, ...] | None,
) -> Found:
    total = await _total(reader, plans)
    if plans[0].only_count:
        return Found([], [], None, total)
    matches, included = list[Stored](), list[Stored]()
    following = None
    for index in range(first, len(plans)):
        left = plans[index].count - len(matches)
        if not left:
            if not await _has_matches(reader, plans[index]):
                continue
            following = (index, None)
            break
        page = await reader.search(
            msgspec.structs.replace(plans[index], count=left, after=after, total="none")
        )
        after = None
        matches += page.matches
        included += page.included
        if page.next is not None:
            return Found(matches, included, (index, page.next), total)
    if total is None and not first and following is None and plans[0].cursor is None:
        told = ("_total", "none") not in plans[0].applied
        total = len(matches) if told else None
    return Found(matches, included, following, total)


async def _total(reader: Reader, plans: Sequence[SearchPlan]) -> int | None:
    """The matches of all types, when they were asked for."""
    if not plans[0].only_count and plans[0].total == "none":
        return None
    total = 0
    for plan in plans:
        counted = msgspec.structs.replace(plan, only_count=True, after=None)
        total += (await reader.search(counted)).total or 0
    return total


async def _has_matches(reader: Reader, plan: SearchPlan) -> bool:
    one = msgspec.structs.replace(plan, count=1, after=None, total="none", includes=())
    return bool((await reader.search(one)).matches)
