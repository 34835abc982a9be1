"""A plan in the making, and the refusals that name what would have been understood."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from hashlib import blake2b
from typing import Literal

import msgspec

from fhir_gateway.errors import Invalid, NotSupported
from fhir_gateway.search.context import Context
from fhir_gateway.search.params import Parameter, refusal, shown
from fhir_gateway.search.plan import Condition, Include, SearchPlan, Sort
from fhir_gateway.search.registry import fixed_home, global_among

DEFAULT_COUNT = 50

#: Refusals that lenient handling turns into "not applied"; a bad value is always refused.
IGNORABLE = frozenset({"unknown-search-parameter", "unknown-modifier", "not-offered"})


class Draft:
    """What has been understood so far; `plan` makes the frozen value of it.

    Conditions carry a rank: in the plan, those that few resources are expected to meet come first.
    """

    __slots__ = (
        "applied", "by_patient", "compartment", "conditions", "context", "count", "cursor",
        "dropped", "elements", "explain", "follows", "given", "home", "includes", "only_count",
        "page_limit", "patients", "people", "persons", "rest", "sort", "summary", "total", "type",
    )  # fmt: skip

    def __init__(self, type: str, context: Context, page_limit: int) -> None:
        self.type, self.context, self.page_limit = type, context, page_limit
        self.conditions: list[tuple[int, Condition]] = []
        self.patients: tuple[str, ...] = ()
        self.follows: tuple[tuple[str, str], ...] = ()
        self.rest = self.by_patient = self.only_count = self.explain = False
        self.home = fixed_home(type)
        self.count = min(DEFAULT_COUNT, page_limit)
        self.sort: tuple[Sort, ...] = ()
        self.includes: list[Include] = []
        self.total: Literal["none", "estimate", "accurate"] = "none"
        self.cursor: str | None = None
        self.given: set[str] = set()
        self.applied: list[tuple[str, str]] = []
        self.dropped: list[str] = []
        self.elements: tuple[str, ...] = ()
        self.summary: Literal["", "true", "text", "data", "count", "false"] = ""
        self.compartment: tuple[str, str] | None = None
        self.people: list[str] = []
        self.persons = True  # _person

    @property
    def bound(self) -> bool:
        """True when the homes to look in are known."""
        return bool(self.patients or self.follows or self.rest or self.home is not None)

    def once(self, parameter: Parameter) -> None:
        """Raises Invalid when a parameter that may be given once comes again."""
        if parameter.name.base in self.given:
            raise refusal(parameter.name.base, "is given twice", rule="search-repeated")
        self.given.add(parameter.name.base)

    def plan(self) -> SearchPlan:
        """The frozen plan. Raises Invalid for result parameters that contradict each other."""
        self._check()
        conditions = tuple(condition for _, condition in sorted(self.conditions, key=_by_rank))
        return SearchPlan(
            type=self.type,
            conditions=conditions,
            patients=self.patients,
            home=self.home,
            global_parameters=global_among(self.type, conditions),
            sort=self.sort,
            count=self.count,
            includes=tuple(self.includes),
            total=self.total,
            applied=tuple(self.applied),
            only_count=self.only_count,
            follows=self.follows,
            rest=self.rest,
            by_patient=self.by_patient,
            cursor=self.cursor,
            explain=self.explain,
            elements=self.elements,
            summary=self.summary,
            compartment=self.compartment,
            dropped=tuple(self.dropped),
            meant=_digest(conditions) if self.context.codes is not None else b"",
            people=tuple(dict.fromkeys(self.people)) if self.persons else (),
        )

    def _check(self) -> None:
        if len(self.given) + len(self.includes) < 2:
            return
        for one, other in _CONTRADICTIONS:
            if _says(self, one) and _says(self, other):
                raise Invalid(
                    f"{one} and {other} contradict each other", expression=one, rule="search-result"
                )


#: Result parameters that cannot be met together.
_CONTRADICTIONS = (
    ("_elements", "_summary"),
    ("_total=none", "_summary=count"),
    ("_total=none", "_count=0"),
    ("_summary=text", "_include"),
    ("_summary=text", "_revinclude"),
)


def _says(draft: Draft, what: str) -> bool:
    """True when a result parameter was given, with this value where one is named."""
    name, equals, value = what.partition("=")
    return any(
        given.partition(":")[0] == name and (not equals or text == value)
        for given, text in draft.applied
    )


def _digest(conditions: tuple[Condition, ...]) -> bytes:
    return blake2b(msgspec.msgpack.encode(conditions), digest_size=16).digest()


def _by_rank(ranked: tuple[int, Condition]) -> int:
    return ranked[0]


def unknown(what: str, name: str, known: Iterable[str], *, within: str = "") -> Invalid:
    """An Invalid that names what was asked for and the nearest names that exist.

    `within` is the parameter whose value holds the name; without it the name is a parameter.
    """
    near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    hint = f"; near names: {', '.join(near)}" if near else ""
    return Invalid(
        f"{what} {shown(name)} is not known{hint}",
        expression=within or shown(name),
        rule="unknown-search-parameter",
    )


def not_offered(name: str, why: str, *, value: str = "") -> NotSupported:
    """A NotSupported for what FHIR has and the gateway does not offer: a parameter, or what its
    value asks for where one is given."""
    what = f"{shown(name)}={value}" if value else shown(name)
    return NotSupported(
        f"Search parameter {what} is not offered: {why}",
        expression=shown(name),
        rule="not-offered",
    )
