"""kill -9, many times: nothing acknowledged is lost, nothing refused is there, nothing is half.

Invariants I1 to I3: an acknowledged write is there, once, with its content; nothing that was
refused is there; an unknown outcome resolves to exactly one of the two when it is sent again.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from crash_client import COUNTER, request
from store_builders import body

from fhir_gateway.errors import GatewayError
from fhir_gateway.security.actor import SYSTEM_ACCESS


class Ledger(NamedTuple):
    """What a client knew when it ended."""

    invoked: dict[str, tuple[bytes, bool]]  # name -> (change-set id, is to be refused)
    ok: set[str]
    refused: set[str]

    @property
    def unknown(self):
        return self.invoked.keys() - self.ok - self.refused


def read_ledgers(folder: Path) -> Ledger:
    ledger = Ledger({}, set(), set())
    for path in folder.glob("*.ledger"):
        for line in path.read_text().splitlines():
            what, name, *more = line.split()
            if what == "invoke":
                ledger.invoked[name] = (bytes.fromhex(more[0]), more[1] == "1")
            else:
                getattr(ledger, what).add(name)
    return ledger


#: Rows that lack the rows that belong to them.
ORPHANS = """
SELECT
    (SELECT count(*) FROM resource WHERE (type, id) NOT IN (SELECT type, id FROM locator))
  + (SELECT count(*) FROM locator
     WHERE (home, type, rid) NOT IN (SELECT home, type, rid FROM resource))
  + (SELECT count(*) FROM px WHERE (home, rid) NOT IN (SELECT home, rid FROM resource))
  + (SELECT count(*) FROM resource
     WHERE enc <> 9 AND (t, n, rid) NOT IN (SELECT t, n, rid FROM change))"""


def check(play, rows, folder: Path, *, before: int = 0) -> Ledger:
    """Asserts I1 to I3 on the database and the ledgers; `before` were stored by earlier ones."""
    ledger = read_ledgers(folder)

    async def scenario(store):
        async def there(name):
            async with store.snapshot(SYSTEM_ACCESS) as reader:
                found = await reader.read("Observation", name)
                done = await reader.read("AuditEvent", f"done-{name}")
                told = await reader.read("AuditEvent", f"refused-{name}")
            assert found is None or (found.version, found.tail) == (1, body(name))
            assert (found is None) == (done is None)  # all of a change set or nothing
            assert found is None or told is None
            return found is not None, told is not None

        for name in ledger.ok:
            assert await there(name) == (True, False)
        for name in ledger.refused:
            assert await there(name) == (False, True)
        for name in ledger.unknown:
            id, refused = ledger.invoked[name]
            before = await there(name)
            try:
                committed = await store.commit(request(name, id=id, refused=refused))
                assert committed.repeated == before[0]
                ledger.ok.add(name)
            except GatewayError:
                ledger.refused.add(name)
            assert await there(name) == (name in ledger.ok, name in ledger.refused)

    play(scenario)
    stored = sum(k for key, k in rows("SELECT key, k FROM counter") if key == COUNTER)
    assert stored == before + len(ledger.ok)
    assert rows(ORPHANS) == [(0,)]
    if (folder / "store.sqlite").exists():
        assert rows("PRAGMA integrity_check") == [("ok",)]
    return ledger


@pytest.mark.parametrize(
    ("point", "count"),
    [
        ("batch-begun", 9),
        ("change-set-applied", 21),
        ("before-commit", 6),
        ("after-commit", 6),
        ("after-answer", 5),
        ("journal-drained", 1),
    ],
)
def test_a_kill_at_a_named_point_loses_nothing(play, child, rows, tmp_path, point, count):
    assert child("a", 20, 4, point, count).wait(30) == -signal.SIGKILL
    assert check(play, rows, tmp_path).invoked


@pytest.mark.drivers("sqlite")  # PostgreSQL's is in test_store_postgres.py
def test_a_kill_while_the_tables_are_made_leaves_none(play, child, rows, tmp_path):
    assert child("a", 20, 4, "migration-statement", 7).wait(30) == -signal.SIGKILL
    assert not check(play, rows, tmp_path).invoked


def kill_at_random(play, child, rows, folder: Path, *, kills: int, seed: int) -> int:
    """Kills so many writers of one database; each leaves what the ones before it stored."""
    chance, stored = random.Random(seed), 0
    everything = Ledger({}, set(), set())
    for number in range(kills):
        path = folder / f"k{number}.ledger"
        process = child(f"k{number}", 10_000, 4)
        wait_for(path)
        time.sleep(chance.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        ledger = check(play, rows, folder, before=stored)
        stored += len(ledger.ok)
        for whole, part in zip(everything, ledger, strict=True):
            whole.update(part)
        path.unlink()
    (folder / "all.ledger").write_text("".join(lines(everything)))
    return len(check(play, rows, folder).ok)


def lines(ledger: Ledger):
    for name, (id, refused) in ledger.invoked.items():
        yield f"invoke {name} {id.hex()} {int(refused)}\n"
        yield f"ok {name}\n" if name in ledger.ok else f"refused {name}\n"


def wait_for(path: Path) -> None:
    """Returns when the client has asked for something."""
    deadline = time.monotonic() + 20
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_kills_at_random_times_lose_nothing(play, child, rows, tmp_path):
    assert kill_at_random(play, child, rows, tmp_path, kills=3, seed=20260921) > 0


@pytest.mark.torture
def test_hundreds_of_kills_lose_nothing(play, child, rows, tmp_path):
    seed = int(os.environ.get("SEED", "1"))
    assert kill_at_random(play, child, rows, tmp_path, kills=300, seed=seed) > 0


def test_when_the_writer_is_killed_the_next_process_goes_on(play, child, rows, tmp_path):
    first = child("first", 10_000, 3)
    wait_for(tmp_path / "first.ledger")
    second = child("second", 40, 3)
    wait_for(tmp_path / "second.ledger")
    first.kill()
    assert second.wait(30) == 0
    ledger = check(play, rows, tmp_path)
    of_second = [name for name in ledger.invoked if name.startswith("second")]
    answered = [name for name in of_second if name in ledger.ok or name in ledger.refused]
    assert len(answered) == len(of_second) == 120
