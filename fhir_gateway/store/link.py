"""The socket between processes: change sets to the writer, outcomes back.

A frame is a length (4 bytes, big-endian) and a msgpack array [number, kind, payload]; the answer
to a request bears its number. The socket lies beside the database and is open to its owner only.
When either end goes, the other finds out by the end of the stream: requests without an answer are
Lost, and whoever asked sends them to the next writer. Change-set ids make that safe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fhir_gateway.errors import GatewayError, Internal
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import ChangeSet, Committed
from fhir_gateway.store.refusals import Refusal, error_of, refusal_of
from fhir_gateway.store.waiting import Drain, Lost, Work
from fhir_gateway.store.writer import Writer

#: No frame is longer: more than a Bundle of the largest size with its index rows.
LONGEST = 256 << 20

_log = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()

#: Kinds of requests and what their payloads and answers are.
_COMMIT, _DRAIN, _JOB = 0, 1, 2
_REQUESTS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    _COMMIT: msgspec.msgpack.Decoder(ChangeSet),
    _JOB: msgspec.msgpack.Decoder(jobs.Command),
}
_ANSWERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    _COMMIT: msgspec.msgpack.Decoder(Committed),
    _DRAIN: msgspec.msgpack.Decoder(int),
    _JOB: msgspec.msgpack.Decoder(jobs.Job | None),
}
_OK, _REFUSED = 0, 1
_refusals = msgspec.msgpack.Decoder(Refusal)


class _Frame(msgspec.Struct, array_like=True, gc=False):
    number: int
    kind: int
    payload: msgspec.Raw


_frames = msgspec.msgpack.Decoder(_Frame)


def _frame(number: int, kind: int, payload: Any) -> bytes:
    body = _encoder.encode((number, kind, payload))
    return len(body).to_bytes(4, "big") + body


async def _read(reader: asyncio.StreamReader) -> _Frame:
    length = int.from_bytes(await reader.readexactly(4), "big")
    if length > LONGEST:
        raise ConnectionError("frame too long")
    return _frames.decode(await reader.readexactly(length))


_BROKEN = (OSError, EOFError, msgspec.DecodeError)


# -- the writer's end ---------------------------------------------------------------------------


class Server:
    """Listens for other processes on behalf of the writer."""

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Starts to listen. The lock is held, so an old socket belongs to nobody."""
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listening.bind(str(self._path))
        finally:
            os.umask(before)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, backlog=64)

    async def stop_listening(self) -> None:
        """No new connections; those that are open may still be answered."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Ends every connection, after what is answered already has left."""
        await asyncio.sleep(0)  # who was accepted a moment ago is served first, then let go
        streams = list(self._streams)
        for stream in streams:
            stream.close()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.gather(*(one.wait_closed() for one in streams), return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, stream: asyncio.StreamWriter) -> None:
        self._streams.add(stream)
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        try:
            while True:
                self._accept(await _read(reader), stream)
                await stream.drain()
        except (*_BROKEN, Lost):
            pass
        finally:
            self._streams.discard(stream)
            stream.close()

    def _accept(self, frame: _Frame, stream: asyncio.StreamWriter) -> None:
        decoder = _REQUESTS.get(frame.kind)
        work: Work = decoder.decode(frame.payload) if decoder else Drain()
        try:
            future = self._writer.submit(work)
        except GatewayError as error:
            stream.write(_frame(frame.number, _REFUSED, refusal_of(error)))
            return
        future.add_done_callback(lambda done: self._answer(done, frame.number, stream))

    def _answer(self, done: asyncio.Future[Any], number: int, stream: asyncio.StreamWriter) -> None:
        error = done.exception()
        if stream.is_closing():
            return
        if error is None:
            stream.write(_frame(number, _OK, done.result()))
        elif isinstance(error, GatewayError):
            stream.write(_frame(number, _REFUSED, refusal_of(error)))
        else:
            stream.write(_frame(number, _REFUSED, refusal_of(Internal("a fault"))))


# -- the other processes' end -------------------------------------------------------------------


class Link:
    """A connection to the writer of another process; takes the same work as the writer itself."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        stream: asyncio.StreamWriter,
        *,
        on_lost: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._number = 0
        self._waiting: dict[int, tuple[int, asyncio.Future[Any]]] = {}
        self._closed = False
        self._on_lost = on_lost
        self._task = asyncio.create_task(self._receive(reader), name="store-link")

    @property
    def closed(self) -> bool:
        """True when the writer is gone."""
        return self._closed

    def submit(self, work: Work) -> asyncio.Future[Any]:
        """The outcome to come. Raises Lost when the writer is gone."""
        if self._closed:
            raise Lost
        self._number += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        kind = _COMMIT if isinstance(work, ChangeSet) else _DRAIN if type(work) is Drain else _JOB
        self._waiting[self._number] = (kind, future)
        self._stream.write(_frame(self._number, kind, work))
        return future

    async def close(self) -> None:
        """Waits for the answers that are still to come, then hangs up."""
        if self._waiting:
            await asyncio.wait([future for _, future in self._waiting.values()])
        self._closed = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._stream.close()

    async def _receive(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                self._resolve(await _read(reader))
        except _BROKEN:
            self._lose()

    def _resolve(self, frame: _Frame) -> None:
        kind, future = self._waiting.pop(frame.number)
        if future.done():
            return
        if frame.kind == _OK:
            future.set_result(_ANSWERS[kind].decode(frame.payload))
        else:
            future.set_exception(error_of(_refusals.decode(frame.payload)))

    def _lose(self) -> None:
        self._closed = True
        self._stream.close()
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(Lost())
        self._on_lost()


async def connect(path: str, *, on_lost: Callable[[], None]) -> Link | None:
    """A link to the writer that listens there, or None when nobody does."""
    try:
        reader, stream = await asyncio.open_unix_connection(path)
    except OSError:
        return None
    return Link(reader, stream, on_lost=on_lost)
