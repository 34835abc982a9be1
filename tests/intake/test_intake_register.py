"""The register of messages at the doors: stored, flagged, refused, repeated; tried again."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from intake_cases import ACTOR, ALT, CREA, OTHER, SECOND, Opened, opened, report
from tabular_cases import RESULTS, file, row, table

from fhir_gateway.cli import main
from fhir_gateway.errors import Conflict, Invalid, NotFound
from fhir_gateway.interactions.dead_letters import (
    bytes_of,
    dead,
    one,
    retry,
    retry_all,
    set_aside,
)
from fhir_gateway.interactions.intake import receive_v2
from fhir_gateway.interactions.intake_tabular_load import Order, load_table
from fhir_gateway.security.actor import GATEWAY, SYSTEM_ACCESS, Actor
from fhir_gateway.store.messages import Asked, Message, count_steps, messages

#: A status that the shipped table does not know, and a mended table does.
STRANGE = "Q"


@pytest.fixture
def hospital(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path) as one:
        yield one


def rows(hospital: Opened, **asked: str) -> list[Message]:
    async def read() -> list[Message]:
        async with hospital.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            return await messages(reader, SECOND.id, Asked(**asked))

    return hospital.runner.run(read())


def counts(hospital: Opened) -> dict[str, tuple[int, ...]]:
    async def read() -> dict[str, tuple[int, ...]]:
        async with hospital.gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            found = await reader.steps(lambda _: count_steps(SECOND.id))
        return {row.kind: row[3:8] for row in found}

    return hospital.runner.run(read())


def mend(hospital: Opened, folder: Path) -> None:
    """Has the tables know the strange status, as an operator would who adds a row."""
    mappings = folder / "mended"
    shutil.copytree(hospital.settings.mappings, mappings)
    with (mappings / "v2" / "observation-status.csv").open("a") as table:
        table.write(f"{STRANGE},final,Quick final,\n")
    settings = replace(hospital.settings, mappings=str(mappings))
    hospital.gateway = replace(hospital.gateway, settings=settings)


def strange(id: str = "1", **members: str) -> bytes:
    return report(id, lines=(ALT, CREA.replace("||||F", f"||||{STRANGE}")), **members)


def test_a_stored_message_is_registered_with_its_commit(hospital: Opened) -> None:
    answer = hospital.send(report(status="F"))
    (row,) = rows(hospital)
    assert answer.outcome is not None and answer.outcome.committed is not None
    assert (row.t, row.n) == (answer.outcome.committed.t, answer.outcome.committed.n)
    assert (row.door, row.kind, row.name, row.code) == ("hl7v2", "ORU^R01", "1", "AA")
    assert (row.size, row.state, row.attempts) == (len(report()), "", 1)
    # 2026-11-18 11:31:00 and 11:30:00 in Shanghai
    assert (row.stated, row.issued) == (1_794_972_660_000_000, 1_794_972_600_000_000)


def test_what_has_no_map_is_flagged_and_a_correction_is_seen(hospital: Opened) -> None:
    hospital.send(report("1"))
    corrected = report("2", value="33", status="C", issued="202611181140")
    hospital.send(corrected)
    first, second = rows(hospital)
    assert first.outcome == second.outcome == "flagged"
    assert {one["rule"] for one in msgspec.json.decode(first.issues)} >= {"unmapped"}
    assert second.kind == "ORU^R01 correction"


def test_a_repeat_is_counted_and_stores_nothing(hospital: Opened) -> None:
    for _ in range(3):
        hospital.send(report())
    (row,) = rows(hospital)
    assert (row.attempts, counts(hospital)) == (3, {"ORU^R01": (3, 0, 1, 0, 2)})


def test_a_refused_message_is_kept_with_bytes_issues_and_answer(hospital: Opened) -> None:
    answers = [hospital.send(strange()) for _ in range(2)]
    (row,) = rows(hospital)
    assert (row.outcome, row.state, row.attempts, row.code) == ("refused", "open", 2, "AE")
    assert row.ack == answers[1].body and answers[1].error is not None
    (issue,) = msgspec.json.decode(row.issues)
    assert issue["expression"] == "OBX[2]-11" and row.rule == issue["rule"]
    assert hospital.runner.run(bytes_of(hospital.gateway, row)) == (
        "x-application/hl7-v2+er7", strange(),
    )  # fmt: skip
    assert counts(hospital) == {"ORU^R01": (2, 0, 0, 2, 0)}


def test_what_nobody_known_sends_is_not_kept(hospital: Opened) -> None:
    hospital.send(report().replace(b"|S2|", b"|S9|"), Actor("open", "nobody"))
    assert rows(hospital) == []


def test_bytes_without_a_header_are_kept_for_whom_the_credential_names(hospital: Opened) -> None:
    hospital.send(b"this is no message")
    (row,) = rows(hospital)
    assert (row.outcome, row.kind, row.name) == ("refused", "other", "")


def test_the_senders_own_repeat_overtakes(hospital: Opened) -> None:
    hospital.send(strange("1"))
    hospital.send(report("1"))  # mended by the sender, under the same number
    assert {row.outcome: row.state for row in rows(hospital)} == {
        "refused": "overtaken", "flagged": "",
    }  # fmt: skip


def test_a_retry_after_a_table_was_mended_stores_once(hospital: Opened, tmp_path: Path) -> None:
    hospital.send(strange("1"))
    hospital.send(strange("2", issued="202611181140"))
    gateway = hospital.gateway

    async def tried(dry_run: bool = False) -> list[str]:
        found = retry_all(hospital.gateway, [SECOND.id], who="Operator", dry_run=dry_run)
        return [attempt.outcome async for attempt in found]

    run = hospital.runner.run
    assert run(tried()) == ["refused", "refused"]
    mend(hospital, tmp_path)
    before = hospital.stored("DiagnosticReport")
    assert run(tried(dry_run=True)) == ["stored", "stored"]
    assert hospital.stored("DiagnosticReport") == before
    assert run(tried()) == ["stored", "stored"]
    assert run(tried()) == []
    assert hospital.stored("DiagnosticReport") == {"DiagnosticReport": 1}
    first = rows(hospital)[0]
    assert (first.state, first.who, first.outcome) == ("retried", "Operator", "flagged")
    assert run(retry(gateway, first, who="Operator")).outcome == "skipped"


def test_a_retry_leaves_what_a_later_message_has_said(hospital: Opened, tmp_path: Path) -> None:
    hospital.send(strange("1", value="11", issued="202611181130"))
    hospital.send(report("2", value="22", status="F", issued="202611181200"))
    mend(hospital, tmp_path)
    (letter,) = hospital.runner.run(dead(hospital.gateway, SECOND.id))
    attempt = hospital.runner.run(retry(hospital.gateway, letter, who="Operator"))
    assert [issue.rule for issue in attempt.issues] == ["v2-older-report"]
    values = [
        hospital.read("Observation", id)["valueQuantity"]["value"]
        for id in hospital.ids(report("2"), "Observation")
    ]
    assert str(values[0]) == "22"


def test_a_letter_is_set_aside_by_name_and_with_a_reason(hospital: Opened) -> None:
    hospital.send(strange())
    run, gateway = hospital.runner.run, hospital.gateway
    (letter,) = run(dead(gateway, SECOND.id))
    with pytest.raises(Invalid):
        run(set_aside(gateway, GATEWAY, letter, who="Operator", reason=" "))
    before = hospital.stored("AuditEvent")["AuditEvent"]
    run(set_aside(gateway, GATEWAY, letter, who="Operator", reason="a trial of the vendor"))
    assert hospital.stored("AuditEvent")["AuditEvent"] == before + 1
    row = run(one(gateway, letter.id))
    assert (row.state, row.who, row.reason) == ("aside", "Operator", "a trial of the vendor")
    assert run(dead(gateway, SECOND.id)) == []
    with pytest.raises(Conflict):
        run(set_aside(gateway, GATEWAY, row, who="Operator", reason="again"))
    with pytest.raises(NotFound):
        run(one(gateway, letter.id, institution="other"))


def test_old_bytes_go_when_there_is_no_room_and_rows_stay(tmp_path: Path) -> None:
    with opened(tmp_path) as hospital:
        settings = replace(hospital.settings, refused_bytes=1_500)
        hospital.gateway = replace(hospital.gateway, settings=settings)
        for number in range(8):
            hospital.send(strange(f"{number}"))
        found = rows(hospital)
        assert len(found) == 8
        kept = [hospital.runner.run(bytes_of(hospital.gateway, row)) for row in found]
        assert kept[0] is None and kept[-1] is not None
        mend(hospital, tmp_path)
        attempt = hospital.runner.run(retry(hospital.gateway, found[0], who="Operator"))
        assert [issue.rule for issue in attempt.issues] == ["bytes-gone"]


def test_bytes_go_when_their_days_are_over_also_of_who_is_silent(tmp_path: Path) -> None:
    with opened(tmp_path) as hospital:
        hospital.send(strange("1"))
        (row,) = rows(hospital)
        days = hospital.settings.refused_days + 1
        moved = hospital.gateway.clock.now() + days * 86_400_000_000
        hospital.gateway = replace(hospital.gateway, clock=Still(moved))
        other = Actor("institution", OTHER.name, institution=OTHER.id)
        hospital.send(strange("1").replace(b"|S2|", b"|S3|"), other)
        assert hospital.runner.run(bytes_of(hospital.gateway, row)) is None
        assert rows(hospital) == [row]


class Still:
    """A clock that stands still."""

    def __init__(self, time: int) -> None:
        self.time = time

    def now(self) -> int:
        return self.time


def test_a_flood_of_the_same_message_is_one_row(hospital: Opened) -> None:
    async def flood() -> None:
        await asyncio.gather(*(receive_v2(hospital.gateway, ACTOR, strange()) for _ in range(20)))

    hospital.runner.run(flood())
    assert [row.attempts for row in rows(hospital)] == [20]


def test_the_commands_list_show_retry_and_set_aside(tmp_path: Path) -> None:
    with opened(tmp_path) as hospital:
        hospital.send(strange("CTRL-1"))
        hospital.send(strange("CTRL-2"))
        first, second = rows(hospital)
        mend(hospital, tmp_path)
    where = ["--database", hospital.settings.database]

    def run(*words: str, code: int = 0) -> str:
        found = CliRunner().invoke(main, ["messages", "dead", *words, *where])
        assert found.exit_code == code, found.output
        return found.stdout

    assert [line.split()[:4] for line in run("list").splitlines()[1:]] == [
        [one.id, "second", "hl7v2", "ORU^R01"] for one in (first, second)
    ]
    shown = run("show", first.id)
    assert "OBX[2]-11" in shown and "MSA|AE|CTRL-1" in shown
    assert run("show", first.id, "--bytes", "-").encode("utf-8", "surrogateescape")
    run("retry", first.id, "--by", "Operator", "--dry-run", code=1)  # the tables as shipped
    mended = ["--mappings", hospital.gateway.settings.mappings]
    assert ": stored" in run("retry", "--institution", "second", "--by", "Operator", "--dry-run",
                             *mended)  # fmt: skip
    run("set-aside", second.id, "--by", "Operator", "--reason", "a trial")
    assert "1 stored" in run("retry", "--all", "--by", "Operator", *mended)
    assert run("list", "--json") == ""
    assert run("list", "--state", "aside", "--json").count("a trial") == 1
    run("retry", "--by", "Operator", code=1)


def test_rows_of_a_table_that_were_refused_are_tried_again(
    hospital: Opened, tmp_path: Path
) -> None:
    run = hospital.runner.run
    maps = tmp_path / "maps"
    maps.mkdir()
    raw = file(row(1, status="已复核"), row(2))

    async def load() -> None:
        order = Order("lis.csv", table(maps), dry_run=False, again=False)
        await load_table(hospital.gateway, lambda: BytesIO(raw), order, lambda *_: None)

    run(load())
    (letter,) = run(dead(hospital.gateway, SECOND.id))
    assert (letter.door, letter.kind) == ("table", "results")
    assert letter.name == "results:R1 SHQT 生化全套"
    kept = run(bytes_of(hospital.gateway, letter))
    assert kept == ("text/csv", file(row(1, status="已复核")))
    assert sorted(one.outcome for one in rows(hospital)) == ["flagged", "refused"]
    mend(hospital, tmp_path)
    text = RESULTS.replace('"已审核" = "F"', '"已审核" = "F"\n"已复核" = "F"')
    mended = Path(hospital.gateway.settings.mappings) / "tabular" / "results.toml"
    mended.write_text(text, encoding="utf-8")
    dry = run(retry(hospital.gateway, letter, who="Operator", dry_run=True))
    assert dry.outcome == "stored" and hospital.stored("DiagnosticReport")["DiagnosticReport"] == 1
    assert run(retry(hospital.gateway, letter, who="Operator")).outcome == "stored"
    assert hospital.stored("DiagnosticReport")["DiagnosticReport"] == 2
    assert run(one(hospital.gateway, letter.id)).state == "retried"
