"""A power cut: what was not synced is lost, reordered or torn; what was acknowledged is there.

kill -9 leaves the page cache alone, so here SQLite writes through a VFS that records every write
and every sync. For a cut at any moment the files are made again from what was synced by then and,
by chance, some 512-byte sectors of what was not.
"""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest
from store_builders import TestClock, body, change, observation, patient

from fhir_gateway.security.actor import Access
from fhir_gateway.store.engine import open_writer, use_wal
from fhir_gateway.store.migrate import migrate
from fhir_gateway.store.sqlite import open_sqlite
from fhir_gateway.store.writer import Writer

SECTOR = 512
GONE = -1


class Written(NamedTuple):
    """One entry of the record: data at an offset, a new size (no data), a sync (no offset), or
    the end of the file (offset GONE).
    """

    file: str
    offset: int | None
    data: bytes | None


class Recorder(apsw.VFS):
    """The system's VFS, recording."""

    def __init__(self, record):
        self.record = record
        super().__init__("recorder", "unix", makedefault=True)

    def xOpen(self, name, flags):
        return RecordedFile(self.record, name, flags)

    def xDelete(self, filename, syncdir):
        super().xDelete(filename, syncdir)
        self.record.append(Written(os.path.basename(filename), GONE, None))


class RecordedFile(apsw.VFSFile):
    """A file whose writes and syncs are recorded."""

    def __init__(self, record, name, flags):
        self.record = record
        self.name = os.path.basename(name.filename() if hasattr(name, "filename") else name)
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset):
        super().xWrite(data, offset)
        self.record.append(Written(self.name, offset, bytes(data)))

    def xTruncate(self, size):
        super().xTruncate(size)
        self.record.append(Written(self.name, size, None))

    def xSync(self, flags):
        super().xSync(flags)
        self.record.append(Written(self.name, None, None))


async def write(path: Path, record: list[Written]) -> list[tuple[int, str]]:
    """Commits for a while; gives each acknowledged name with the length of the record then."""
    connection = open_writer(path)
    connection.pragma("locking_mode", "exclusive")  # a recording file has no shared memory
    use_wal(connection)
    migrate(connection, now=1, random=os.urandom)
    writer = Writer(connection, path, now=TestClock().now, rows_of=None)
    acknowledged = []

    async def client(name):
        for number in range(12):
            one = f"{name}-{number}"
            await writer.submit(change(observation(one, "p0", one * 40)))
            acknowledged.append((len(record), one))

    await writer.submit(change(patient("p0")))
    for part in range(4):  # the log is copied, starts over, and is written again
        await asyncio.gather(*(client(f"c{part}{n}") for n in range(3)))
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    await writer.close()
    return acknowledged


def cut(record: list[Written], at: int, chance: random.Random) -> dict[str, bytearray]:
    """The files as they may be found after a cut when the record was so long."""
    files: dict[str, bytearray] = {}
    synced = {entry.file: n for n, entry in enumerate(record[:at]) if entry.offset is None}
    for number, entry in enumerate(record[:at]):
        file = files.setdefault(entry.file, bytearray())
        if entry.offset is None:
            continue
        if entry.offset == GONE:  # SQLite syncs the folder as well
            del files[entry.file]
            continue
        is_durable = number < synced.get(entry.file, -1)
        if entry.data is None:
            if is_durable or chance.random() < 0.5:
                del file[entry.offset :]
            continue
        for start in range(0, len(entry.data), SECTOR):
            if is_durable or chance.random() < 0.5:
                sector = entry.data[start : start + SECTOR]
                where = entry.offset + start
                file.extend(bytes(max(0, where + len(sector) - len(file))))
                file[where : where + len(sector)] = sector
    return files


def check(folder: Path, files: dict[str, bytearray], names: list[str]) -> None:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)

    async def look():
        store = await open_sqlite(folder / "store.sqlite", clock=TestClock(), random=os.urandom)
        try:
            async with store.snapshot(Access()) as reader:
                return [await reader.read("Observation", name) for name in names]
        finally:
            await store.close()

    found = asyncio.run(look())
    assert [each and each.tail for each in found] == [body(name * 40) for name in names]
    connection = apsw.Connection(str(folder / "store.sqlite"))
    assert connection.pragma("integrity_check") == "ok"
    connection.close()


def play_cuts(tmp_path: Path, *, cuts: int, seed: int) -> None:
    record: list[Written] = []
    recorder = Recorder(record)
    (tmp_path / "live").mkdir()
    path = tmp_path / "live" / "store.sqlite"
    path.touch()
    try:
        acknowledged = asyncio.run(write(path, record))
    finally:
        recorder.unregister()
    assert len(acknowledged) == 4 * 3 * 12
    chance = random.Random(seed)
    first = acknowledged[0][0]
    for number in range(cuts):
        at = chance.randint(first, acknowledged[-1][0])
        names = [name for position, name in acknowledged if position <= at]
        check(tmp_path / f"cut{number}", cut(record, at, chance), names)


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path):
    play_cuts(tmp_path, cuts=8, seed=20260921)


@pytest.mark.torture
def test_thousands_of_power_cuts_lose_nothing(tmp_path):
    play_cuts(tmp_path, cuts=1_000, seed=int(os.environ.get("SEED", "1")))
