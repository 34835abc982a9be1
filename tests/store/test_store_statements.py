"""Every statement of the driver finds its rows by a key: none goes through a table or sorts one."""

from __future__ import annotations

import apsw
import pytest

from fhir_gateway.security.actor import Access, Sight
from fhir_gateway.store import statements, visible
from fhir_gateway.store.migrate import migrations
from fhir_gateway.store.sight_sql import Statement, shape_of
from fhir_gateway.store.visible import SEE_ALL, SEE_OWN, visible_of

#: What goes through a table on purpose: an operator's count, and the short list of sources.
SHAPES = {
    "all": SEE_ALL,
    "own": SEE_OWN,
    "closed": visible_of(shape_of(Access(closed=frozenset({"AuditEvent"})))),
    "person": visible_of(shape_of(Access(owners=frozenset(), homes=frozenset({1})))),
    **{
        f"sight-{relation:d}{permit:d}{denials:d}": visible_of(
            shape_of(
                Access(
                    owners=frozenset({1}), sight=Sight(1, relation, permit, denials),
                    homes=frozenset({1}), whole=frozenset({"Slot"}), closed=frozenset({"Task"}),
                )
            )
        )
        for relation in (True, False) for permit in (True, False) for denials in (True, False)
    },
}  # fmt: skip
WHOLE_TABLES = ("visible.SEEN", *(f"{shape}.counts" for shape in SHAPES))
#: What sorts the few rows it has found.
SORTED = ("visible.EVALUATIONS",)
#: Not statements by themselves.
PARTS = (
    "statements.SHARED", "statements.HELD_OF_PERSON", "statements.HELD_SHARED", "visible.STORED",
    "visible.HOME",
)  # fmt: skip

#: A table of one row, a bound list, and a subquery with a limit.
SHORT = ("clock", "c", "CONSTANT ROW", "json_each VIRTUAL TABLE INDEX 1:", "change_set")


def statements_by_name():
    for module in (statements, visible):
        for name, text in vars(module).items():
            if name.isupper() and not name.startswith("_") and isinstance(text, str):
                yield f"{module.__name__.rpartition('.')[2]}.{name}", text
    for shape, visible_to in SHAPES.items():
        for name, value in visible_to._asdict().items():
            for size, one in value.items() if isinstance(value, dict) else [("", value)]:
                assert isinstance(one, Statement)
                yield f"{shape}.{name}{size}", one.sql
    for name in ("INDEX_ROWS", "INDEX_TEXTS", "DROP_INDEX_ROWS", "DROP_INDEX_TEXTS"):
        yield f"shared.{name}", getattr(statements, name) + statements.SHARED
    for name in ("HELD_INTS", "HELD_TEXTS", "HELD_FACTS", "HELD_LINKS"):
        yield f"person.{name}", getattr(statements, name) + statements.HELD_OF_PERSON
    for name in ("HELD_INTS", "HELD_TEXTS"):
        yield f"shared.{name}", getattr(statements, name) + statements.HELD_SHARED


CASES = [case for case in statements_by_name() if case[0] not in (*WHOLE_TABLES, *PARTS)]


@pytest.fixture(scope="module")
def empty():
    connection = apsw.Connection(":memory:")
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # as the engine opens them
    for _, script in migrations():
        connection.execute(script)
    yield connection
    connection.close()


def plan_of(connection, text):
    for count in range(100):
        try:
            return connection.execute("EXPLAIN QUERY PLAN " + text, (1,) * count).fetchall()
        except apsw.BindingsError:
            continue
    raise AssertionError("too many parameters")


@pytest.mark.parametrize(("name", "text"), CASES, ids=[name for name, _ in CASES])
def test_a_statement_finds_its_rows_by_a_key(empty, name, text):
    steps = [step[3] for step in plan_of(empty, text)]
    scanned = [step.removeprefix("SCAN ") for step in steps if step.startswith("SCAN ")]
    assert [table for table in scanned if table not in SHORT] == []
    if name not in SORTED:
        assert [step for step in steps if "FOR ORDER BY" in step] == []
