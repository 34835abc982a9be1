"""The writing of a batch's rows on SQLite, table by table.

One prepared statement for many rows is several times cheaper than a statement a row; rows of an
index are sorted so that neighbours are written together.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain
from operator import attrgetter

import apsw

from fhir_gateway.store import claim_sql, client_sql
from fhir_gateway.store import statements as sql
from fhir_gateway.store.message_rows import write_sqlite
from fhir_gateway.store.rows import Row, Rows

_TABLES = (
    ("locator", sql.ADD_LOCATOR, True),
    ("resource", sql.ADD_RESOURCE, False),  # holds None, which does not sort
    ("px", sql.ADD_INDEX_ROW, True),
    ("px_text", sql.ADD_INDEX_TEXT, True),
    ("gx", sql.ADD_GLOBAL_ROW, True),
    ("gx_text", sql.ADD_GLOBAL_TEXT, True),
    ("fact", sql.ADD_FACT, False),
    ("result_of", sql.ADD_LINK, False),
    ("evaluation", sql.ADD_EVALUATION, False),
    ("identity", sql.ADD_IDENTITY, False),
    ("alias", sql.ADD_ALIAS, True),
    ("person", sql.ADD_PERSON, True),
    ("proposal", sql.ADD_PROPOSAL, True),
    ("opening", sql.ADD_OPENING, True),
    ("consent", sql.ADD_CONSENT, True),
    ("change", sql.ADD_CHANGE, False),
    ("once", sql.ADD_ONCE, False),
    ("counter", sql.SET_COUNTER, False),
    ("received", sql.ADD_RECEIVED, False),
    ("credential", sql.SET_CREDENTIAL, False),
    ("seen", sql.SET_SEEN, False),
    ("client", client_sql.SET_CLIENT, False),
    ("client_token", client_sql.SET_ISSUED, False),
    ("schedule_row", claim_sql.SET_SCHEDULE, False),
    ("slot_row", claim_sql.SET_SLOT, True),
    ("slot_item", claim_sql.ADD_SLOT_ITEM, True),
    ("seat", claim_sql.SET_SEAT, False),
    ("quota", claim_sql.SET_QUOTA, False),
    ("booking", claim_sql.SET_BOOKING, False),
    ("change_set", sql.ADD_CHANGE_SET, False),
)

#: What is taken away or ended, row by row, before anything is added.
_WITHDRAWN = (
    ("px_gone", sql.DROP_INDEX_ROW, True),
    ("px_text_gone", sql.DROP_INDEX_TEXT, True),
    ("gx_gone", sql.DROP_GLOBAL_ROW, True),
    ("gx_text_gone", sql.DROP_GLOBAL_TEXT, True),
    ("fact_ended", sql.END_FACT, False),
    ("result_of_ended", sql.END_LINK, False),
    ("evaluation_ended", sql.END_EVALUATION, False),
    ("identity_gone", sql.DROP_IDENTITY_KEY, False),
    ("client_token_gone", client_sql.DROP_ISSUED, False),
    ("schedule_row_gone", claim_sql.DROP_SCHEDULE, False),
    ("slot_row_gone", claim_sql.DROP_SLOT, False),
    ("slot_item_gone", claim_sql.DROP_SLOT_ITEM, True),
    ("seat_gone", claim_sql.DROP_SEAT, False),
    ("quota_gone", claim_sql.DROP_QUOTA, False),
    ("alias_ended", sql.END_ALIAS, False),
    ("person_ended", sql.END_PERSON, False),
    ("proposal_ended", sql.END_PROPOSAL, False),
    ("opening_ended", sql.END_OPENING, False),
    ("consent_ended", sql.END_CONSENT, False),
    ("opening_extended", sql.EXTEND_OPENING, False),
)

#: Nothing in a batch asks for these: they are written once, at its end.
_JOURNAL = (("journal", sql.ADD_JOURNAL, False), ("journal_home", sql.ADD_JOURNAL_HOME, True))


def write(connection: apsw.Connection, rows: Rows) -> None:
    """Writes what was gathered, but the journal, and forgets it."""
    if rows.retired:
        for row in rows.retired:
            _retire(connection, *row)
        rows.retired.clear()
    _insert(connection, _gathered_withdrawn(rows), _WITHDRAWN)
    _insert(connection, _gathered(rows), _TABLES)
    write_sqlite(connection, rows)


def write_journal(connection: apsw.Connection, rows: Rows) -> None:
    """Writes the journal of a batch."""
    _insert(connection, (rows.journal, rows.journal_home), _JOURNAL)


#: What was gathered for each table, in the order of the tables: a change set fills a few of many.
_gathered = attrgetter(*(name for name, _, _ in _TABLES))
_gathered_withdrawn = attrgetter(*(name for name, _, _ in _WITHDRAWN))


def _insert(
    connection: apsw.Connection,
    all_gathered: tuple[list[Row], ...],
    tables: tuple[tuple[str, str, bool], ...],
) -> None:
    for gathered, (_, statement, sort) in zip(all_gathered, tables, strict=True):
        if gathered:
            write_rows(connection, statement, sorted(gathered) if sort else gathered)
            gathered.clear()


#: Rows of one statement, as long as there are so many left. A connection keeps the statements of
#: its last executions, and each row of an `executemany` counts as one: hundreds of them would have
#: all others prepared anew for every batch.
_TOGETHER = (64, 16, 4)


def write_rows(connection: apsw.Connection, statement: str, rows: Sequence[Row]) -> None:
    """Carries out a statement for each of the rows, in their order."""
    at, count = 0, len(rows)
    if count >= _TOGETHER[-1] and _ends_in_values(statement):
        for size in _TOGETHER:
            while count - at >= size:
                together = tuple(chain.from_iterable(rows[at : at + size]))
                connection.execute(_of_several(statement, size), together)
                at += size
    for row in rows[at:]:
        connection.execute(statement, row)


@cache
def _ends_in_values(statement: str) -> bool:
    """Whether a statement adds rows and says no more of them."""
    return statement.rpartition("VALUES")[2].count("(") == 1 and statement.endswith(")")


@cache
def _of_several(statement: str, count: int) -> str:
    head, _, row = statement.rpartition("VALUES")
    return f"{head}VALUES{', '.join([row] * count)}"


def _retire(connection: apsw.Connection, type: int, home: int, rid: int, ended: int) -> None:
    """Takes the current version out of the way: to `version`, its index rows gone, what it
    says ended at that commit.
    """
    place = (home, type, rid)
    connection.execute(sql.KEEP_VERSION, place)
    connection.execute(sql.DROP_RESOURCE, place)
    _drop_index(connection, home, rid)
    if home > 0:
        connection.execute(sql.END_FACTS, (ended, home, rid))
        connection.execute(sql.END_LINKS, (ended, home, rid))
        connection.execute(sql.END_OPENINGS, (ended, home, rid))
        connection.execute(sql.END_CONSENTS, (ended, home, rid))
    connection.execute(sql.END_EVALUATIONS, (ended, rid))
    connection.execute(sql.DROP_IDENTITY, (rid,))


def _drop_index(connection: apsw.Connection, home: int, rid: int) -> None:
    """Removes the index rows of one resource, the global ones by their twins in the home."""
    shared = sql.SHARED if home <= 0 else ""
    place = (home, rid)
    ints = connection.execute(sql.INDEX_ROWS + shared, place).fetchall()
    texts = connection.execute(sql.INDEX_TEXTS + shared, place).fetchall()
    if ints:
        connection.executemany(sql.DROP_GLOBAL_ROW, [(*row, *place) for row in ints])
        connection.execute(sql.DROP_INDEX_ROWS + shared, place)
    if texts:
        connection.executemany(sql.DROP_GLOBAL_TEXT, [(*row, *place) for row in texts])
        connection.execute(sql.DROP_INDEX_TEXTS + shared, place)
