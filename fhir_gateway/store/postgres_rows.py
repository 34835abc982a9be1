"""The writing of a batch's rows on PostgreSQL, in few round trips.

First one statement for each kind of home takes away what is superseded. Tables with many rows are
then copied (COPY costs the client a quarter of arrays, and the server half), and one statement
inserts all others from arrays and moves the clock.
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import asyncpg

from fhir_gateway.store.claim_sql import COLUMNS
from fhir_gateway.store.message_rows import write_postgres
from fhir_gateway.store.postgres_held import withdraw
from fhir_gateway.store.postgres_lookups import PostgresLookups
from fhir_gateway.store.rows import Row

#: From so many rows on a table is copied; so many at once, for the event loop's sake.
COPIED, COPY_PIECE = 60, 2_000


class _Table(NamedTuple):
    """How a table is written. Of rows whose first `key` columns agree the last one counts, 0 when
    that cannot be; `held` says what becomes of a row of the same key that is stored.
    """

    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    key: int = 0
    held: str = ""
    ends: bool = False  # one more column, the end of validity


def _table(columns: str, kinds: str, **more: Any) -> _Table:
    names = {"i": "bigint", "t": "text", "b": "bytea"}
    return _Table(tuple(columns.split()), tuple(names[kind] for kind in kinds), **more)


def _kept(name: str, kinds: str) -> _Table:
    """A table of which each row takes the place of the one with the same key."""
    columns, key = COLUMNS[name]
    rest = ", ".join(f"{column} = excluded.{column}" for column in columns.split()[key:])
    return _table(columns, kinds, key=key, held=f"DO UPDATE SET {rest}")


_FOR_EVER = (1 << 63) - 1

_WRITTEN = {
    "locator": _table("type id home rid", "itii"),
    "resource": _table(
        "home type rid id version t n updated deleted owner sensitivity patient source enc body"
        " key",
        "iiitiiiiiiitbibi",
    ),
    "version": _table(
        "home rid version t n updated deleted owner sensitivity source enc body", "iiiiiiiiibib"
    ),
    "px": _table("home parameter v1 v2 rid", "iiiii"),
    "px_text": _table("home parameter text rid", "iiti", key=4),
    "gx": _table("parameter v1 v2 home rid", "iiiii", key=5),
    "gx_text": _table("parameter text home rid", "itii", key=4),
    "fact": _table(
        "home item time rid t_from ordinal version time_high issued kind status issuer specimen"
        " unit method value laterality flags mark source patient result owner sensitivity"
        " more",
        "itiiiiiiittttttttitttiiit",
        ends=True,
    ),
    "result_of": _table(
        "home result rid t_from status issued source more owner sensitivity", "iiiitittii",
        key=4, ends=True,
    ),
    "evaluation": _table(
        'institution item rid ordinal t_from area "start" "end" passed evaluator round',
        "ttiiitttitt",
        ends=True,
    ),
    "identity": _table("key kind home rid", "biii", key=4),
    "alias": _table("home other cause source t_from", "iitii", key=5, ends=True),
    "person": _table("home t_from person", "iii", key=2, ends=True),
    "proposal": _table("home other grade source t_from", "iitii", key=5, ends=True),
    "opening": _table(
        'home party kind source ordinal t_from rid grade since "until"', "iitiiiiiii",
        key=6, ends=True,
    ),
    "consent": _table(
        'home party owner class rid ordinal t_from rank permit since "until"', "iiiiiiiiiii",
        key=7, ends=True,
    ),
    "change": _table("t n i home type rid version op", "iiiiiiit"),
    "once": _table("kind key t n updated response", "tbiiib"),
    "counter": _table("key k", "bi", key=1, held="DO UPDATE SET k = excluded.k"),
    "received": _table("hash media at enc body", "btiib", key=1, held="DO NOTHING"),
    "credential": _table(
        "hash institution active", "bti", key=1,
        held="DO UPDATE SET institution = excluded.institution, active = excluded.active",
    ),
    "seen": _table(
        "institution updated", "ti", key=1, held="DO UPDATE SET updated = excluded.updated"
    ),
    "client": _table(
        "id active updated body", "tiib", key=1,
        held="DO UPDATE SET active = excluded.active, updated = excluded.updated,"
        " body = excluded.body",
    ),
    "client_token": _table(
        'hash client active issued "until" body', "btiiib", key=1,
        held="DO UPDATE SET active = excluded.active",
    ),
    **{name: _kept(name, kinds) for name, kinds in (
        ("schedule_row", "iittttttttti"), ("slot_row", "iitiiiiiittti"),
        ("seat", "iiititttii"), ("quota", "itttiiiiitii"), ("booking", "iittiiiiiitt"),
    )},
    "slot_item": _table(
        'item "start" home slot pool kind schedule full_until', "tiiiitii", key=4
    ),
    "change_set": _table("t n id updated outcome", "iibib"),
    "journal": _table(
        "t n i type id home updated patient owner nonce leaf enc body", "iiiitiitibbib"
    ),
    "journal_home": _table("home t n i", "iiii"),
}  # fmt: skip


#: Tables that are written to together stand in one statement, empty or not: each combination is a
#: statement that the server keeps prepared, at 0.4 MB.
_GROUPS = (
    ("locator", "resource", "px", "px_text", "change"),
    ("fact", "result_of"),
    ("gx", "gx_text", "identity", "evaluation"),
    ("alias", "person"),
    ("proposal",),
    ("opening", "consent"),
    ("version",),
    ("schedule_row", "slot_row", "slot_item"),
    ("seat", "quota", "booking"),
    ("change_set",),
    ("once", "counter"),
    ("received", "credential", "seen"),
    ("client", "client_token"),
    ("journal", "journal_home"),
)


class Moved(NamedTuple):
    """The clock row as the batch leaves it."""

    t: int
    epoch: int
    updated: int
    rid: int
    home: int
    indexed: int


async def write(connection: asyncpg.Connection, lookups: PostgresLookups, clock: Moved) -> None:
    """Writes what a batch has gathered and moves the clock; what remains is to commit."""
    if lookups.rows.retired:
        await _retire(connection, lookups.rows.retired)
    await withdraw(connection, lookups.rows)
    await write_postgres(connection, lookups.rows)
    names: list[str] = []
    values: list[Any] = [*clock]
    for group in _GROUPS:
        few: dict[str, Sequence[Row]] = {}
        for name in group:
            rows = _distinct(_WRITTEN[name], _gathered(lookups, name))
            if len(rows) >= COPIED and not _WRITTEN[name].held:
                await _copy(connection, name, rows)
            elif rows:
                few[name] = rows
        if few:
            names += group
            for name in group:
                width = len(_WRITTEN[name].kinds)
                values += zip(*few[name], strict=True) if name in few else [()] * width
    await connection.execute(_statement(tuple(names)), *values)


def _gathered(lookups: PostgresLookups, name: str) -> list[Row]:
    if name == "version":
        return lookups.versions
    rows: list[Row] = getattr(lookups.rows, name)
    return rows


def _distinct(table: _Table, rows: list[Row]) -> Sequence[Row]:
    """Each row once."""
    if not table.key or len(rows) < 2:
        return rows
    return list({row[: table.key]: row for row in rows}.values())


async def _copy(connection: asyncpg.Connection, name: str, rows: Sequence[Row]) -> None:
    columns = [column.strip('"') for column in _WRITTEN[name].columns]
    if _WRITTEN[name].ends:
        columns.append("t_to")
        rows = [(*row, _FOR_EVER) for row in rows]
    for start in range(0, len(rows), COPY_PIECE):
        piece = rows[start : start + COPY_PIECE]
        await connection.copy_records_to_table(name, records=piece, columns=columns)


@cache
def _statement(names: tuple[str, ...]) -> str:
    """Inserts into these tables from arrays, and the clock's step."""
    number = 7
    parts = []
    for name in names:
        table = _WRITTEN[name]
        arrays = ", ".join(f"${number + place}::{kind}[]" for place, kind in enumerate(table.kinds))
        number += len(table.kinds)
        columns, selected = ", ".join(table.columns), "*"
        if table.ends:
            columns, selected = f"{columns}, t_to", f"*, {_FOR_EVER}"
        held = (
            f" ON CONFLICT ({', '.join(table.columns[: table.key])}) {table.held}"
            if table.held
            else ""
        )
        parts.append(
            f"add_{name} AS (INSERT INTO {name} ({columns})"
            f" SELECT {selected} FROM unnest({arrays}){held})"
        )
    return (f"WITH {', '.join(parts)} " if parts else "") + _ADVANCE


