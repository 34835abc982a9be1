"""Witnesses keep heads outside: a log that goes back or shows two trees is refused."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec
import pytest
from audit_logs import SmallLog
from databases import Databases

from fhir_gateway.errors import Conflict, Invalid, Unavailable
from fhir_gateway.interactions.outbound import Fetched
from fhir_gateway.store import log
from fhir_gateway.transparency import govern, keys, proofs
from fhir_gateway.transparency.keys import new_signer
from fhir_gateway.transparency.note import Signer, is_signed, read_note, timed_by
from fhir_gateway.transparency.sequencer import LATE_SECONDS, Stopped
from fhir_gateway.transparency.verify_heads import read_witness
from fhir_gateway.transparency.witness import Witnessed, witness

sqlite_only = pytest.mark.drivers("sqlite")
REGULATOR = Signer("regulator.example/witness", bytes([3]) * 32)


def asking(small: SmallLog, **lies: bytes):
    """The log's door, without HTTP; `lies` are answers in place of its own, by path."""

    async def ask(path: str) -> Fetched:
        name = path.strip("/").partition("?")[0].replace("/", "_")
        if name in lies:
            return Fetched(200, {}, lies[name])
        store = small.gateway.store
        if name == "checkpoint":
            head = await proofs.head_at(store, None)
            return Fetched(200, {}, (head.note + head.beat).encode())
        if name == "statements":
            told = [turn._asdict() for turn in await log.turns(store)]
            return Fetched(200, {}, msgspec.json.encode(told))
        query = dict(part.split("=") for part in path.partition("?")[2].split("&"))
        extended = await proofs.extend(store, int(query["first"]), int(query["second"]))
        return Fetched(200, {}, msgspec.json.encode({"path": extended.path}))

    return ask


def look(small: SmallLog, file: Path, *, now: int = 0, **more: object) -> Witnessed:
    lies = more.pop("lies", {})
    return small.run(
        witness(
            asking(small, **lies),  # type: ignore[arg-type]
            file,
            REGULATOR,
            now=now or small.clock.time // 1_000_000,
            **more,  # type: ignore[arg-type]
        )
    )


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    return tmp_path / "heads"


def test_a_witness_keeps_heads_that_follow_each_other_and_signs_them(
    small: SmallLog, heads: Path
) -> None:
    small.record(3)
    small.sign()
    trusted = keys.read_keys(small.key)[0].verifier
    assert look(small, heads, key=trusted).new
    assert not look(small, heads).new
    small.record(300)
    small.sign()
    small.run(govern.rotate(small.gateway, "yearly"))
    seen = look(small, heads, key=trusted)
    assert (seen.new, seen.late, seen.said.size) == (True, False, 304)
    kept = read_witness(heads.read_text())
    assert [said.size for _, said in kept] == [3, 304]
    for text, _ in kept:
        assert [key for key, _ in timed_by(read_note(text), [REGULATOR.verifier])]
    assert not is_signed(read_note(kept[1][0]), trusted)  # the new key signed that one
    report = small.verify(witness=heads.read_text(), key=trusted)
    assert (report.findings, report.witnessed) == ([], 2)


@sqlite_only
def test_147_a_database_that_was_set_back_is_found_though_the_key_was_stolen(
    small: SmallLog, heads: Path, tmp_path: Path
) -> None:
    small.record(4)
    small.sign()
    path = Path(small.settings.database.removeprefix("sqlite:///"))
    small.stop()
    shutil.copy(path, tmp_path / "yesterday.sqlite")
    small.restart()
    small.record(5)
    small.sign()
    look(small, heads)
    thief = SmallLog(f"sqlite:///{tmp_path / 'yesterday.sqlite'}", tmp_path / "stolen.key")
    shutil.copy(small.key, thief.key)
    try:
        with pytest.raises(Conflict) as refused:
            look(thief, heads)
        assert refused.value.issues[0].rule == "witness-back"
        thief.record(9)
        thief.sign()  # with the stolen key, and past the size that was seen
        assert thief.verify().findings == []  # by itself it looks whole
        with pytest.raises(Conflict) as refused:
            look(thief, heads)
        assert refused.value.issues[0].rule == "witness-split"
        found = thief.verify(witness=heads.read_text()).findings
        assert [finding.kind for finding in found] == ["witness"]
        assert len(read_witness(heads.read_text())) == 1
    finally:
        thief.close()


def test_148_two_trees_are_not_both_signed(
    small: SmallLog, database: Databases, heads: Path, tmp_path: Path
) -> None:
    small.record(4)
    small.sign()
    other = SmallLog(database.url("other"), tmp_path / "other.key")
    try:
        other.record(4)
        other.sign()
        look(small, heads)
        with pytest.raises(Conflict) as refused:
            look(other, heads)
        assert refused.value.issues[0].rule == "witness-split"
        other.record(4)
        other.sign()
        with pytest.raises(Conflict):
            look(other, heads)
        assert [said.size for _, said in read_witness(heads.read_text())] == [4]
    finally:
        other.close()


