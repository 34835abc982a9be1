"""Whoever changes the database is found: every byte of every column, and whole rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from audit_logs import NAME, SmallLog, standalone
from databases import Databases

from fhir_gateway.audit import tree
from fhir_gateway.store.blobs import unpack
from fhir_gateway.store.log import NOWHERE, Place, Purge
from fhir_gateway.transparency import govern, proofs
from fhir_gateway.transparency.note import Malformed
from fhir_gateway.transparency.statement import check_chain
from fhir_gateway.transparency.verify import Wanted, _Check, verify
from fhir_gateway.transparency.verify_found import Finding, Report
from fhir_gateway.transparency.verify_heads import check_head
from fhir_gateway.transparency.verify_leaves import Piece, check_piece
from fhir_gateway.transparency.verify_read import DAMAGE, SqliteReading

sqlite_only = pytest.mark.drivers("sqlite")


class Copied(SqliteReading):
    """A copy of a store in memory, to be changed."""

    def __init__(self, path: Path) -> None:
        source = apsw.Connection(str(path))
        self._connection = apsw.Connection(":memory:")
        with self._connection.backup("main", source, "main") as work:
            work.step()
        source.close()

    @property
    def sql(self) -> Any:
        return self._connection.execute

    def findings(self, witness: str = "") -> list[Any]:
        """What a whole check finds; of reading what is broken, one finding."""
        report = Report()
        try:
            wanted = Wanted(witness=witness)
            _Check(self, "", wanted, lambda what, done, of: None, report).run()
        except DAMAGE as error:
            report.add(Finding("damage", "database", str(error)))
        return report.findings


@pytest.fixture
def copied(small: SmallLog) -> Iterator[Copied]:
    small.record(5)
    small.sign()
    small.record(3)
    small.run(govern.rotate(small.gateway, "a test"))
    small.clock.time += 61_000_000
    small.sign()
    copy = Copied(Path(small.settings.database.removeprefix("sqlite:///")))
    assert copy.findings() == []
    yield copy
    copy.close()


def changes(value: Any) -> Iterator[Any]:
    """Every other value that differs in one byte; of numbers some neighbours."""
    if isinstance(value, int):
        yield from (value + 1, value - 1, value ^ (1 << 40))
    elif isinstance(value, bytes):
        for at in range(len(value)):
            yield value[:at] + bytes([value[at] ^ (1 << at % 8)]) + value[at + 1 :]
    elif isinstance(value, str):
        for at, letter in enumerate(value):
            other = "\n" if letter == "A" else chr(ord(letter) ^ (1 + at % 2))
            yield value[:at] + other + value[at + 1 :]
    else:
        yield "somebody"


@sqlite_only
def test_145_any_byte_of_any_record_is_found(copied: Copied) -> None:
    columns = [row[1] for row in copied.sql("PRAGMA table_info(journal)")]
    size = copied.sql("SELECT max(size) FROM log_head").get
    piece = Piece(0, size, NOWHERE, (1 << 62, 0, 0))
    tried = 0
    for row in copied.sql("SELECT * FROM journal ORDER BY t, n, i LIMIT 4").fetchall():
        whole = dict(zip(columns, row, strict=True))
        for column, value in whole.items():
            for other in changes(value):
                found = _with(copied, "journal", whole, column, other, piece)
                if column == "body" and not found:  # bits of a frame that say nothing
                    assert unpack(whole["enc"], other) == unpack(whole["enc"], value)
                else:
                    assert found, (column, other)
                tried += 1
    assert tried > 500


def _with(
    copied: Copied, table: str, row: dict[str, Any], column: str, other: Any, piece: Piece
) -> list[Any]:
    """What the check of the records finds when one value is another."""
    where, place = "t = ? AND n = ? AND i = ?", (row["t"], row["n"], row["i"])
    copied.sql("SAVEPOINT s")
    try:
        copied.sql(f"UPDATE {table} SET {column} = ? WHERE {where}", (other, *place))
        return check_piece(copied, piece, {}).findings
    except apsw.ConstraintError:
        return ["refused"]
    finally:
        copied.sql("ROLLBACK TO s")
        copied.sql("RELEASE s")


@sqlite_only
def test_145_any_byte_of_any_head_and_statement_is_found(copied: Copied) -> None:
    turns = [row[0] for row in copied.sql("SELECT note FROM log_turn ORDER BY ordinal")]
    chain = check_chain(turns)
    for head in copied.sql("SELECT size, t, n, i, signed, note, beat FROM log_head").fetchall():
        assert check_head(head, chain).findings == []
        for at in (0, 4, 5, 6):
            for other in changes(head[at]):
                changed = (*head[:at], other, *head[at + 1 :])
                assert check_head(changed, chain).findings, (at, other)
    for number, note in enumerate(turns):
        for other in changes(note):
            with pytest.raises(Malformed):
                check_chain([*turns[:number], other, *turns[number + 1 :]])


@sqlite_only
def test_145_any_byte_of_the_tree_and_of_its_rows_is_found(copied: Copied) -> None:
    whole = {
        "log_tile": ("number", "level", "t", "n", "i", "hashes"),
        "log_head": ("size", "t", "n", "i", "signed"),
        "log_turn": ("ordinal", "size", "kind", "event"),
    }
    for table, columns in whole.items():
        key = columns[0]
        for row in copied.sql(f"SELECT {', '.join(columns)} FROM {table}").fetchall():
            for column, value in zip(columns, row, strict=True):
                for count, other in enumerate(changes(value)):
                    if count % (1 if isinstance(value, int) else 7) == 0:
                        copied.sql("SAVEPOINT s")
                        try:
                            copied.sql(
                                f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (other, row[0])
                            )
                            assert copied.findings(), (table, column, other)
                        except apsw.ConstraintError:  # of two rows with one key
                            assert column == key
                        copied.sql("ROLLBACK TO s; RELEASE s")


#: What somebody with the database in hand may do, and what the finding must name.
CHANGES = {
    "a record is deleted": (
        "DELETE FROM journal WHERE (t, n, i) = (SELECT t, n, i FROM journal LIMIT 1 OFFSET 3)",
        "removed: leaf 3",
    ),
    "the first is deleted": (
        "DELETE FROM journal WHERE (t, n, i) = (SELECT t, n, i FROM journal LIMIT 1)",
        "removed: leaf 0",
    ),
    "the last one is deleted": (
        "DELETE FROM journal WHERE t = (SELECT max(t) FROM journal)",
        "removed: leaf 8",
    ),
    "one is added": (
        "INSERT INTO journal SELECT t, n, i + 50, type, 'forged', home, updated, patient, owner,"
        " nonce, leaf, enc, body FROM journal LIMIT 1 OFFSET 2",
        "added: record forged",
    ),
    "one is added before all": (
        "INSERT INTO journal SELECT 0, 0, 0, type, 'forged', home, updated, patient, owner,"
        " nonce, leaf, enc, body FROM journal LIMIT 1",
        "added: record forged at place (0, 0, 0)",
    ),
    "one stands for another": (
        "UPDATE journal SET (id, nonce, leaf, enc, body) ="
        " (SELECT id, nonce, leaf, enc, body FROM journal LIMIT 1 OFFSET 4)"
        " WHERE (t, n, i) = (SELECT t, n, i FROM journal LIMIT 1 OFFSET 1)",
        "it does not give its leaf 1",
    ),
    "one is back-dated": (
        "UPDATE journal SET updated = updated - 86400000000"
        " WHERE (t, n, i) = (SELECT t, n, i FROM journal LIMIT 1 OFFSET 5)",
        "it does not give its leaf 5",
    ),
    "one is another person's": (
        "UPDATE journal SET home = 99, patient = 'else'"
        " WHERE (t, n, i) = (SELECT t, n, i FROM journal LIMIT 1 OFFSET 5)",
        "it does not give its leaf 5",
    ),
    "a record is written anew, with its commitment": (
        "UPDATE journal SET nonce = x'01', enc = 0, body = CAST('}' AS BLOB), leaf ="
        " x'cf45cb0ef4ae25e80ab3a42b2cd8a7b8c45ca9aa5b6ba8dffd8a5f2ab7a3b7a5'"
        " WHERE (t, n, i) = (SELECT t, n, i FROM journal LIMIT 1 OFFSET 6)",
        "changed: record",
    ),
    "a tile is deleted": ("DELETE FROM log_tile", "there are tiles for 0 leaves only"),
    "a tile is added": (
        "INSERT INTO log_tile VALUES (7, 0, 9, 9, 9, x'00')",
        "tile 0/7: the tree has no such tile",
    ),
    "the statements are deleted": ("DELETE FROM log_turn", "no statement goes before it"),
    "the change of the key is deleted": (
        "DELETE FROM log_turn WHERE ordinal = 2",
        "head 9: it is not signed by the log's key",
    ),
}


@sqlite_only
@pytest.mark.parametrize("name", CHANGES)
def test_146_whoever_changes_rows_is_found_and_the_record_named(name: str, copied: Copied) -> None:
    sql, said = CHANGES[name]
    copied.sql(sql)
    found = [str(finding) for finding in copied.findings()]
    assert any(said in finding for finding in found), found


@sqlite_only
def test_146_records_that_change_places_are_found(copied: Copied) -> None:
    rows = copied.sql("SELECT t, n, i, id FROM journal LIMIT 2").fetchall()
    one, two = rows[0], rows[1]
    where = "WHERE t = ? AND n = ? AND i = ?"
    copied.sql(f"UPDATE journal SET i = 77 {where}", one[:3])
    copied.sql(f"UPDATE journal SET i = ? {where}", (one[2], *two[:3]))
    copied.sql(f"UPDATE journal SET i = ? {where}", (two[2], one[0], one[1], 77))
    found = [str(finding) for finding in copied.findings()]
    assert all(any(row[3] in finding for finding in found) for row in rows), found


@sqlite_only
def test_147_a_tail_that_was_cut_off_with_its_heads_is_found_by_the_witness(
    small: SmallLog,
) -> None:
    small.record(6)
    small.sign()
    path = Path(small.settings.database.removeprefix("sqlite:///"))
    before = Copied(path)
    small.record(6)
    small.sign()
    seen = small.head().note + "\n"
    assert Copied(path).findings(seen) == []
    assert before.findings() == []  # by itself yesterday's database is whole
    assert [finding.kind for finding in before.findings(seen)] == ["witness"]


def test_146_a_log_that_was_copied_from_elsewhere_is_found(
    small: SmallLog, database: Databases, tmp_path: Path
) -> None:
    small.record(4)
    small.sign()
    other = SmallLog(database.url("other"), tmp_path / "other.key")
    other.record(4)
    other.sign()
    try:
        kept = small.head().note + "\n"
        found = verify(other.settings.database, Wanted(witness=kept)).findings
        assert "the log shows another tree of this size" in {each.what for each in found}
    finally:
        other.close()


def test_154_what_an_administrator_of_the_database_deletes_is_found(
    small: SmallLog, database: Databases
) -> None:
    small.record(300)
    small.sign()
    assert small.verify(jobs=1).findings == []
    victim = small.rows()[280]
    t, n, i = victim.place
    database.execute(f"DELETE FROM journal WHERE t = {t} AND n = {n} AND i = {i}")
    report = small.verify()
    assert ("removed", "leaf 280") in {(each.kind, each.where) for each in report.findings}
    quick = small.verify(quick=True)
    assert [str(each) for each in quick.findings] == [str(each) for each in report.findings]
    assert small.verify(start=0).leaves == 299


def test_154_a_table_that_was_dropped_is_a_finding_and_no_crash(
    small: SmallLog, database: Databases
) -> None:
    small.record(3)
    small.sign()
    small.stop()
    url = small.settings.database
    for table in ("log_head", "log_tile", "log_turn"):
        database.execute(f"ALTER TABLE {table} RENAME TO gone")
        assert [each.kind for each in verify(url).findings] == ["damage"], table
        database.execute(f"ALTER TABLE gone RENAME TO {table}")
    assert verify(url).sound
    small.restart()


@sqlite_only
def test_a_file_that_is_damaged_is_a_finding_and_no_crash(small: SmallLog, tmp_path: Path) -> None:
    small.record(300)
    small.sign()
    path = Path(small.settings.database.removeprefix("sqlite:///"))
    copy = tmp_path / "copy.sqlite"
    with apsw.Connection(str(copy)).backup("main", apsw.Connection(str(path)), "main") as work:
        work.step()
    content = copy.read_bytes()
    found = 0
    for start in range(0, len(content), 8192):
        copy.write_bytes(content[:start] + bytes(8192) + content[start + 8192 :])
        found += bool(verify(f"sqlite:///{copy}").findings)
    assert found > 10


def test_the_stand_alone_verifier_knows_the_same_name() -> None:
    key = standalone().Key
    with pytest.raises(standalone().Wrong.__mro__[1]):
        key(f"{NAME}+00000000+AA==")


def test_157_what_was_lawfully_removed_is_counted_and_nothing_else_passes(
    small: SmallLog, database: Databases
) -> None:
    small.record(12)
    small.sign()
    rows = small.rows()
    small.clock.time += 4 * 366 * 86_400_000_000
    after, upto = NOWHERE, rows[8].place
    small.tell("retention", [("purged-after", _said(after)), ("purged-upto", _said(upto))])
    small.sign()
    until = small.clock.time - 1_200 * 86_400_000_000
    assert small.run(small.gateway.store.log(Purge(after, upto, until))) == 9
    report = small.verify()
    assert (report.findings, report.purged) == ([], 9)
    proven = small.run(proofs.prove_entry(small.gateway.store, small.rows()[3]))
    assert tree.includes(proven.leaf, 3, proven.size, proven.path, proven.root)
    t, n, i = rows[10].place
    nothing = "x''" if database.driver == "sqlite" else "''::bytea"
    database.execute(
        f"UPDATE journal SET enc = 8, body = {nothing}, nonce = {nothing}"
        f" WHERE t = {t} AND n = {n} AND i = {i}"
    )
    assert [(each.kind, each.where) for each in small.verify().findings] == [
        ("removed", f"record at place {rows[10].place}")
    ]


def _said(place: Place) -> str:
    return " ".join(map(str, place))
