"""What current versions have given rise to, on PostgreSQL: fetched at once, and taken away.

Rows of a person's home are read in one go for all resources that are asked for; those of homes that
many share are found by an index that is partial.
"""

# ruff: noqa: S608 - SQL is put together from constants; values are always bound

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from fhir_gateway.store.lookups import Held, Place
from fhir_gateway.store.rows import Row, Rows

#: Tables whose rows are fetched as they are written, in the order of _HELD.
_WHOLE_ROWS = ("fact", "result_of", "evaluation", "identity", "opening", "consent")


async def fetch_held(connection: asyncpg.Connection, places: Sequence[Place]) -> Held:
    """The rows of the resources in these places; the clock row must be locked."""
    persons = sorted({place.home for place in places if place.home > 0})
    rids = [place.rid for place in places if place.home > 0]
    shared = [place for place in places if place.home <= 0]
    row = await connection.fetchrow(
        _HELD, *zip(*places, strict=True), persons, rids,
        [place.home for place in shared], [place.rid for place in shared],
    )  # fmt: skip
    acl, ints, texts, *others = row
    rows = Rows()
    for home, parameter, v1, v2, rid, is_global in ints:
        rows.px.append((home, parameter, v1, v2, rid))
        if is_global:
            rows.gx.append((parameter, v1, v2, home, rid))
    for home, parameter, text, rid, is_global in texts:
        rows.px_text.append((home, parameter, text, rid))
        if is_global:
            rows.gx_text.append((parameter, text, home, rid))
    for name, found in zip(_WHOLE_ROWS, others, strict=True):
        getattr(rows, name).extend(map(tuple, found))
    return Held(rows, {rid: (owner, sensitivity) for rid, owner, sensitivity in acl})


async def withdraw(connection: asyncpg.Connection, rows: Rows) -> None:
    """Takes away and ends what a batch has gathered for that, row by row."""
    for name, statement in _WITHDRAWN.items():
        gathered: list[Row] = getattr(rows, name)
        if gathered:
            await connection.execute(statement, *zip(*gathered, strict=True))


def _rows_of(table: str, columns: str) -> str:
    """Rows of persons' homes and of shared ones. The sum keeps the index from being gone through
    once for each resource of the home; OFFSET keeps the lookup by home what it is."""
    return f"""
    SELECT ROW({columns}) FROM unnest($4::bigint[]) h (home)
    CROSS JOIN LATERAL (
      SELECT * FROM {table} WHERE home = h.home AND rid + 0 = ANY($5::bigint[]) OFFSET 0) p
    UNION ALL
    SELECT ROW({columns}) FROM unnest($6::bigint[], $7::bigint[]) h (home, rid)
    CROSS JOIN LATERAL (
      SELECT * FROM {table} WHERE home = h.home AND rid = h.rid AND home <= 0 OFFSET 0) p"""


_OPEN = "t_to = 9223372036854775807"
_OF_PERSON = """
    SELECT ROW({columns}) FROM unnest($4::bigint[]) h (home)
    CROSS JOIN LATERAL (
      SELECT * FROM {table} WHERE home = h.home AND rid + 0 = ANY($5::bigint[]) AND {open}
      OFFSET 0) p"""
_OF_ANY = """
    SELECT ROW({columns}) FROM unnest($3::bigint[]) q (rid)
    CROSS JOIN LATERAL (SELECT * FROM {table} WHERE rid = q.rid AND {open} OFFSET 0) p"""

