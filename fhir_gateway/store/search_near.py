"""One way into a search, and the way through the homes of a few persons.

A person's home has a few hundred resources: nothing is counted there, and the conditions that lead
to resources make one short list.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.query import Part
from fhir_gateway.store.search_drive import Look, all_of_type
from fhir_gateway.store.search_terms import Term, rid_list, term
from fhir_gateway.store.search_where import At, Scope, all_parts


class Way(NamedTuple):
    """The matches of one scope, each once.

    `listed` is a subquery of the rids that may match, empty when there is no short one; `found` is
    that of a database that gathers (see dialect.py), where `source` starts from it. `driver`
    is where it starts, None for all resources of the type. `rows` is how many rows it starts from
    at most; None when that was not counted because the first page ends early.
    """

    scope: Scope
    source: Part
    where: Part
    rid: str = "r.rid"  # the column that gives the order of arrival
    listed: Part = ("", [])
    found: Part = ("", [])
    driver: Term | None = None
    rows: int | None = None

    @property
    def is_counted(self) -> bool:
        """True when the matches can be counted without visiting too many rows."""
        return self.rows is not None or self.scope.kind == "persons"

    def whole_where(self) -> Part:
        """The terms of WHERE with the list among them."""
        sql, values = self.listed
        return all_parts([self.where, (f"r.rid IN ({sql})" if sql else "", values)])


def columns(look: Look) -> Part:
    """The terms on who may see the resource, and whose it is."""
    plan, view = look.plan, look.view
    seen = view.sees("r")
    if not plan.by_patient:
        return seen
    return all_parts([seen, view.dialect.among("r.patient", plan.patients)])


def near(look: Look, conditions: tuple[Term, ...], scope: Scope) -> Way:
    """Persons' homes are small: no estimate, and one short list of what may match.

    The first list is short; each further one is scanned once and keeps what is in it.
    """
    at = At("r", scope)
    listed: Part = ("", [])
    rest = [columns(look)]
    for one in conditions:
        part = rid_list(one, at, look.view)
        if part is None:
            rest.append(term(one, at, look.view))
        elif listed[0]:
            listed = look.view.dialect.both(part, listed)
        else:
            listed = part
    if look.view.dialect.gathers and listed[0]:
        each = f"SELECT DISTINCT rid FROM ({listed[0]}) l", listed[1]
        source = one_by_one(look, scope, each)
        return Way(scope, source, all_parts(rest), rid="m.rid", found=listed)
    return Way(scope, all_of_type(look, scope), all_parts(rest), listed=listed)


def one_by_one(look: Look, scope: Scope, rids: Part) -> Part:
    """The FROM of the resources of persons' homes with these rids, m, each looked up by itself."""
    homes, bound = look.view.dialect.among("home", scope.homes)
    return (
        f"({rids[0]}) m CROSS JOIN LATERAL (SELECT * FROM resource"
        f" WHERE {homes} AND type = ? AND rid = m.rid OFFSET 0) r",
        [*rids[1], *bound, type_key(look.plan.type)],
    )


def rids_of(look: Look, way: Way) -> Part:
    """The rids from which a way through persons' homes starts: its list, else all of the type."""
    if way.found[0]:
        return way.found
    homes, bound = look.view.dialect.among("home", way.scope.homes)
    return (
        f"SELECT rid FROM resource WHERE {homes} AND type = ?",
        [*bound, type_key(look.plan.type)],
    )
