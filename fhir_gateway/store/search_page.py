"""The statement of one page: the ways of a search put together, in order, after the last match.

Few shapes: what differs between two searches of a kind are bound values.
"""

# ruff: noqa: S608 - SQL is put together from constants and marks; values are always bound

from __future__ import annotations

from typing import Any

from fhir_gateway.store.query import Part, Query
from fhir_gateway.store.search_drive import Look
from fhir_gateway.store.search_includes import COLUMNS
from fhir_gateway.store.search_near import Way, one_by_one, rids_of
from fhir_gateway.store.search_sort import gathered, key_columns, keyset, order


def statement(look: Look, into: list[Way], limit: Any) -> Query:
    """The whole statement, of `limit` rows: one more than the page has shows that it goes on."""
    plan = look.plan
    if plan.sort or len(into) > 1:
        return _sorted_statement(look, into, limit)
    way = into[0]
    if plan.after is not None and way.listed[0]:  # the list need not go back to the beginning
        listed, values = way.listed
        way = way._replace(listed=(f"{listed} AND rid > ?", [*values, plan.after[-1]]))
    (source, source_values), (where, where_values) = way.source, way.whole_where()
    values = [*source_values, *where_values]
    if plan.after is not None:
        where += f" AND {way.rid} > ?"
        values.append(plan.after[-1])
    values.append(limit)
    sql = f"SELECT {COLUMNS} FROM {source} WHERE {where} ORDER BY {way.rid} LIMIT ?"
    return Query(sql, values)


def _sorted_statement(look: Look, into: list[Way], limit: Any) -> Query:
    """Ways with their sort keys, put together and in order; short lists are made once."""
    plan = look.plan
    lists = [way.listed for way in into if way.listed[0]]
    selects = [_select(look, way) for way in into]
    where, after = keyset(plan)
    sql = " UNION ALL ".join(sql for sql, _ in selects)
    first = f"WITH m (rid) AS MATERIALIZED ({lists[0][0]}) " if lists else ""
    values = [value for _, part in (*lists, *selects) for value in part]
    return Query(
        f"{first}SELECT * FROM ({sql}) AS every WHERE {where} ORDER BY {order(plan)} LIMIT ?",
        [*values, *after, limit],
    )


def _select(look: Look, way: Way) -> Part:
    """One way with its sort keys as columns k0, k1 …"""
    plan, short = look.plan, bool(way.listed[0])
    if way.scope.kind == "persons" and look.view.dialect.gathers:
        return _gathered(look, way)
    keys, joins = key_columns(plan, way.scope, look.view.dialect, short=short)
    (source, source_values), (where, where_values) = way.source, way.where
    if short:
        where += " AND r.rid IN (SELECT rid FROM m)"
    return (
        f"SELECT {COLUMNS}{keys[0]} FROM {source}{joins[0]} WHERE {where}",
        [*keys[1], *source_values, *joins[1], *where_values],
    )


def _gathered(look: Look, way: Way) -> Part:
    """The same, for a database that gathers."""
    keys, rids = gathered(look.plan, way.scope, rids_of(look, way), look.view.dialect)
    source, source_values = one_by_one(look, way.scope, rids)
    where, where_values = way.where
    return (
        f"SELECT {COLUMNS}{keys[0]} FROM {source} WHERE {where}",
        [*keys[1], *source_values, *where_values],
    )
