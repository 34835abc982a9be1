"""What the figures were measured on: processor, memory, the disk's own fdatasync."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import NamedTuple


class Sync(NamedTuple):
    """fdatasync of 4 KiB appends: milliseconds and rate."""

    p50: float
    p99: float
    per_second: float


def measure_fdatasync(folder: Path, seconds: float = 3.0) -> Sync:
    """Appends 4 KiB blocks to a file in `folder`, each followed by fdatasync."""
    path = folder / "fdatasync.probe"
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    block, taken = os.urandom(4096), []
    end = time.perf_counter() + seconds
    try:
        while time.perf_counter() < end:
            os.write(handle, block)
            began = time.perf_counter()
            os.fdatasync(handle)
            taken.append(time.perf_counter() - began)
    finally:
        os.close(handle)
        path.unlink()
    taken.sort()
    return Sync(
        taken[len(taken) // 2] * 1000, taken[int(len(taken) * 0.99)] * 1000, len(taken) / seconds
    )


def bare_call_ns(calls: int = 2_000_000) -> float:
    """What an empty Python call costs now, in ns: 40 to 50 on an idle core of this class.

    Shared machines slow down and speed up; figures of two runs compare only beside this one.
    """

    def nothing() -> None:
        return

    began = time.process_time()
    for _ in range(calls):
        nothing()
    return (time.process_time() - began) / calls * 1e9


def describe() -> str:
    """One line: processor, cores, memory, Python."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024**2
    return (
        f"{model}, {os.cpu_count()} cores, {memory} GiB, Python {platform.python_version()}, "
        f"{platform.system()} {platform.release()}"
    )


def family(pid: int) -> list[int]:
    """A process and its living children: a server and its workers."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, listed)]


def cpu_seconds(pid: int) -> float:
    """User and system CPU seconds of a process and its children so far, ended ones too."""
    ticks = sum(_ticks(pid)) + sum(sum(_ticks(child)[:2]) for child in family(pid)[1:])
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> tuple[int, ...]:
    """User and system time, own and of ended children; nothing of a process that has ended, whose
    time is its parent's by then."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return (0, 0, 0, 0)
    return tuple(map(int, stat.rsplit(")", 1)[1].split()[11:15]))


def resident_mib(pid: int) -> float:
    """Resident memory in MiB of the largest process of a server, without mapped file pages."""
    return max(_anonymous_kib(one) for one in family(pid)) / 1024


def _anonymous_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    return 0