def test_150_a_log_that_answers_nonsense_is_refused(small: SmallLog, heads: Path) -> None:
    small.record(4)
    small.sign()
    look(small, heads)
    small.record(4)
    small.sign()
    good = small.head().note.encode()
    lies = {
        "checkpoint": [b"", b"x" * 70_000, good[:-40], good.replace(b"\n8\n", b"\n9\n"), b"\xff"],
        "statements": [b"", b"[]", b"[1]", b'[{"note":"x"}]', b"{"],
        "proof_consistency": [b"", b"{}", b'{"path":["AA=="]}', b'{"path":["A"]}', b'{"path":1}'],
    }
    for name, answers in lies.items():
        for answer in answers:
            with pytest.raises((Unavailable, Conflict)):
                look(small, heads, lies={name: answer})
    many = msgspec.json.encode({"path": [bytes(32)] * 131})
    with pytest.raises(Unavailable):
        look(small, heads, lies={"proof_consistency": many})
    with pytest.raises(Conflict):
        look(small, heads, lies={"proof_consistency": b'{"path":[]}'})
    with pytest.raises(Unavailable):
        look(small, heads, key=new_signer("another").verifier)
    assert [said.size for _, said in read_witness(heads.read_text())] == [4]


@pytest.mark.parametrize(("status", "said"), [(401, "show a bearer token"), (404, "status 404")])
def test_a_witness_is_told_what_the_log_wants_of_it(status: int, said: str, tmp_path: Path) -> None:
    async def ask(path: str) -> Fetched:
        return Fetched(status, {}, b"{}")

    with pytest.raises(Unavailable, match=said):
        asyncio.run(witness(ask, tmp_path / "heads", REGULATOR, now=0))


def test_155_a_witness_notices_heads_that_are_late(small: SmallLog, heads: Path) -> None:
    small.record(4)
    small.sign()
    now = small.clock.time // 1_000_000
    assert not look(small, heads, now=now + LATE_SECONDS).late
    assert look(small, heads, now=now + LATE_SECONDS + 2).late
    small.clock.time += (LATE_SECONDS + 10) * 1_000_000
    small.sign()  # signs the same head again
    assert not look(small, heads).late


def test_a_witness_file_that_was_changed_is_refused(small: SmallLog, heads: Path) -> None:
    small.record(4)
    small.sign()
    look(small, heads)
    whole = heads.read_text()
    heads.write_text(whole[:-9])
    with pytest.raises(Invalid):
        look(small, heads)
    assert [one.kind for one in small.verify(witness=whole[:-9]).findings] == ["witness"]
    heads.write_text(whole.replace("\n4\n", "\n5\n"))
    with pytest.raises((Unavailable, Conflict)):
        look(small, heads)


@sqlite_only
def test_177_after_an_older_copy_was_restored_the_log_says_so_and_goes_on_as_another(
    small: SmallLog, heads: Path, tmp_path: Path
) -> None:
    small.record(4)
    small.sign()
    path = Path(small.settings.database.removeprefix("sqlite:///"))
    small.stop()
    shutil.copy(path, tmp_path / "backup")
    small.restart()
    small.record(5)
    small.sign()
    look(small, heads)
    with pytest.raises(Invalid) as whole:
        small.run(govern.recover(small.gateway, "for fun"))
    assert whole.value.issues[0].rule == "log-whole"
    small.stop()
    shutil.copy(tmp_path / "backup", path)
    for name in ("-wal", "-shm"):
        Path(f"{path}{name}").unlink(missing_ok=True)
    small.restart()
    small.record(2)
    with pytest.raises(Stopped) as stopped:
        small.sign()
    assert stopped.value.issues[0].rule == "log-rolled-back"
    assert small.head().size == 4
    assert "set back" in small.run(log.seat(small.gateway.store)).alarm
    statement = small.run(govern.recover(small.gateway, "disk broke, copy of 03:00"))
    assert (statement.size, statement.lost.size) == (4, 9)
    assert statement.origin == "gw.example/audit-log/recovery-1"
    small.clock.time += 11_000_000
    small.record(3)
    assert small.sign() > 0
    assert small.run(log.seat(small.gateway.store)).alarm == ""
    report = small.verify()
    assert report.findings == []
    assert "disk broke" in report.recoveries[0]
    found = small.verify(witness=heads.read_text()).findings
    assert ["statement 2 gives it up" in one.what for one in found] == [True]
    with pytest.raises(Conflict) as refused:
        look(small, heads)
    assert refused.value.issues[0].rule == "witness-recovery"
    seen = look(small, heads, accept_recovery=True)
    assert seen.said.origin.endswith("/recovery-1")
    small.record(1)
    small.sign()
    assert look(small, heads).new
    assert len(read_witness(heads.read_text())) == 3
