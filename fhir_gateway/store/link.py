"""The socket between processes: change sets to the writer, outcomes back.

A frame is a length (4 bytes, big-endian) and a msgpack array of messages [number, kind, payload];
the answer to a request bears its number. What is said in one turn of the event loop goes out in one
frame. The socket lies beside the database and is open to its owner only. When either end goes, the
other finds out by the end of the stream: requests without an answer are Lost, and whoever asked
sends them to the next writer. Change-set ids make that safe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec

from fhir_gateway.errors import GatewayError, Internal
from fhir_gateway.store import jobs
from fhir_gateway.store.changes import ChangeSet, Committed
from fhir_gateway.store.log import LogCommand
from fhir_gateway.store.refusals import Refusal, error_of, refusal_of
from fhir_gateway.store.waiting import Drain, Lost, Work
from fhir_gateway.store.writer import Writer

#: No frame is longer: more than a Bundle of the largest size with its index rows.
LONGEST = 256 << 20

_log = logging.getLogger(__name__)
_encoder = msgspec.msgpack.Encoder()

#: Kinds of requests and what their payloads and answers are.
_COMMIT, _DRAIN, _JOB, _LOG = 0, 1, 2, 3
_REQUESTS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    _COMMIT: msgspec.msgpack.Decoder(ChangeSet),
    _JOB: msgspec.msgpack.Decoder(jobs.Command),
    _LOG: msgspec.msgpack.Decoder(LogCommand),
}
_ANSWERS: dict[int, msgspec.msgpack.Decoder[Any]] = {
    _COMMIT: msgspec.msgpack.Decoder(Committed),
    _DRAIN: msgspec.msgpack.Decoder(int),
    _JOB: msgspec.msgpack.Decoder(jobs.Job | None),
    _LOG: msgspec.msgpack.Decoder(int),
}
_OK, _REFUSED = 0, 1
_refusals = msgspec.msgpack.Decoder(Refusal)


class _Message(msgspec.Struct, array_like=True, gc=False):
    number: int
    kind: int
    payload: msgspec.Raw


_messages = msgspec.msgpack.Decoder(list[_Message])


class _Wire(asyncio.Protocol):
    """One end of the socket. `hear` is called with every message that has arrived, `lose` once
    when the stream has ended; whatever `hear` cannot read ends the stream."""

    def __init__(self, hear: Callable[[_Message], None], lose: Callable[[], None]) -> None:
        self._hear, self._lose = hear, lose
        self._buffer = bytearray()
        self._said: list[tuple[int, int, Any]] = []
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()

    @property
    def closing(self) -> bool:
        """True when nothing more can be said."""
        return self._transport is None or self._transport.is_closing()

    def say(self, number: int, kind: int, payload: Any) -> None:
        """Sends a message, together with the others of this turn."""
        if not self._said:
            self._loop.call_soon(self._flush)
        self._said.append((number, kind, payload))

    def _flush(self) -> None:
        said, self._said = self._said, []
        if said and not self.closing:
            body = _encoder.encode(said)
            cast(asyncio.Transport, self._transport).write(len(body).to_bytes(4, "big") + body)

    def hang_up(self) -> None:
        """Ends the stream, after what was said has left."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    # -- called by asyncio ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is open."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hears the frames that are whole by now."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= 4:
            length = int.from_bytes(buffer[at : at + 4], "big")
            if length > LONGEST:
                self.hang_up()
                return
            if len(buffer) - at - 4 < length:
                break
            frame = bytes(memoryview(buffer)[at + 4 : at + 4 + length])
            at += 4 + length
            try:
                for message in _messages.decode(frame):
                    self._hear(message)
            except (msgspec.DecodeError, Lost):
                self.hang_up()
                return
        del buffer[:at]

    def connection_lost(self, error: Exception | None) -> None:
        """The stream has ended."""
        if not self.ended.done():
            self.ended.set_result(None)
        self._lose()


# -- the writer's end ---------------------------------------------------------------------------


