"""The meaning of a search: conditions on index rows, free of HTTP and of SQL."""

from __future__ import annotations

from typing import Literal

import msgspec

from fhir_gateway.security.actor import Narrow

Comparator = Literal["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]


class Token(msgspec.Struct, frozen=True, tag="token"):
    """Any of (code key or None, system key or None); None matches anything. `negated` is :not."""

    parameter: int
    alternatives: tuple[tuple[int | None, int | None], ...]
    negated: bool = False


class Ref(msgspec.Struct, frozen=True, tag="reference"):
    """Any of these keys of "Type/id" or of an absolute url."""

    parameter: int
    keys: tuple[int, ...]


class Range(msgspec.Struct, frozen=True, tag="range"):
    """Any of (comparator, low, high) against the row's own range v1..v2.

    Dates are microseconds, numbers sortable integers; containment as in hl7.org/fhir/R4/search.html
    3.1.1.4.5.
    `widest` bounds v2 - v1 of every row of the parameter, None when nothing does.
    """

    parameter: int
    alternatives: tuple[tuple[Comparator, int, int], ...]
    widest: int | None = None


class Quantity(msgspec.Struct, frozen=True, tag="quantity"):
    """Any of (comparator, low, high, unit keys) against v1 = value and v2 = unit key.

    No unit keys means any unit.
    """

    parameter: int
    alternatives: tuple[tuple[Comparator, int, int, tuple[int, ...]], ...]


class Text(msgspec.Struct, frozen=True, tag="text"):
    """Any of these folded texts: starts-with by default, or exact, contains, below."""

    parameter: int
    alternatives: tuple[str, ...]
    match: Literal["starts", "exact", "contains", "below"] = "starts"


class Missing(msgspec.Struct, frozen=True, tag="missing"):
    """:missing. The parameter has no row: in the text index when `text`, nor under `also`."""

    parameter: int
    missing: bool
    text: bool = False
    also: tuple[int, ...] = ()  # further parameters of the int index that prove presence


class Ids(msgspec.Struct, frozen=True, tag="ids"):
    """_id: any of these logical ids."""

    ids: tuple[str, ...]


class Updated(msgspec.Struct, frozen=True, tag="updated"):
    """_lastUpdated, in µs."""

    alternatives: tuple[tuple[Comparator, int, int], ...]


class AnyOf(msgspec.Struct, frozen=True, tag="any"):
    """One of these conditions holds."""

    conditions: tuple[Condition, ...]


class AllOf(msgspec.Struct, frozen=True, tag="all"):
    """All of these conditions hold; stands inside AnyOf only."""

    conditions: tuple[Condition, ...]


class Branch(msgspec.Struct, frozen=True):
    """What a chain may lead to: a current resource of the type that meets all conditions.

    Only resources that the Access sees count, here and in Has: a chain into a record that the
    caller may not see must not find, or it would tell what stands there. `home` and
    `global_parameters` as in SearchPlan, of this type and these conditions.
    """

    type: str
    conditions: tuple[Condition, ...]
    home: int | None = None
    global_parameters: frozenset[int] = frozenset()


class Chain(msgspec.Struct, frozen=True, tag="chain"):
    """The row of the parameter points (v1) to the key of a resource of one of the branches.

    `binds` says where the resource then lives. patient: in the home of the Patient it points to,
    and in home 0 when it points to something else. person: the same when all that the branches
    find are Patients, else anywhere; home 0 too when `rest`. follow: in the home of what it points
    to, or in home 0. Empty: anywhere.
    """

    parameter: int
    targets: tuple[Branch, ...]
    binds: Literal["", "patient", "person", "follow"] = ""
    rest: bool = False


class Has(msgspec.Struct, frozen=True, tag="has"):
    """_has: a current resource of type `source`, that the Access sees, points here under the
    parameter and meets all conditions.

    `within` says where its rows are found: homes (the home of what it points to, and home 0),
    zero (home 0 alone), global (the global index), or everywhere: nothing binds them, and they are
    found by their own conditions, as in a search of `source` across all homes, or not at all.
    """

    source: str
    parameter: int
    within: Literal["homes", "zero", "global", "everywhere"]
    conditions: tuple[Condition, ...]
    home: int | None = None
    global_parameters: frozenset[int] = frozenset()


Condition = (
    Token | Ref | Range | Quantity | Text | Missing | Ids | Updated | AnyOf | AllOf | Chain | Has
)


class Sort(msgspec.Struct, frozen=True):
    """One key of _sort.

    `kind` int (px.v1, downwards v2), value (px.v1), text, id, updated, and token: the place of
    px.v1 among `ranks`, the keys of a closed list of codes in their order.
    """

    parameter: int
    kind: Literal["int", "value", "text", "id", "updated", "token"]
    descending: bool = False
    ranks: tuple[int, ...] = ()


class Include(msgspec.Struct, frozen=True):
    """_include / _revinclude: source type, parameter, optional target type.

    `within` says where a _revinclude finds its rows: in the homes of the matches and home 0, in
    home 0 alone, or in the global index. `iterate` applies it to what is included too; its source
    (or target) need not be the type of the search. `wildcard` (never with `reverse`) stands for
    every reference parameter of `source`; its code is * and its parameter 0.
    """

    source: str
    code: str
    parameter: int
    target: str | None = None
    reverse: bool = False
    within: Literal["homes", "zero", "global"] = "homes"
    iterate: bool = False
    wildcard: bool = False


class SearchPlan(msgspec.Struct, frozen=True):
    """A search that has a meaning. All conditions must hold (AND); alternatives inside are OR.

    Conditions that few resources are expected to meet come first.

    `patients` are the logical ids of the Patients that bind it to homes, empty when the search
    is not patient-bound. `home` is the fixed home of the type (0 for the rest) when it has one,
    None for person types without a patient. `follows` are other resources ("Type", id) whose
    homes bind it, `rest` adds home 0 to the bound homes. `by_patient` says that a match
    names one of `patients` as its Patient; no condition repeats it. `global_parameters` are those
    of its conditions that stand in the global index. `after` are keyset values of the last match
    of the page before. `applied` is what was understood, in order, for the self link; `dropped`
    names what lenient handling left out; `cursor` is the page cursor as it came.

    `compartment` is the (type, id) in whose compartment the search runs, `explain` asks for the
    plan and its cost beside the answer; `summary` and `elements` shape the resources of the answer.
    `meant` is a digest of what may change from one page to the next: the conditions of a search
    that asks what codes mean, and the records of a person who has several.
    `narrow` is what scopes leave of every row that it looks at, beside the Access of its Reader.
    `people` are the logical ids of Patients by whom whole persons are meant: those that `patient`
    or `subject` or a Patient's compartment names. Whoever answers a caller widens them to all
    records of these persons (`widened`); a plan that is run as it is means these records alone.
    """

    type: str
    conditions: tuple[Condition, ...] = ()
    patients: tuple[str, ...] = ()
    home: int | None = None
    global_parameters: frozenset[int] = frozenset()
    sort: tuple[Sort, ...] = ()
    count: int = 50
    includes: tuple[Include, ...] = ()
    after: tuple[int | str, ...] | None = None
    total: Literal["none", "estimate", "accurate"] = "none"
    applied: tuple[tuple[str, str], ...] = ()
    only_count: bool = False  # _summary=count
    follows: tuple[tuple[str, str], ...] = ()
    rest: bool = False
    by_patient: bool = False
    cursor: str | None = None
    explain: bool = False
    elements: tuple[str, ...] = ()
    summary: Literal["", "true", "text", "data", "count", "false"] = ""
    compartment: tuple[str, str] | None = None
    dropped: tuple[str, ...] = ()
    meant: bytes = b""
    people: tuple[str, ...] = ()
    narrow: Narrow | None = None
