"""The files of a store: engine, lock, socket, migrations."""

from __future__ import annotations

import asyncio
import os
import socket
import stat

import apsw
import pytest
from store_builders import TestClock, body, change, patient

from fhir_gateway.errors import Unavailable
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.security.actor import Access
from fhir_gateway.store import lock, points
from fhir_gateway.store.backfill import resource_keys
from fhir_gateway.store.engine import (
    PAGE_SIZE,
    check_engine,
    is_safe,
    open_reader,
    open_writer,
    use_wal,
)
from fhir_gateway.store.migrate import APPLICATION, migrate, migrations
from fhir_gateway.store.sqlite import open_sqlite


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ("3.40.1", False), ("3.44.5", False), ("3.44.6", True), ("3.45.0", False),
        ("3.50.6", False), ("3.50.7", True), ("3.51.2", False), ("3.51.3", True),
        ("3.53.0", True), ("3.54.1", True), ("4.0.0", True),
    ],
)  # fmt: skip
def test_an_engine_that_can_lose_commits_is_refused(version, safe):
    assert is_safe(version) is safe
    if not safe:
        with pytest.raises(Unavailable):
            check_engine(version)


def test_every_commit_is_synced_to_a_log_with_large_pages(tmp_path):
    connection = open_writer(tmp_file(tmp_path))
    use_wal(connection)
    migrate(connection, now=1, random=os.urandom)
    pragmas = {
        name: connection.pragma(name)
        for name in ("journal_mode", "synchronous", "page_size", "application_id", "user_version")
    }
    tables = connection.execute(
        "SELECT count(*), sum(strict) FROM pragma_table_list WHERE schema = 'main' "
        "AND type = 'table' AND name NOT LIKE 'sqlite_%'"
    ).get
    connection.close()
    assert pragmas == {
        "journal_mode": "wal", "synchronous": 2, "page_size": PAGE_SIZE,
        "application_id": APPLICATION, "user_version": len(migrations()),
    }  # fmt: skip
    assert tables[0] == tables[1] > 15


def test_statements_are_prepared_once(tmp_path):
    for connection in (open_writer(tmp_file(tmp_path)), open_reader(tmp_file(tmp_path))):
        assert connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, -1) == 1
        connection.close()


def tmp_file(folder):
    path = folder / "store.sqlite"
    path.touch(mode=0o600)
    return path


def test_a_store_is_readable_by_its_owner_only(tmp_path):
    async def scenario():
        store = await open_one(tmp_path / "new" / "store.sqlite")
        await store.commit(change(patient("p1")))
        modes = {
            path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()
        }
        await store.close()
        return modes, sorted(path.name for path in (tmp_path / "new").iterdir())

    modes, left = asyncio.run(scenario())
    assert modes == {f"store.sqlite{end}": 0o600 for end in ("", "-wal", "-shm", ".lock", ".sock")}
    assert left == ["store.sqlite", "store.sqlite.lock"]


def open_one(path):
    return open_sqlite(path, clock=TestClock(), random=os.urandom)


# -- migrations ----------------------------------------------------------------------------------

STEPS = (
    *migrations(),
    (len(migrations()) + 1, "CREATE TABLE more (x INTEGER) STRICT; INSERT INTO more VALUES (1);"),
)


def schema(connection):
    return connection.execute("SELECT sql FROM sqlite_schema ORDER BY name").fetchall()


def test_migrating_twice_changes_nothing(tmp_path):
    connection = open_writer(tmp_file(tmp_path))
    migrate(connection, now=1, random=os.urandom, steps=STEPS)
    before = schema(connection), connection.execute("SELECT * FROM clock").get
    assert migrate(connection, now=2, random=os.urandom, steps=STEPS) == len(STEPS)
    assert (schema(connection), connection.execute("SELECT * FROM clock").get) == before
    assert connection.execute("SELECT x FROM more").fetchall() == [(1,)]
    connection.close()


