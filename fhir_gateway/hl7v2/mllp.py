"""The MLLP door: v2 messages over TCP, each answered when its commit is durable.

HL7 MLLP release 2 and HL7 v2.5.1 2.9. A connection belongs to one institution, by its certificate
or its address (security.mllp_senders). Its messages are taken one after the other: while one is
being stored nothing more is read, so a gateway that cannot keep up slows its senders down and loses
nothing. A message that came twice gets the same answer (interactions.intake).
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from contextlib import suppress
from hashlib import sha256
from time import perf_counter
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, GatewayError, Structure, Throttled, TooLong
from fhir_gateway.hl7v2.mllp_frames import Frame, Frames, framed
from fhir_gateway.interactions.audit import ORIGIN, Origin
from fhir_gateway.interactions.callers import Caller, actor_of
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.intake import Acknowledged, receive_v2, refuse_v2
from fhir_gateway.interactions.pace import in_turn
from fhir_gateway.mapping.v2_ack import by_mode, read_header
from fhir_gateway.security.actor import OPEN, SYSTEM_ACCESS, Actor
from fhir_gateway.security.mllp_senders import Senders
from fhir_gateway.store.opening import SQLITE

LOG = logging.getLogger("fhir_gateway.mllp")

#: Bytes that are read at once.
_PIECE = 65_536

#: What audit events call this door's senders, beside the first digits of their certificate.
_CLIENT = "mllp"


class Limits(NamedTuple):
    """Seconds and numbers: `idle` between messages, `frame` for one message to come whole,
    `connections` of all senders together, `per_address` of one, `at_once` messages under way, and
    `prepared` of these that are read, mapped and judged at a time (0: as the store reads)."""

    idle: float = 600.0
    frame: float = 30.0
    connections: int = 500
    per_address: int = 50
    at_once: int = 64
    prepared: int = 0


#: Messages that are prepared at a time: by a store that is read in the event loop, and by one that
#: is asked over the network, so that another goes on meanwhile.
_PREPARED, _PREPARED_AFAR = 1, 4


class Mllp:
    """The server. `begin` listens, `end` answers what is under way and closes."""

    def __init__(self, gateway: Gateway, senders: Senders, *, limits: Limits | None = None) -> None:
        self._gateway, self._senders = gateway, senders
        self._limits = limits = limits or Limits()
        self._turn = asyncio.Semaphore(limits.at_once)
        near = gateway.settings.database.startswith(SQLITE)
        self._preparing = asyncio.Semaphore(
            limits.prepared or (_PREPARED if near else _PREPARED_AFAR)
        )
        self.at_work = 0  # messages that are being stored
        self._open: dict[asyncio.Task[None], _Connection] = {}
        self._server: asyncio.Server | None = None
        self._ending = False

    async def begin(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> int:
        """Listens; returns the port. Raises OSError."""
        self._server = await asyncio.start_server(
            self._accept, host, port, ssl=tls, limit=_PIECE,
            ssl_handshake_timeout=10.0 if tls else None,
        )  # fmt: skip
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def end(self, grace: float = 10.0) -> None:
        """Takes no more, finishes what is under way for so many seconds, closes."""
        self._ending = True
        if self._server is not None:
            self._server.close()
        for connection in self._open.values():
            connection.finish()
        if self._open:
            await asyncio.wait(list(self._open), timeout=grace)
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        address = _address(writer)
        connection = _Connection(self, reader, writer, address)
        same = sum(1 for other in self._open.values() if other.address == address)
        full = len(self._open) >= self._limits.connections or same >= self._limits.per_address
        self._open[task] = connection
        try:
            with suppress(ConnectionError, ssl.SSLError, TimeoutError):
                await (connection.refuse() if full or self._ending else connection.run())
        finally:
            del self._open[task]
            writer.close()
            with suppress(Exception):  # whatever a broken connection says when it is closed
                await writer.wait_closed()

    async def answer(self, frame: Frame, address: str, certificate: str) -> Acknowledged:
        """The acknowledgement of a frame. Never raises."""
        gateway = self._gateway
        try:
            _check(frame, gateway.settings.body_limit)
            actor = await self._actor(address, certificate)
        except GatewayError as error:
            return refuse_v2(gateway, frame.message, error)
        async with self._turn:
            self.at_work += 1
            try:
                async with in_turn(self._preparing):
                    return await receive_v2(gateway, actor, frame.message)
            finally:
                self.at_work -= 1

    async def _actor(self, address: str, certificate: str) -> Actor:
        if self._gateway.settings.open_access:
            return OPEN
        gateway, id = self._gateway, self._senders.institution(address, certificate)
        if id is not None:
            said = Caller("institution", id, client=_CLIENT, token=certificate[:16])
            async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
                if id in await institutions_at(gateway, reader):
                    return await actor_of(gateway, reader, said)
        raise Forbidden(
            "No registered institution sends from this address with this certificate: the"
            " operator lists senders in FHIR_GATEWAY_MLLP_SENDERS",
            rule="sender",
        )


class _Connection:
    """One connection, its messages in order."""

    def __init__(
        self,
        door: Mllp,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        address: str,
    ) -> None:
        self.address = address
        self._door, self._reader, self._writer = door, reader, writer
        self._certificate = _fingerprint(writer)
        self._frames = Frames(door._gateway.settings.body_limit)
        self._reading: asyncio.Task[bytes] | None = None
        self._finishing = False

    def finish(self) -> None:
        """No more is read; a message that is being stored is still answered."""
        self._finishing = True
        if self._reading is not None:
            self._reading.cancel()

    async def run(self) -> None:
        """Reads and answers until the sender closes, is silent for too long, or we end."""
        while not self._finishing:
            data = await self._read()
            if not data:
                return
            for frame in self._frames.feed(data):
                if not await self._answer(frame):
                    return

    async def refuse(self) -> None:
        """Answers the first message of a connection too many: it may be sent again later."""
        data = await self._read()
        for frame in self._frames.feed(data)[:1]:
            error = Throttled("Too many connections; send it again later", rule="connections")
            gateway = self._door._gateway
            await self._write(frame, refuse_v2(gateway, frame.message, error))

    async def _read(self) -> bytes:
        limits = self._door._limits
        seconds = limits.frame if self._frames.inside else limits.idle
        self._reading = asyncio.ensure_future(self._reader.read(_PIECE))
        try:
            return await asyncio.wait_for(self._reading, seconds)
        except TimeoutError:
            return b""
        except asyncio.CancelledError:
            if self._finishing:
                return b""
            raise
        finally:
            self._reading = None

    async def _answer(self, frame: Frame) -> bool:
        """Answers one frame; False when the connection is to be closed."""
        request_id = self._door._gateway.random(16).hex()
        ORIGIN.set(Origin(request_id, self.address))
        started = perf_counter()
        answer = await self._door.answer(frame, self.address, self._certificate)
        await self._write(frame, answer)
        _log(request_id, frame, answer, perf_counter() - started)
        self._door._gateway.count(f"mllp_{answer.code.lower()}", 1)
        nobodys = answer.error is not None and answer.error.issues[0].rule == "sender"
        return not nobodys and frame.fault != "too-long"

    async def _write(self, frame: Frame, answer: Acknowledged) -> None:
        header = read_header(frame.message)
        if header.accept or header.application:  # else the answer goes out as it is
            header = header._replace(codec=read_header(answer.body).codec)
        for body in by_mode(header, answer.body, stored=answer.error is None):
            self._writer.write(framed(body))
        await asyncio.wait_for(self._writer.drain(), self._door._limits.frame)


def _check(frame: Frame, limit: int) -> None:
    """Raises TooLong or Structure for a frame that holds no whole message."""
    if frame.fault == "too-long":
        raise TooLong(f"A message may have at most {limit} bytes", rule="body-limit")
    if frame.fault == "cut-off":
        raise Structure(
            "A new message began before this one ended (no <FS>): it was not stored, send it again",
            rule="mllp-frame",
        )


def _log(request_id: str, frame: Frame, answer: Acknowledged, seconds: float) -> None:
    """One line for operators: no name, number or content of the message."""
    line = {
        "event": "mllp",
        "request": request_id,
        "code": answer.code,
        "rule": answer.error.issues[0].rule if answer.error else None,
        "repeated": answer.repeated,
        "bytes": len(frame.message),
        "ms": round(seconds * 1000, 1),
    }
    LOG.info(json.dumps(line))


def _address(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if peer else ""


def _fingerprint(writer: asyncio.StreamWriter) -> str:
    """SHA-256 of the client's certificate, which TLS has verified; "" for none."""
    tls = writer.get_extra_info("ssl_object")
    certificate = tls.getpeercert(binary_form=True) if tls is not None else None
    return sha256(certificate).hexdigest() if certificate else ""