_INTS = _rows_of(
    "px",
    """p.home, p.parameter, p.v1, p.v2, p.rid, EXISTS (
      SELECT 1 FROM gx g WHERE g.parameter = p.parameter AND g.v1 = p.v1 AND g.v2 = p.v2
        AND g.home = p.home AND g.rid = p.rid)""",
)
_TEXTS = _rows_of(
    "px_text",
    """p.home, p.parameter, p.text, p.rid, EXISTS (
      SELECT 1 FROM gx_text g WHERE g.parameter = p.parameter
        AND left(g.text, 128) = left(p.text, 128) AND g.text = p.text
        AND g.home = p.home AND g.rid = p.rid)""",
)
_FACTS = _OF_PERSON.format(
    columns="p.home, item, time, rid, t_from, ordinal, version, time_high, issued, kind, status,"
    " issuer, specimen, unit, method, value, laterality, flags, mark, source, patient, result,"
    " owner, sensitivity, more",
    table="fact",
    open=_OPEN,
)
_LINKS = _OF_PERSON.format(
    columns="p.home, result, rid, t_from, status, issued, source, more, owner, sensitivity",
    table="result_of",
    open=_OPEN,
)
_OPENINGS = _OF_PERSON.format(
    columns='p.home, party, kind, source, ordinal, t_from, rid, grade, since, "until"',
    table="opening",
    open=_OPEN,
)
_CONSENTS = _OF_PERSON.format(
    columns='p.home, party, owner, class, rid, ordinal, t_from, rank, permit, since, "until"',
    table="consent",
    open=_OPEN,
)
_EVALUATIONS = _OF_ANY.format(
    columns='institution, item, p.rid, ordinal, t_from, area, "start", "end", passed, evaluator,'
    " round",
    table="evaluation",
    open=_OPEN,
)
_IDENTITY = _OF_ANY.format(columns="key, kind, home, p.rid", table="identity", open="TRUE")
_HELD = f"""
SELECT
  ARRAY(
    SELECT ROW(q.rid, r.owner, r.sensitivity)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) q (home, type, rid)
    CROSS JOIN LATERAL (SELECT owner, sensitivity FROM resource
      WHERE home = q.home AND type = q.type AND rid = q.rid OFFSET 0) r),
  ARRAY({_INTS}), ARRAY({_TEXTS}), ARRAY({_FACTS}), ARRAY({_LINKS}), ARRAY({_EVALUATIONS}),
  ARRAY({_IDENTITY}), ARRAY({_OPENINGS}), ARRAY({_CONSENTS})"""


def _by_key(verb: str, columns: str, kinds: str, *, texts: str = "") -> str:
    """A statement for the rows with these whole keys; the first column is the end where one is
    ended."""
    names = {"i": "bigint", "t": "text", "b": "bytea"}
    arrays = ", ".join(f"${n}::{names[kind]}[]" for n, kind in enumerate(kinds, 1))
    keys = [name for name in columns.split() if name != "ended"]
    where = " AND ".join(f"p.{name} = q.{name}" for name in keys)
    source = f"unnest({arrays}) q ({columns.replace(' ', ', ')})"
    return verb.format(source=source) + f" WHERE {where}{texts}"


_TEXT = " AND left(p.text, 128) = left(q.text, 128)"
_END = "UPDATE {table} p SET t_to = q.ended FROM {{source}}"
_DROP = "DELETE FROM {table} p USING {{source}}"
_WITHDRAWN = {
    "px_gone": _by_key(_DROP.format(table="px"), "home parameter v1 v2 rid", "iiiii"),
    "px_text_gone": _by_key(
        _DROP.format(table="px_text"), "home parameter text rid", "iiti", texts=_TEXT
    ),
    "gx_gone": _by_key(_DROP.format(table="gx"), "parameter v1 v2 home rid", "iiiii"),
    "gx_text_gone": _by_key(
        _DROP.format(table="gx_text"), "parameter text home rid", "itii", texts=_TEXT
    ),
    "fact_ended": _by_key(
        _END.format(table="fact"), "ended home item time rid t_from ordinal", "iitiiii"
    ),
    "result_of_ended": _by_key(
        _END.format(table="result_of"), "ended home result rid t_from", "iiiii"
    ),
    "evaluation_ended": _by_key(
        _END.format(table="evaluation"), "ended institution item rid ordinal t_from", "ittiii"
    ),
    "alias_ended": _by_key(
        _END.format(table="alias"), "ended home other cause source t_from", "iiitii"
    ),
    "person_ended": _by_key(_END.format(table="person"), "ended home t_from", "iii"),
    "proposal_ended": _by_key(
        _END.format(table="proposal"), "ended home other grade source t_from", "iiitii"
    ),
    "opening_ended": _by_key(
        _END.format(table="opening"), "ended home party kind source ordinal t_from", "iiitiii"
    ),
    "opening_extended": _by_key(
        'UPDATE opening p SET "until" = q.ended FROM {source}',
        "ended home party kind source ordinal t_from",
        "iiitiii",
    ),
    "consent_ended": _by_key(
        _END.format(table="consent"),
        "ended home party owner class rid ordinal t_from",
        "iiiiiiii",
    ),
    "identity_gone": _by_key(_DROP.format(table="identity"), "key kind home rid", "biii"),
    "schedule_row_gone": _by_key(_DROP.format(table="schedule_row"), "home schedule", "ii"),
    "slot_row_gone": _by_key(_DROP.format(table="slot_row"), "home slot", "ii"),
    "slot_item_gone": _by_key(_DROP.format(table="slot_item"), 'item "start" home slot', "tiii"),
    "seat_gone": _by_key(_DROP.format(table="seat"), "home slot seat", "iii"),
    "quota_gone": _by_key(_DROP.format(table="quota"), "home bucket kind channel", "ittt"),
    "client_token_gone": _by_key(_DROP.format(table="client_token"), "hash", "b"),
}
