"""A proxy between a store and its PostgreSQL that cuts a connection at a chosen moment, or holds
back what it should pass on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress


class Proxy:
    """Made by `open`, which gives the port. `cut_at` is looked for in what a client says: the
    connection ends before it is passed on, or, with `after`, before its answer is.
    """

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listening: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.cut_at: bytes | None = None
        self.after = False
        self.cuts = 0

    async def open(self) -> int:
        """Listens; the port."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._listening.sockets[0].getsockname()[1]
        return port

    def hold(self) -> None:
        """From now on nothing passes, and nobody is told."""
        self._flows.clear()

    def release(self) -> None:
        """What was held back passes."""
        self._flows.set()

    async def close(self) -> None:
        """Ends every connection."""
        assert self._listening is not None
        self._listening.close()
        self.release()
        for stream in list(self._streams):
            stream.close()
        await self._listening.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.close()
            return
        self._streams |= {writer, to_server[1]}
        is_cut = asyncio.Event()
        flows = (
            asyncio.create_task(self._ask(reader, to_server[1], is_cut)),
            asyncio.create_task(self._answer(to_server[0], writer, is_cut)),
        )
        with suppress(OSError):
            await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
        for flow in flows:
            flow.cancel()
        await asyncio.gather(*flows, return_exceptions=True)
        for stream in (writer, to_server[1]):
            stream.close()
            self._streams.discard(stream)

    async def _ask(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, is_cut: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            await self._flows.wait()
            if self.cut_at is not None and self.cut_at in data:
                self.cut_at = None
                self.cuts += 1
                if not self.after:
                    return
                is_cut.set()
            to.write(data)
            await to.drain()

    async def _answer(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, is_cut: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            await self._flows.wait()
            if is_cut.is_set():
                return
            to.write(data)
            await to.drain()