def test_a_migration_that_stops_at_any_statement_has_not_happened(tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def stop_at(count):
        left = [count]

        def reached(name):
            left[0] -= name == "migration-statement"
            if left[0] == 0:
                raise Stop

        return reached

    path = tmp_file(tmp_path)
    statements = 0
    while True:
        connection = open_writer(path)
        monkeypatch.setattr(points, "reached", stop_at(statements + 1))
        try:
            migrate(connection, now=1, random=os.urandom, steps=STEPS)
            break
        except Stop:
            statements += 1
            version = connection.pragma("user_version")
            assert (version == 0) == (schema(connection) == [])
            assert version in range(len(STEPS))
        finally:
            connection.close()
    assert statements > 20
    connection = open_writer(path)
    assert connection.execute("SELECT x FROM more").fetchall() == [(1,)]
    connection.close()


def test_resources_of_an_older_schema_are_given_their_keys(tmp_path):
    """In pieces; and what a killed fill left is filled by the next."""
    connection = open_writer(tmp_file(tmp_path))
    migrate(connection, now=1, random=os.urandom, steps=migrations()[:2])
    for rid in range(1, 26):
        connection.execute(
            "INSERT INTO resource (home, type, rid, id, version, t, n, updated, deleted, owner,"
            " sensitivity, enc) VALUES (?, ?, ?, ?, 1, 1, 0, 1, 0, 0, 0, 0)",
            (rid % 3 - 1, type_key("Patient" if rid % 2 else "Group"), rid, f"r{rid}"),
        )
    connection.execute("UPDATE resource SET key = ? WHERE rid = 7", (key64("Patient/r7"),))
    assert resource_keys(connection, piece=4) == 24
    migrate(connection, now=1, random=os.urandom)
    kept = connection.execute("SELECT rid, key FROM resource ORDER BY rid").fetchall()
    expected = [(rid, key64(f"{'Patient' if rid % 2 else 'Group'}/r{rid}")) for rid in range(1, 26)]
    assert kept == expected
    plan = connection.execute("EXPLAIN QUERY PLAN SELECT home FROM resource WHERE key = 1").get
    assert plan[3] == "SEARCH resource USING COVERING INDEX resource_key (key=?)"
    connection.close()


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    path = tmp_file(tmp_path)
    connection = open_writer(path)
    migrate(connection, now=1, random=os.urandom, steps=STEPS)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Unavailable) as refused:
        asyncio.run(open_one(path))
    assert refused.value.issues[0].rule == "schema-newer"
    assert path.read_bytes() == before


def test_a_foreign_database_is_refused_and_left_alone(tmp_path):
    path = tmp_file(tmp_path)
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(Unavailable) as refused:
        asyncio.run(open_one(path))
    assert refused.value.issues[0].rule == "foreign-database"
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"hello " * 500)
    with pytest.raises(Unavailable) as refused:
        asyncio.run(open_one(path))
    assert refused.value.issues[0].rule == "cannot-open"
    assert lock.take(path) is not None


# -- lock and socket -----------------------------------------------------------------------------


def test_one_process_holds_the_lock(tmp_path):
    database = tmp_path / "store.sqlite"
    held = lock.take(database)
    assert lock.take(database) is None
    assert lock.holder(database) == lock.Holder(os.getpid(), str(database) + ".sock")
    held.release()
    held.release()
    again = lock.take(database)
    assert again is not None
    again.release()


def test_a_long_path_gets_a_socket_in_a_private_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: str(tmp_path))
    database = tmp_path / ("d" * 120) / "store.sqlite"
    path = lock.socket_path(database)
    assert path.parent.parent == tmp_path
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert lock.socket_path(database) == path
    assert lock.socket_path(database.with_name("other.sqlite")) != path
    path.parent.chmod(0o755)
    with pytest.raises(Unavailable):
        lock.socket_path(database)


def test_two_openings_meet_over_a_long_path(tmp_path, monkeypatch):
    short = os.path.realpath("/tmp/" if len(str(tmp_path)) > 60 else tmp_path)
    monkeypatch.setattr(lock.tempfile, "gettempdir", lambda: short)
    path = tmp_path / ("d" * 120) / "store.sqlite"

    async def scenario():
        first, second = await open_one(path), await open_one(path)
        await second.commit(change(patient("p1", text="x")))
        async with first.snapshot(Access()) as reader:
            found = await reader.read("Patient", "p1")
        await second.close()
        await first.close()
        return found.tail

    assert asyncio.run(scenario()) == body("x")


def test_a_stranger_at_the_socket_harms_nobody(tmp_path):
    async def scenario():
        store = await open_one(tmp_path / "store.sqlite")
        for noise in (b"GET / HTTP/1.1\r\n\r\n", b"\x00\x00\x00\x02\xff\xff", b"\x00\x00"):
            reader, stream = await asyncio.open_unix_connection(str(tmp_path / "store.sqlite.sock"))
            stream.write(noise)
            stream.write_eof()
            assert await reader.read() == b""
            stream.close()
        committed = await store.commit(change(patient("p1")))
        await store.close()
        return committed.t

    assert asyncio.run(scenario()) == 1


@pytest.mark.parametrize("turns", range(4))
def test_who_calls_while_the_writer_leaves_is_let_go(tmp_path, turns):
    async def scenario():
        store = await open_one(tmp_path / "store.sqlite")
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(tmp_path / "store.sqlite.sock"))
            for _ in range(turns):
                await asyncio.sleep(0)
            async with asyncio.timeout(20):
                await store.close()
            caller.settimeout(20)
            try:
                return caller.recv(1)
            except ConnectionResetError:
                return b""

    assert asyncio.run(scenario()) == b""
