"""Which rows an Access lets through: one rule for every statement of both databases.

A row is seen when it lies in the homes that the Access names, if it names any, and

- its type is one of `whole`; or
- its owner is one of `owners`, whatever its class; or
- it lies in the home of the person who asks (`homes` beside `owners` that are empty); or its type
  is not `closed`, and
  - it belongs to nobody, or there is neither a list of owners nor a sight, and its class is at most
    `max_class`; or
  - it lies in no person's home and is of no type that speaks of persons (a report without a
    subject is its sender's alone), where there is a list of owners or a sight; or
  - the sight opens it, see `_opened`.

Of AuditEvents only those of `acts` are seen, where an Access has them and shows everybody's rows.

Two accesses have the two shapes that every statement had from the first day, because nearly all
requests of a site without denials are theirs: of everybody's rows up to a class, and of a list of
owners alone, up to a class and nothing in homes of nobody beside.
docs/adr/0036-sight-in-the-store.md
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from fhir_gateway.fhir.home import PERSONAL_TYPES
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.security.actor import Access, Sight
from fhir_gateway.store.dialect import SQLITE, Dialect
from fhir_gateway.store.index_version import Index, check_access
from fhir_gateway.store.query import Part


class Moment(NamedTuple):
    """When openings and consents are looked at: rows as of commit `t`, that hold at `at` (µs)."""

    t: int = 0
    at: int = 0


def moment_of(access: Access, index: Index, t: int, updated: int, now: Callable[[], int]) -> Moment:
    """The moment of a snapshot of commit `t`, whose time was `updated`: what another process has
    opened just now is open, however the clocks differ. Raises Unavailable as `check_access`."""
    if access.sight is None:
        return Moment(t)
    check_access(index)
    return Moment(t, max(updated, now()))


class Row(NamedTuple):
    """The columns of a row that is judged, as SQL. Where a statement is about one home, `home` is
    HOME (or HOME_BIGINT), and what depends on the home alone is found out once. `named`: the type
    is a name and no key. `key` is the column with key64 of the resource, "" where there is none:
    what opens one row alone then opens nothing."""

    home: str
    type: str
    owner: str
    sensitivity: str
    named: bool = False
    key: str = ""


class Shape(NamedTuple):
    """What of an Access changes the text of the rule; all else is bound."""

    owners: bool = False
    sight: Sight | None = None  # with no party and no moment
    homes: bool = False
    person: bool = False  # who asks is the person of the homes
    whole: bool = False
    closed: bool = False
    acts: bool = False

    @property
    def is_restricted(self) -> bool:
        """True when rows of the highest class that is seen may still be hidden."""
        return self != EVERYBODY


HOME = ":home"

#: The same for PostgreSQL, which has to be told the type of a bound value.
HOME_BIGINT = f"{HOME}::bigint"

EVERYBODY = Shape()
OWN = Shape(owners=True)


def columns(alias: str, *, home: str = "", type: str = "", key: str = "") -> Row:
    """The row of a table that has these columns; of the others what stands for them."""
    return Row(
        home or f"{alias}.home", type or f"{alias}.type", f"{alias}.owner",
        f"{alias}.sensitivity", key=key or f"{alias}.key",
    )  # fmt: skip


def sourced(alias: str, dialect: Dialect, *, home: str = "") -> Row:
    """The row of a fact or a report's link, which names its resource in `source` ("Type/id")."""
    name = f"{alias}.source"
    if dialect is SQLITE:
        type = f"substr({name}, 1, instr({name}, '/') - 1)"
    else:
        type = f"split_part({name}, '/', 1)"
    return Row(home or f"{alias}.home", type, f"{alias}.owner", f"{alias}.sensitivity", named=True)


@lru_cache(maxsize=1_024)
def shape_of(access: Access, *, of_acts: bool = True) -> Shape:
    """The shape of an Access; not `of_acts` for statements that never meet an AuditEvent."""
    sight = access.sight
    return Shape(
        access.owners is not None,
        sight and Sight(0, sight.relation, sight.permit, sight.denials),
        access.homes is not None,
        access.homes is not None and sight is None and access.owners == frozenset(),
        bool(access.whole),
        bool(access.closed),
        of_acts and access.acts is not None,
    )


def values_of(access: Access, dialect: Dialect, moment: Moment) -> dict[str, Any]:
    """What is bound to the marks of the rule, by their names."""
    known = _values(access, dialect)
    sight = access.sight
    if sight is None:
        return known
    return {**known, "t": moment.t, "at": sight.at or moment.at}


