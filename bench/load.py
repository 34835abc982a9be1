"""A closed-loop HTTP/1.1 load over loopback: N connections, prepared requests, latencies.

It speaks raw sockets so that the load costs little beside the server that shares the machine.
Bounded in time and in requests; it only ever connects to 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(slots=True)
class Load:
    """What one load measured: latencies in seconds, failures by status line, wall time."""

    latencies: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    sample: bytes = b""

    def percentile(self, share: float) -> float:
        """The latency in ms below which this share of the answers came."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0


def request_bytes(
    method: str, path: str, body: bytes = b"", *, token: str = "", media: str = "application/json"
) -> bytes:
    """One prepared HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += [f"Content-Type: {media}", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _one_client(
    port: int, make: Callable[[], bytes], load: Load, deadline: float, limit: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    clock = time.perf_counter
    try:
        while clock() < deadline and len(load.latencies) < limit:
            message = make()
            began = clock()
            writer.write(message)
            head = await reader.readuntil(b"\r\n\r\n")
            found = _LENGTH.search(head)
            body = await reader.readexactly(int(found[1])) if found else b""
            load.latencies.append(clock() - began)
            if head[9:10] != b"2":
                status = head[9:12].decode()
                load.failures[status] = load.failures.get(status, 0) + 1
                load.sample = load.sample or body
            elif not load.sample:
                load.sample = body
    finally:
        writer.close()


async def run_load(
    port: int, make: Callable[[], bytes], *, clients: int = 16, seconds: float, limit: int = 10**7
) -> Load:
    """Drives `clients` connections for `seconds` (or `limit` requests) and returns what it saw."""
    load = Load()
    began = time.perf_counter()
    await asyncio.gather(
        *(_one_client(port, make, load, began + seconds, limit) for _ in range(clients))
    )
    load.seconds = time.perf_counter() - began
    return load
