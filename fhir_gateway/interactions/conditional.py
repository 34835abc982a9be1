"""Conditions that name one resource: If-None-Exist, conditional update, patch and delete,
conditional references (hl7.org/fhir/R4/http.html#ccreate, #cond-update; docs/adr/0007).

A condition is any search of one type. "No resource meets it" is a guard that the store judges
under its write lock, so that concurrent conditional creates make one resource whatever the
condition. One business identifier, `identifier=system|value`, is looked up in the global index by
the lock's holder (`Absent`). For every other search the guard is that nothing which could change
its result was committed since the snapshot it ran on (`Settled`); a request that is overtaken
searches again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, MultipleMatches, NotSupported, Structure
from fhir_gateway.interactions.references import JOURNAL_TYPES
from fhir_gateway.search.params import parse_name
from fhir_gateway.search.plan import AllOf, AnyOf, Chain, Has, SearchPlan, Token
from fhir_gateway.search.plan import Condition as SearchCondition
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.results import RESULTS
from fhir_gateway.security.actor import Access
from fhir_gateway.store.changes import Absent, Guard, Settled
from fhir_gateway.store.store import Reader


class Condition(NamedTuple):
    """A search of one type that is to find one resource. Two of the same `key` say the same.

    `absent` is the guard of a business identifier, None for any other search; then `types` are
    those whose versions can change the result.
    """

    type: str
    plan: SearchPlan
    key: Hashable
    absent: Absent | None
    types: tuple[str, ...]

    @property
    def line(self) -> Hashable:
        """Where requests wait whose search is overtaken by the same writes."""
        return self.types, self.plan.patients

    @property
    def query(self) -> str:
        """The condition as an address below the base."""
        return f"{self.type}?{urlencode(self.plan.applied[:-1])}"


def condition_of(gateway: Gateway, type: str, query: str) -> Condition:
    """Reads a condition as it stands in If-None-Exist or after `Type?`."""
    return condition(gateway, type, pairs_of(query.lstrip("?")))


def pairs_of(query: str) -> list[tuple[str, str]]:
    """The parameters of a query. Raises Structure when they are not UTF-8: read with replacement
    characters, different identifiers would be the same one."""
    try:
        return parse_qsl(query, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise Structure("The query is not UTF-8", rule="encoding") from None


def condition(gateway: Gateway, type: str, pairs: Sequence[tuple[str, str]]) -> Condition:
    """The condition that these search parameters are.

    Raises Invalid when there is none, and for parameters that are unknown or shape an answer;
    NotSupported for what cannot be guarded.
    """
    if not any(value for _, value in pairs):
        raise Invalid("A condition is at least one search parameter with a value", rule="condition")
    for name, value in pairs:
        if parse_name(name).base in RESULTS or not value:
            raise Invalid(
                "A condition has search parameters with values, none that shape an answer",
                rule="condition",
            )
    plan = plan_search(
        type,
        [*pairs, ("_count", "2")],
        secret=gateway.store.index_key,
        base_url=gateway.settings.base_url,
        zone=gateway.settings.zone,
        lenient=False,
        page_limit=gateway.settings.page_limit,
        naming=gateway.extractor.naming,
    )
    types = tuple(sorted({type, *_types(plan.conditions)}))
    if not JOURNAL_TYPES.isdisjoint(types):
        raise NotSupported("A condition cannot look at records of audit", rule="condition")
    absent = _absent(plan, pairs)
    key = absent or (type, tuple(sorted(plan.applied)))
    return Condition(type, plan, key, absent, types)


def _absent(plan: SearchPlan, pairs: Sequence[tuple[str, str]]) -> Absent | None:
    """The guard of a condition that is one business identifier."""
    token = plan.conditions[0] if len(plan.conditions) == 1 else None
    if [name for name, _ in pairs] != ["identifier"] or not isinstance(token, Token):
        return None
    if token.negated or len(token.alternatives) != 1:
        return None
    code, system = token.alternatives[0]
    return None if code is None else Absent(plan.type, token.parameter, code, system)


def _types(conditions: Iterable[SearchCondition]) -> Iterator[str]:
    """The types that chains lead to."""
    for one in conditions:
        if isinstance(one, AnyOf | AllOf):
            yield from _types(one.conditions)
        elif isinstance(one, Chain):
            for branch in one.targets:
                yield branch.type
                yield from _types(branch.conditions)
        elif isinstance(one, Has):
            yield one.source
            yield from _types(one.conditions)


def hides(access: Access) -> bool:
    """Whether rows of others that somebody may write are hidden from a caller."""
    return access != Access(access.max_class, acts=access.acts)


async def none_meets(reader: Reader, wanted: Condition, access: Access) -> Guard:
    """The guard that still no resource meets a condition which none met in this snapshot.

    What the caller may not see meets nothing: of several institutions each may store a resource
    under one identifier. Its own are guarded, so that its requests at once make one of them.
    """
    absent = wanted.absent
    if absent is not None and not hides(access):
        return absent
    if absent is not None and access.homes is None:
        return msgspec.structs.replace(absent, owners=tuple(sorted(access.owners or ())))
    plan, homes = wanted.plan, set[int]()
    bound = plan.patients and not (plan.rest or plan.follows or len(wanted.types) > 1)
    for patient in plan.patients if bound else ():
        home = await reader.home("Patient", patient)
        if home is None:  # nobody yet: wherever the person will live
            return Settled(wanted.types, (), reader.t)
        homes.add(home)
    return Settled(wanted.types, tuple(sorted(homes)), reader.t)


def conditional_url(url: str) -> tuple[str, str] | None:
    """Type and query of `Type?query`; None for anything else."""
    type, mark, query = url.partition("?")
    return (type, query) if mark and type.isalpha() else None


def identifier_url(type: str, system: str, value: str) -> str:
    """The conditional reference to a business identifier."""
    escaped = "".join("\\" + sign if sign in ",|$\\" else sign for sign in value)
    return f"{type}?{urlencode({'identifier': f'{system}|{escaped}'})}"


async def match(reader: Reader, wanted: Condition, *, expression: str | None = None) -> str | None:
    """The logical id of the one resource that meets the condition; None when there is none.

    Raises MultipleMatches when there are several.
    """
    page = await reader.search(wanted.plan)
    if len(page.matches) > 1:
        raise MultipleMatches(
            f"More than one {wanted.type} meets the condition",
            expression=expression,
            rule="multiple-matches",
        )
    return page.matches[0].id if page.matches else None