@lru_cache(maxsize=1_024)
def _values(access: Access, dialect: Dialect) -> dict[str, Any]:
    array = dialect.array
    values: dict[str, Any] = {"class": access.max_class}
    if access.owners is not None:
        values["owners"] = array(sorted(access.owners))
    if access.homes is not None:
        values["homes"] = array(sorted(access.homes))
    for name, types in (
        ("whole", access.whole), ("closed", access.closed), ("personal", PERSONAL_TYPES),
    ):  # fmt: skip
        if types:
            values[name] = array(sorted(type_key(one) for one in types))
            values[f"{name}names"] = array(sorted(types))
    if access.sight is not None:
        values["party"] = access.sight.party
    if access.acts is not None:
        values |= {"audit": type_key("AuditEvent"), "acts": array(sorted(access.acts))}
    return values


# -- the rule, with its values named -----------------------------------------------------------


@lru_cache(maxsize=4_096)
def rule(shape: Shape, dialect: Dialect, row: Row) -> str:
    """What a row must be like to be seen, with marks such as `:owners`."""
    if shape.acts:
        seen = rule(shape._replace(acts=False), dialect, row)
        return seen if row.named else f"{seen} AND {_of_actor(dialect, row)}"
    graded = f"{row.sensitivity} <= :class"
    if shape == EVERYBODY:
        return graded
    if shape == OWN:
        return f"{graded} AND ({row.owner} = 0 OR {_any_of(dialect, row.owner, 'owners')})"
    ways = []
    if shape.whole:
        ways.append(_of_type(dialect, row, "whole"))
    if shape.owners:
        ways.append(_any_of(dialect, row.owner, "owners"))
    if shape.person:
        ways.append(f"{row.home} > 0")
    ways.append(_open(shape, dialect, row, graded))
    seen = f"({' OR '.join(ways)})"
    if shape.homes:
        seen = f"({row.home} <= 0 OR {_any_of(dialect, row.home, 'homes')}) AND {seen}"
    return seen


def rule_beside(shape: Shape, dialect: Dialect, row: Row, other: Row) -> str:
    """The rule for a row that is told with another of the same home, which is seen: where both are
    of one owner and one class, only the type can make a difference, and nothing is looked up."""
    seen = rule(shape, dialect, row)
    if shape.sight is None or shape.whole or shape.homes:
        return seen
    alike = f"{row.owner} = {other.owner} AND {row.sensitivity} = {other.sensitivity}"
    if shape.closed:
        alike += f" AND NOT {_of_type(dialect, row, 'closed')}"
    return f"({row.home} > 0 AND {alike} OR {seen})"


def _open(shape: Shape, dialect: Dialect, row: Row, graded: str) -> str:
    """What is seen of types that are not closed."""
    if shape.owners or shape.sight is not None:
        shared = f"({row.home} <= 0 AND NOT {_of_type(dialect, row, 'personal')})"
        ways = [f"({row.owner} = 0 AND {graded})", shared]
    else:
        ways = [graded]
    if shape.sight is not None:
        ways.append(_opened(shape.sight, dialect, row))
    seen = f"({' OR '.join(ways)})"
    return f"(NOT {_of_type(dialect, row, 'closed')} AND {seen})" if shape.closed else seen


def _of_actor(dialect: Dialect, row: Row) -> str:
    """No AuditEvent, or one of an act of the caller's."""
    return f"({row.type} <> :audit OR {_any_of(dialect, row.owner, 'acts')})"


def _any_of(dialect: Dialect, column: str, name: str) -> str:
    return dialect.any_of(column).replace("?", f":{name}")


def _of_type(dialect: Dialect, row: Row, name: str) -> str:
    return _any_of(dialect, row.type, f"{name}names" if row.named else name)


# -- what a sight opens ------------------------------------------------------------------------


def _opened(sight: Sight, dialect: Dialect, row: Row) -> str:
    """An emergency whose grade reaches the class, or what opens this row alone; or a relation,
    where one is asked for, and the person's consent."""
    granted = _consented(sight, dialect, row)
    if sight.relation:
        granted = f"{granted} AND {_related(dialect, row)}"
    named = f" OR {_named(row)}" if row.key else ""
    return f"({granted} OR {_emergency(row)}{named})"


_HOLDS = '{o}.since <= :at AND :at < {o}."until" AND {o}.t_from <= :t AND :t < {o}.t_to'
#: What the other homes of a person have, of whom most have none, looked up home by home. In
#: PostgreSQL a subquery with OFFSET is not merged into the query around it: each is found by index,
#: however small a table was when the plan was made.
_ELSEWHERE = {
    "sqlite": (
        "person me CROSS JOIN person us ON us.person = me.person AND us.home <> me.home"
        " AND us.t_from <= :t AND :t < us.t_to CROSS JOIN {table} o ON o.home = us.home"
        " WHERE me.home = {home} AND me.t_from <= :t AND :t < me.t_to AND {met}"
    ),
    "postgresql": (
        "(SELECT p.person FROM person p WHERE p.home = {home}"
        " AND p.t_from <= :t AND :t < p.t_to OFFSET 0) me"
        " CROSS JOIN LATERAL (SELECT p.home FROM person p WHERE p.person = me.person"
        " AND p.home <> {home} AND p.t_from <= :t AND :t < p.t_to OFFSET 0) us"
        " CROSS JOIN LATERAL (SELECT o.* FROM {table} o WHERE o.home = us.home AND {met}"
        " OFFSET 0) o"
    ),
}