_ADVANCE = "UPDATE clock SET t = $1, epoch = $2, updated = $3, rid = $4, home = $5, indexed = $6"

# -- what is superseded --------------------------------------------------------------------------


async def _retire(
    connection: asyncpg.Connection, retired: Sequence[tuple[int, int, int, int]]
) -> None:
    """Takes current versions out of the way: to `version`, their index rows gone, their facts
    ended. Index rows of shared homes are found by an index that is partial.
    """
    for statement, rows in (
        (_RETIRE_PERSONAL, [row for row in retired if row[1] > 0]),
        (_RETIRE_SHARED, [row for row in retired if row[1] <= 0]),
    ):
        if rows:
            await connection.execute(statement, *zip(*rows, strict=True))


_RETIRE = """
WITH q AS MATERIALIZED (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
    q (type, home, rid, t)
), gone AS (
  DELETE FROM resource r USING q WHERE r.home = q.home AND r.type = q.type AND r.rid = q.rid
  RETURNING r.*
), kept AS (
  INSERT INTO version (home, rid, version, t, n, updated, deleted, owner, sensitivity, source, enc,
    body)
  SELECT home, rid, version, t, n, updated, deleted, owner, sensitivity, source, enc, body FROM gone
), ints AS (
  DELETE FROM px USING q WHERE px.home = q.home AND px.rid = q.rid AND {px}
  RETURNING px.*
), texts AS (
  DELETE FROM px_text p USING q WHERE p.home = q.home AND p.rid = q.rid AND {p}
  RETURNING p.*
), global_ints AS (
  DELETE FROM gx USING ints i WHERE gx.parameter = i.parameter AND gx.v1 = i.v1 AND gx.v2 = i.v2
    AND gx.home = i.home AND gx.rid = i.rid
), global_texts AS (
  DELETE FROM gx_text g USING texts i WHERE g.parameter = i.parameter
    AND left(g.text, 128) = left(i.text, 128) AND g.home = i.home AND g.rid = i.rid
), {ends} evaluations AS (
  UPDATE evaluation e SET t_to = q.t FROM q WHERE e.rid = q.rid AND e.t_to = 9223372036854775807
) DELETE FROM identity i USING q WHERE i.rid = q.rid"""
_END = """facts AS (
  UPDATE fact f SET t_to = q.t FROM q
  WHERE f.home = q.home AND f.rid = q.rid AND f.t_to = 9223372036854775807
), links AS (
  UPDATE result_of l SET t_to = q.t FROM q
  WHERE l.home = q.home AND l.rid = q.rid AND l.t_to = 9223372036854775807
), openings AS (
  UPDATE opening o SET t_to = q.t FROM q
  WHERE o.home = q.home AND o.rid = q.rid AND o.t_to = 9223372036854775807
), consents AS (
  UPDATE consent c SET t_to = q.t FROM q
  WHERE c.home = q.home AND c.rid = q.rid AND c.t_to = 9223372036854775807
),"""
_RETIRE_PERSONAL = _RETIRE.format(px="TRUE", p="TRUE", ends=_END)
_RETIRE_SHARED = _RETIRE.format(px="px.home <= 0", p="p.home <= 0", ends="")
