"""Both drivers have the same tables and columns; PostgreSQL's keys can be spread over servers."""

from __future__ import annotations

import apsw
import pytest
from databases import Databases

from fhir_gateway.store.migrate import migrations
from fhir_gateway.store.postgres_migrate import migrations as postgres_migrations

pytestmark = pytest.mark.drivers("postgresql")

#: What each type of SQLite is in PostgreSQL.
TYPES = {"INTEGER": "bigint", "TEXT": "text", "BLOB": "bytea"}

#: PostgreSQL keeps the number of its schema in a table, SQLite in the file's header.
OWN = {"schema"}

#: Keys that are unique over all homes, each by what it leads with. A unique key that is neither
#: here nor leads with home could not be kept unique on several servers.
GLOBAL_KEYS = {
    "change": "t", "change_set": "t", "clock": "one", "counter": "key", "credential": "hash",
    "evaluation": "institution", "gx": "parameter", "identity": "key", "job": "id",
    "journal": "t", "locator": "type", "once": "kind", "received": "hash", "seen": "institution",
    "client": "id", "client_token": "hash",
    "message": "id", "refused": "hash", "message_count": "institution",
    "slot_item": "item",
    "log_seat": "one", "log_tile": "number", "log_head": "size", "log_turn": "ordinal",
}  # fmt: skip
GLOBAL_IDS = {("change_set", "id")}

#: Tables of homes, in eight parts each.
LINKED = {"alias", "person", "proposal"}  # of homes, small and whole: followed from home to home
ACCESS = {"opening", "consent"}  # of homes, whole: looked at from rows of any home
#: Of institutions' homes, whole: found from rows of any home when a Slot is looked for.
SEATS = {"schedule_row", "slot_row", "seat", "quota"}
HOMES = {
    "resource", "version", "px", "px_text", "fact", "result_of", "journal_home", "booking",
}  # fmt: skip


def test_both_drivers_have_the_same_columns(database: Databases) -> None:
    connection = apsw.Connection(":memory:")
    for _, script in migrations():
        connection.execute(script)
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if not name.startswith("sqlite_")
    ]
    expected = {
        (table, column, TYPES[type], bool(not_null or key))
        for table in tables
        for column, type, not_null, key in connection.execute(
            'SELECT name, type, "notnull", pk FROM pragma_table_info(?)', (table,)
        )
    }
    found = database.rows(
        "SELECT table_name, column_name, data_type, is_nullable = 'NO'"
        " FROM information_schema.columns c JOIN pg_class p ON p.relname = c.table_name"
        " WHERE table_schema = 'public' AND NOT p.relispartition"
    )
    assert {row for row in found if row[0] not in OWN} == expected


def test_texts_compare_byte_by_byte(database: Databases) -> None:
    other = database.rows(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = 'public' AND data_type = 'text'"
        " AND collation_name IS DISTINCT FROM 'C'"
    )
    assert other == []


def test_unique_keys_lead_with_home_or_are_global(database: Databases) -> None:
    leading = database.rows(
        "SELECT t.relname, a.attname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid"
        " JOIN pg_namespace s ON s.oid = t.relnamespace AND s.nspname = 'public'"
        " JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[0]"
        " WHERE i.indisunique AND NOT t.relispartition"
    )
    spread = {(table, column) for table, column in leading if table not in OWN}
    homes = {table for table, column in spread if column == "home"}
    assert spread - {(table, "home") for table in homes} == {*GLOBAL_KEYS.items(), *GLOBAL_IDS}
    assert homes == HOMES - {"px_text"} | LINKED | ACCESS | SEATS


def test_homes_are_spread_over_eight_parts(database: Databases) -> None:
    parts = database.rows(
        "SELECT p.relname, pg_get_partkeydef(p.oid), count(*) FROM pg_inherits i"
        " JOIN pg_class p ON p.oid = i.inhparent WHERE p.relkind = 'p' GROUP BY 1, 2"
    )
    assert set(parts) == {(table, "HASH (home)", 8) for table in HOMES}


@pytest.mark.parametrize("steps", [migrations(), postgres_migrations()], ids=["sqlite", "pg"])
def test_migrations_are_numbered_without_a_gap(steps: tuple[tuple[int, str], ...]) -> None:
    assert [number for number, _ in steps] == list(range(1, len(steps) + 1))