class Server:
    """Listens for other processes on behalf of the writer."""

    def __init__(self, writer: Writer, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._listening: socket.socket | None = None
        self._arriving: set[asyncio.Task[Any]] = set()
        self._wires: set[_Wire] = set()

    async def open(self) -> None:
        """Starts to listen. The lock is held, so an old socket belongs to nobody."""
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listening.bind(str(self._path))
        finally:
            os.umask(before)
        listening.listen(64)
        listening.setblocking(False)
        self._listening = listening
        asyncio.get_running_loop().add_reader(listening, self._admit)

    def _admit(self) -> None:
        """Takes in who calls. By hand, for asyncio's own server forgets, and leaves waiting, whom
        it accepted a moment before it was closed.
        """
        loop = asyncio.get_running_loop()
        if self._listening is None:
            return
        try:
            caller, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: those who call wait a moment
            loop.remove_reader(self._listening)
            loop.call_later(1, self._resume)
            return
        caller.setblocking(False)
        task = loop.create_task(loop.connect_accepted_socket(self._welcome, caller))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    def _resume(self) -> None:
        if self._listening is not None:
            asyncio.get_running_loop().add_reader(self._listening, self._admit)

    async def stop_listening(self) -> None:
        """No new connections; those that are open may still be answered."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
            self._path.unlink(missing_ok=True)

    async def close(self) -> None:
        """Ends every connection, after what is answered already has left."""
        await asyncio.gather(*self._arriving, return_exceptions=True)
        wires = list(self._wires)
        for wire in wires:
            wire.hang_up()
        await asyncio.gather(*(wire.ended for wire in wires))

    def _welcome(self) -> _Wire:
        wire = _Wire(lambda message: self._accept(message, wire), lambda: self._forget(wire))
        self._wires.add(wire)
        return wire

    def _forget(self, wire: _Wire) -> None:
        self._wires.discard(wire)

    def _accept(self, message: _Message, wire: _Wire) -> None:
        number = message.number
        decoder = _REQUESTS.get(message.kind)
        work: Work = decoder.decode(message.payload) if decoder else Drain()
        try:
            future = self._writer.submit(work)
        except GatewayError as error:
            wire.say(number, _REFUSED, refusal_of(error))
            return
        future.add_done_callback(lambda done: _answer(done, number, wire))


def _answer(done: asyncio.Future[Any], number: int, wire: _Wire) -> None:
    error = done.exception()
    if error is None:
        wire.say(number, _OK, done.result())
    elif isinstance(error, GatewayError):
        wire.say(number, _REFUSED, refusal_of(error))
    else:
        wire.say(number, _REFUSED, refusal_of(Internal("a fault")))


# -- the other processes' end -------------------------------------------------------------------


class Link:
    """A connection to the writer of another process; takes the same work as the writer itself."""

    def __init__(self, *, on_lost: Callable[[], None]) -> None:
        self._number = 0
        self._waiting: dict[int, tuple[int, asyncio.Future[Any]]] = {}
        self._closed = False
        self._on_lost = on_lost
        self.wire = _Wire(self._resolve, self._lose)

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
        kind = _kind_of(work)
        self._waiting[self._number] = (kind, future)
        self.wire.say(self._number, kind, work)
        return future

    async def close(self) -> None:
        """Waits for the answers that are still to come, then hangs up."""
        if self._waiting:
            await asyncio.wait([future for _, future in self._waiting.values()])
        self._on_lost = _nothing
        self.wire.hang_up()
        await self.wire.ended

    def _resolve(self, message: _Message) -> None:
        kind, future = self._waiting.pop(message.number)
        if future.done():
            return
        if message.kind == _OK:
            future.set_result(_ANSWERS[kind].decode(message.payload))
        else:
            future.set_exception(error_of(_refusals.decode(message.payload)))

    def _lose(self) -> None:
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for _, future in waiting.values():
            if not future.done():
                future.set_exception(Lost())
        self._on_lost()


def _kind_of(work: Work) -> int:
    if isinstance(work, ChangeSet):
        return _COMMIT
    if type(work) is Drain:
        return _DRAIN
    return _LOG if isinstance(work, LogCommand) else _JOB


def _nothing() -> None:
    """Nobody is to be told."""


async def connect(path: str, *, on_lost: Callable[[], None]) -> Link | None:
    """A link to the writer that listens there, or None when nobody does."""
    link = Link(on_lost=on_lost)
    try:
        await asyncio.get_running_loop().create_unix_connection(lambda: link.wire, path)
    except OSError:
        return None
    return link
