"""What a connection may cost before any door hears of it: bytes of a head, time, and their number.

uvicorn's protocol on httptools, which refuses what two readers could read as two requests (both
Content-Length and Transfer-Encoding, a bare line feed, an odd length: RFC 9112 6.3, 11.2). Here
are the limits that it lacks. One sweep a second looks at all connections, so that a request in time
pays nothing for it: a head or a body that drips is answered 408, one that nobody reads the answer
of is cut off. What is refused here is answered with an OperationOutcome and closed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from http import HTTPStatus
from time import monotonic
from typing import Any, ClassVar

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fhir_gateway.errors import GatewayError, HeadersTooLong, Structure, TooSlow, Unavailable
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.rest.headers import ALWAYS
from fhir_gateway.security.origin import is_trusted
from fhir_gateway.settings import Settings

SWEEP_SECONDS = 1.0
#: Bytes of a body for each further second that it may take, and of an answer that is read.
_BYTES_A_SECOND = 20_000
#: Requests that wait behind another one on one connection.
_MOST_PIPELINED = 16
#: Seconds in which somebody must have read something of an answer.
_READING_SECONDS = 60.0


class Connections:
    """All connections of a process: how many there are, from where, and which are too slow."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._all: set[Connection] = set()
        self._from: Counter[str] = Counter()

    def protocol(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> Connection:
        """A new connection's protocol, as uvicorn asks for it."""
        return Connection(self, config, server_state, app_state, _loop)

    def add(self, one: Connection) -> bool:
        """False for one too many, of all or from its address."""
        self._all.add(one)
        self._from[one.address] += 1
        settings = self.settings
        if len(self._all) > settings.connection_limit:
            return False
        most = settings.address_connections
        if not most or self._from[one.address] <= most:
            return True
        return is_trusted(one.address, settings.trusted_proxies)

    def remove(self, one: Connection) -> None:
        """Forgets a connection that has ended."""
        if one in self._all:
            self._all.discard(one)
            self._from[one.address] -= 1
            if not self._from[one.address]:
                del self._from[one.address]

    async def sweep(self) -> None:
        """Looks at every connection, each second, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = monotonic()
            for one in tuple(self._all):
                one.look(now)


class Connection(HttpToolsProtocol):
    """One connection. `_since` is when the head or body that it waits for began to come."""

    _slow_head: ClassVar[TooSlow] = TooSlow("The request's head did not come in time", rule="slow")
    _slow_body: ClassVar[TooSlow] = TooSlow("The request's body did not come in time", rule="slow")

    def __init__(
        self,
        connections: Connections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._connections = connections
        self.address = ""
        self._since = monotonic()
        self._head = 0  # bytes of a head that is not complete, -1 when none is under way
        self._body = 0  # bytes of the body under way
        self._unread = (0, 0.0)  # bytes that nobody has read, and since when so many

    # -- asyncio's callbacks ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; one too many is told so."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        if not self._connections.add(self):
            self._refuse(Unavailable("There are too many connections", rule="connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request. A head that is larger than it may be is refused as it grows."""
        if self.transport.is_closing():
            return
        if self._head == 0:
            self._since = monotonic()
        if self._head >= 0:
            self._head += len(data)
        super().data_received(data)
        if self._head > self._connections.settings.head_limit:
            self._refuse_head()

    # -- the parser's callbacks -------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._body = 0

    def on_headers_complete(self) -> None:
        """Its head is there: it may be worked on, unless it is too large or one too many waits."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self._connections.settings.head_limit:
            self._refuse_head()
        if len(self.pipeline) >= _MOST_PIPELINED:
            self._refuse(Unavailable("Too many requests wait on one connection", rule="pipeline"))
        if self.transport.is_closing():
            raise httptools.HttpParserError
        self._head = -1
        self._since = monotonic()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """It is there whole; the next may begin."""
        self._head = 0
        super().on_message_complete()

    # -- refusals ---------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Ends what takes longer than it may."""
        if self.transport is None or self.transport.is_closing():
            return
        settings = self._connections.settings
        cycle = self.cycle
        waited = now - self._since
        if self._head > 0 or (self._head == 0 and cycle is None):
            if waited > settings.head_seconds:
                self._refuse(self._slow_head)
        elif (
            self._head < 0
            and cycle.more_body
            and waited > settings.body_seconds + self._body / _BYTES_A_SECOND
            and not self.flow.read_paused
        ):
            self._refuse(self._slow_body)
        self._look_at_reader(now)

    def _look_at_reader(self, now: float) -> None:
        """Cuts off a client that asks and does not read."""
        unread = self.transport.get_write_buffer_size()
        if not unread or unread != self._unread[0]:
            self._unread = (unread, now)
        elif now - self._unread[1] > _READING_SECONDS:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or could be read as two requests."""
        self._refuse(Structure("This is no HTTP request that has one meaning", rule="http"))

    def _refuse_head(self) -> None:
        limit = self._connections.settings.head_limit
        self._refuse(
            HeadersTooLong(f"The head of a request may have {limit} bytes", rule="headers-limit")
        )

    def _refuse(self, error: GatewayError) -> None:
        """Answers once, unless an answer is under way, and closes."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is None or not cycle.response_started or cycle.response_complete:
            self.transport.write(_answer(error))
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()


def _answer(error: GatewayError) -> bytes:
    body = operation_outcome(error.issues)
    headers = [
        *ALWAYS,
        (b"content-type", b"application/fhir+json; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
        *([(b"retry-after", b"%d" % error.after)] if error.status in (408, 503) else ()),
    ]
    status = HTTPStatus(error.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode()]
    lines += [b"%s: %s" % pair for pair in headers]
    return b"\r\n".join([*lines, b"", body])
