"""Moving a store: between both kinds, resumed after a kill, verified, and never half opened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from click.testing import CliRunner, Result
from databases import Databases, need_postgres
from running import Running
from seat_world import BUCKET, DAY, appointment, schedule, settle, slot
from store_builders import change, patient

from fhir_gateway.app import open_gateway
from fhir_gateway.cli.copy import command
from fhir_gateway.errors import Unavailable
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.settings import Settings
from fhir_gateway.store import copying, migrate
from fhir_gateway.store.claim_rows import QuotaRow, Take
from fhir_gateway.store.copying_sqlite import SqliteSide
from fhir_gateway.store.seat_audit import audit
from fhir_gateway.store.seat_sql import slot_state

Start = Callable[..., Running]


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Databases]:
    """Databases of the other side, on each driver."""
    if request.param == "postgresql":
        need_postgres()
    folder = tmp_path / "target"
    folder.mkdir()
    made = Databases(request.param, folder)
    yield made
    made.close()


def fill(gateway: Running) -> None:
    """A person with versions, a deletion, a link, definitions, searches and refusals."""
    gateway.put("/fhir/Patient/p", {"resourceType": "Patient", "id": "p",
                                    "name": [{"text": "样本甲", "family": "样本"}],
                                    "identifier": [{"system": "urn:x", "value": "1"}]})  # fmt: skip
    for number in range(30):
        body = {
            "resourceType": "Observation", "id": f"o{number}", "status": "final",
            "code": {"coding": [{"system": "urn:c", "code": f"{number % 3}"}], "text": "项目"},
            "subject": {"reference": "Patient/p"}, "effectiveDateTime": "2026-11-01",
            "valueQuantity": {"value": 7.10, "unit": "g"},
        }  # fmt: skip
        gateway.put(f"/fhir/Observation/o{number}", body)
    gateway.put("/fhir/Observation/o1", body | {"id": "o1", "status": "amended"})
    gateway.delete("/fhir/Observation/o2")
    gateway.get("/fhir/Observation?patient=p&code=1")
    gateway.put("/fhir/Patient/q", {"resourceType": "Patient", "id": "q",
                                    "identifier": [{"system": "urn:x", "value": "2"}]})  # fmt: skip
    gateway.put("/fhir/Linkage/l", {"resourceType": "Linkage", "id": "l", "active": True, "item": [
        {"type": "source", "resource": {"reference": "Patient/p"}},
        {"type": "alternate", "resource": {"reference": "Patient/q"}}]})  # fmt: skip
    start = gateway.gateway.clock.now() + DAY
    taken = Take("Slot/s", "Appointment/a", "p", "ordinary")
    for one in (
        change(schedule(), slot("s", start, capacity=2, bucket=BUCKET),
               claims=[settle(QuotaRow("ordinary", 2))]),
        change(appointment("a", "p"), claims=[taken]),
    ):  # fmt: skip
        gateway.run(gateway.gateway.store.commit(one))


def book_the_rest(gateway: Running) -> list[str]:
    """Books the last seat for another person, and asks whether all seats agree."""

    async def work() -> list[str]:
        store = gateway.gateway.store
        start = gateway.gateway.clock.now() + DAY
        full = slot("s", start, capacity=2, bucket=BUCKET, busy=True)
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            found = await reader.steps(lambda _: slot_state("s"))
        full.derived.slots[:] = [msgspec.structs.replace(
            full.derived.slots[0], start=found.slot.start, end=found.slot.end)]  # fmt: skip
        claims = [Take("Slot/s", "Appointment/b", "r", "ordinary")]
        await store.commit(change(patient("r"), appointment("b", "r"), full, claims=claims))
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            return [one.name for one in await reader.steps(lambda _: audit())]

    found: list[str] = gateway.run(work())
    return found


QUESTIONS = (
    "/fhir/Patient/p", "/fhir/Observation/o1/_history", "/fhir/Observation/o2/_history",
    "/fhir/Observation?patient=p&code=urn:c|1&_sort=_id", "/fhir/Patient?family=样",
    "/fhir/Patient?identifier=urn:x|1", "/fhir/Patient/$ihe-pix?sourceIdentifier=urn:x%7C1",
)  # fmt: skip


def answers(gateway: Running) -> list[Any]:
    return [gateway.get(path).json() for path in QUESTIONS]


def run(source: Databases, target: Databases) -> Result:
    words = ["--from", source.url("gateway"), "--to", target.url("gateway"), "--json"]
    return CliRunner().invoke(command, words)


def filled(database: Databases) -> tuple[list[Any], int]:
    """Fills the source; what it answers, and how many audit records it has."""
    gateway = Running(database.url("gateway"), open_access=True)
    fill(gateway)
    said = answers(gateway)
    gateway.close()
    return said, len(database.rows("SELECT 1 FROM journal", "gateway"))


def test_a_copy_answers_as_its_source(database: Databases, target: Databases) -> None:
    said, records = filled(database)
    done = run(database, target)
    assert (done.exit_code, json.loads(done.stdout)["verified"]) == (0, True)
    assert json.loads(done.stdout)["tables"]["journal"]["rows"] == records
    again = Running(target.url("gateway"), open_access=True)
    assert answers(again) == said
    assert "Patient/q" in str(said[-1])
    refused = again.put("/fhir/Patient/p", {"resourceType": "Patient", "id": "p"},
                        headers={"if-match": 'W/"7"'})  # fmt: skip
    assert refused.status_code == 412
    assert book_the_rest(again) == []
    again.close()


def test_a_copy_that_was_cut_short_goes_on(
    database: Databases, target: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, _ = filled(database)
    monkeypatch.setattr("fhir_gateway.store.copying_sqlite.PIECE", 7)
    monkeypatch.setattr("fhir_gateway.store.copying_postgres.PIECE", 7)
    pieces = 0

    def cut(table: str, rows: int) -> None:
        nonlocal pieces
        pieces += 1
        if pieces == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr("fhir_gateway.cli.copy._Progress", lambda: cut)
    CliRunner().invoke(command, ["--from", database.url("gateway"), "--to", target.url("gateway")])
    with pytest.raises(Unavailable, match="unfinished copy"):
        asyncio.run(open_gateway(Settings(database=target.url("gateway"))))
    monkeypatch.undo()
    assert run(database, target).exit_code == 0
    again = Running(target.url("gateway"), open_access=True)
    assert answers(again) == said
    again.close()


def test_a_store_that_changed_meanwhile_is_not_resumed(
    database: Databases, target: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(database)

    def cut(table: str, rows: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fhir_gateway.cli.copy._Progress", lambda: cut)
    run(database, target)
    monkeypatch.undo()
    gateway = Running(database.url("gateway"), open_access=True)
    gateway.get("/fhir/Patient/p")
    gateway.close()
    done = run(database, target)
    assert (done.exit_code, "unfinished copy of another store" in done.stderr) == (1, True)


def test_a_target_with_data_is_refused(database: Databases, target: Databases) -> None:
    filled(database)
    assert run(database, target).exit_code == 0
    done = run(database, target)
    assert (done.exit_code, "holds data" in done.stderr) == (1, True)


@pytest.mark.drivers("sqlite")
def test_a_store_in_use_is_refused(start: Start, database: Databases, tmp_path: Path) -> None:
    start(open_access=True)
    words = ["--from", database.url("gateway"), "--to", f"sqlite:///{tmp_path}/other.sqlite"]
    done = CliRunner().invoke(command, words)
    assert (done.exit_code, "stop it first" in done.stderr) == (1, True)


@pytest.mark.drivers("sqlite")
def test_what_was_written_wrong_is_found(
    database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(database)
    write = SqliteSide.write

    async def lossy(self: SqliteSide, table: str, columns: Any, rows: list[Any]) -> None:
        await write(self, table, columns, rows[:-1] if table == "px" else rows)

    monkeypatch.setattr(SqliteSide, "write", lossy)
    words = ["--from", database.url("gateway"), "--to", f"sqlite:///{tmp_path}/other.sqlite"]
    done = CliRunner().invoke(command, words)
    assert (done.exit_code, "px is not what was read" in done.stderr) == (1, True)


def test_every_table_of_the_schema_is_copied(tmp_path: Path) -> None:
    connection = apsw.Connection(str(tmp_path / "x.sqlite"))
    migrate.migrate(connection, now=1, random=bytes)
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    }
    connection.close()
    assert {*copying.LEADS, copying.CLOCK} == tables


def test_a_digest_does_not_depend_on_the_order_of_rows() -> None:
    rows: list[tuple[Any, ...]] = [(1, "a", b"x"), (2, None, b""), (2, None, b"")]
    assert copying.Digest().plus(rows) == copying.Digest().plus(rows[:1]).plus(rows[:0:-1])
    assert copying.Digest().plus(rows[:2]) != copying.Digest().plus(rows)
