"""One way into a search, and the way through the homes of a few persons.

A person's home has a few hundred resources: nothing is counted there, and the conditions that lead
to resources make one short list.
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.store.query import Part
from fhir_gateway.store.search_drive import Look, all_of_type
from fhir_gateway.store.search_terms import Term, rid_list, term
from fhir_gateway.store.search_where import At, Scope, all_parts


class Way(NamedTuple):
    """The matches of one scope, each once.

    `listed` is a subquery of the rids that may match, empty when there is no short one. `driver`
    is where it starts, None for all resources of the type. `rows` is how many rows it starts from
    at most; None when that was not counted because the first page ends early.
    """

    scope: Scope
    source: Part
    where: Part
    rid: str = "r.rid"  # the column that gives the order of arrival
    listed: Part = ("", [])
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
            listed = f"{part[0]} AND rid IN ({listed[0]})", [*part[1], *listed[1]]
        else:
            listed = part
    return Way(scope, all_of_type(look, scope), all_parts(rest), listed=listed)