def _of_person(dialect: Dialect, row: Row, table: str, found: str, met: str) -> tuple[str, str]:
    """Two SELECTs of a table: of the row's home, and of the person's other homes."""
    met = f"{met} AND {_HOLDS.format(o='o')}"
    here = f"SELECT {found} FROM {table} o WHERE o.home = {row.home} AND {met}"
    there = _ELSEWHERE[dialect.name].format(table=table, home=row.home, met=met)
    return here, f"SELECT {found} FROM {there}"


def _related(dialect: Dialect, row: Row) -> str:
    here, there = _of_person(dialect, row, "opening", "1", "o.party = :party AND o.grade >= 0")
    return f"(EXISTS ({here}) OR EXISTS ({there}))"


def _emergency(row: Row) -> str:
    """Of the row's own home alone: an emergency opens the homes that the person had, whose
    institutions were told of it. A record that is linked later was not meant, and nobody told."""
    reach = f"o.grade > CASE WHEN {row.sensitivity} = 0 THEN 0 ELSE 1 END"
    met = f"o.party = :party AND {reach} AND {_HOLDS.format(o='o')}"
    return f"EXISTS (SELECT 1 FROM opening o WHERE o.home = {row.home} AND {met})"


def _named(row: Row) -> str:
    """What opens one row alone, to both who made a booking and who carries it out: whatever the
    consent, and in the row's own home."""
    met = f"o.party = :party AND o.grade = -1 AND o.source = {row.key} AND {_HOLDS.format(o='o')}"
    return f"EXISTS (SELECT 1 FROM opening o WHERE o.home = {row.home} AND {met})"


def _consented(sight: Sight, dialect: Dialect, row: Row) -> str:
    """The sentence of the highest rank, of equal ones a denial: an odd number denies."""
    met = (
        "o.party IN (0, :party) AND"
        f" o.owner IN (0, {row.owner}) AND (o.class = {row.sensitivity}"
        " OR (o.class = -1 AND o.permit = 0))"
    )
    if not sight.denials:
        met += f" AND (o.permit = 1 OR {row.sensitivity} > 0)"
    here, there = _of_person(dialect, row, "consent", "o.rank * 2 + 1 - o.permit AS word", met)
    said = f"(SELECT max(c.word) & 1 FROM ({here} UNION ALL {there}) c)"
    silent = f"CASE WHEN {row.sensitivity} = 0 THEN 0 ELSE 1 END" if sight.permit else "1"
    words = f"coalesce({said}, {silent})"
    if row.home.startswith(HOME):  # most persons have said nothing: that is found out once
        here, there = _of_person(dialect, row, "consent", "1", "o.party IN (0, :party)")
        words = f"CASE WHEN EXISTS ({here}) OR EXISTS ({there}) THEN {words} ELSE {silent} END"
    consented = f"{words} = 0"
    if sight.permit and not sight.denials:  # an ordinary row, whatever is said
        return f"({row.sensitivity} = 0 OR {consented})"
    return consented


# -- marks that a driver binds -------------------------------------------------------------------

_MARK = re.compile(r"(?<!:):([a-z]+)")


@lru_cache(maxsize=4_096)
def _in_order(shape: Shape, dialect: Dialect, row: Row) -> tuple[str, tuple[str, ...]]:
    text = rule(shape, dialect, row)
    return _MARK.sub("?", text), tuple(_MARK.findall(text))


def seen(shape: Shape, dialect: Dialect, row: Row, values: Mapping[str, Any]) -> Part:
    """The rule with a mark for each value, and the values in their order."""
    sql, names = _in_order(shape, dialect, row)
    return sql, [values[name] for name in names]


class Statement(NamedTuple):
    """A statement with numbered marks, and the names of the values that follow its own."""

    sql: str
    names: tuple[str, ...]

    def bound(self, values: Mapping[str, Any]) -> list[Any]:
        """The values of an Access for this statement."""
        return [values[name] for name in self.names]


def statement(text: str, dialect: Dialect, *, own: int, home: int = 0) -> Statement:
    """The statement of a text with named marks, behind `own` values of its own; HOME is the value
    of the number `home`. A mark `@n` is the n-th value behind all others."""
    names = tuple(dict.fromkeys(name for name in _MARK.findall(text) if name != "home"))
    sign = "?" if dialect is SQLITE else "$"
    numbers = {name: own + place for place, name in enumerate(names, 1)} | {"home": home}
    text = _MARK.sub(lambda mark: f"{sign}{numbers[mark[1]]}", text)
    last = own + len(names)
    return Statement(_BEHIND.sub(lambda mark: f"{sign}{last + int(mark[1])}", text), names)


_BEHIND = re.compile(r"@(\d+)")
