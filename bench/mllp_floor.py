"""The floor of the MLLP door: frames in, one durable append for a batch, ACK out; nothing else.

Run as `python -m bench.mllp_floor FILE`; prints its port.
"""

from __future__ import annotations

import asyncio
import os
import sys

from fhir_gateway.hl7v2.mllp_frames import Frames, framed

_ACK = framed(b"MSH|^~\\&|GW|CITY|LIS|bench|20261122||ACK^R01^ACK|1|P|2.5.1\rMSA|AA|1\r")


class Log:
    """A file to which all that wait are written with one fdatasync."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._begun = asyncio.Event()

    async def append(self, message: bytes) -> None:
        """Returns when the message is durable."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((message, done))
        self._begun.set()
        await done

    async def work(self) -> None:
        """Writes batches for ever."""
        while True:
            await self._begun.wait()
            self._begun.clear()
            batch, self._waiting = self._waiting, []
            await asyncio.to_thread(self._write, [message for message, _ in batch])
            for _, done in batch:
                done.set_result(None)

    def _write(self, messages: list[bytes]) -> None:
        os.write(self._handle, b"".join(messages))
        os.fdatasync(self._handle)


async def main(path: str) -> None:
    """Serves until the process is ended."""
    log = Log(path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames(1_000_000)
        while data := await reader.read(65_536):
            for frame in frames.feed(data):
                await log.append(frame.message)
                writer.write(_ACK)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await log.work()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
