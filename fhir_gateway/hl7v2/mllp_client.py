"""A small MLLP client: sends one message after the other and waits for each answer.

For trying a connection out and for sending again what a folder holds (`fhir-gateway send`).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Self

from fhir_gateway.errors import Unavailable
from fhir_gateway.hl7v2.mllp_frames import Frames, framed

#: Largest answer that is read.
_MOST = 1_000_000


class MllpClient:
    """One connection, as an asynchronous context manager."""

    def __init__(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, seconds: float = 30.0
    ) -> None:
        self._host, self._port, self._tls, self._seconds = host, port, tls, seconds
        self._frames, self._waiting = Frames(_MOST), list[bytes]()

    async def __aenter__(self) -> Self:
        """Connects. Raises Unavailable."""
        try:
            self._reader, self._writer = await asyncio.wait_for(
                asyncio.open_connection(self._host, self._port, ssl=self._tls), self._seconds
            )
        except (OSError, TimeoutError) as error:
            raise Unavailable(
                f"Cannot connect to {self._host}:{self._port}: {type(error).__name__}",
                rule="mllp-connect",
            ) from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the connection."""
        self._writer.close()

    async def send(
        self, message: bytes, *, answers: int = 1, fits: Callable[[bytes], bool] | None = None
    ) -> list[bytes]:
        """Sends a message and gives so many answers to it, in order. What does not fit is passed
        over: a receiver in enhanced mode answers a message twice.

        Raises Unavailable when the connection ends first or nothing comes in time: whether the
        message was stored is unknown then, and sending it again is safe.
        """
        try:
            self._writer.write(framed(message))
            await asyncio.wait_for(self._writer.drain(), self._seconds)
            async with asyncio.timeout(self._seconds):
                return [await self._next(fits) for _ in range(answers)]
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            raise Unavailable(
                "No answer came: it is not known whether the message was stored; send it again",
                rule="mllp-answer",
            ) from None

    async def _next(self, fits: Callable[[bytes], bool] | None) -> bytes:
        while True:
            while not self._waiting:
                data = await self._reader.read(65_536)
                if not data:
                    raise asyncio.IncompleteReadError(b"", None)
                self._waiting += [frame.message for frame in self._frames.feed(data)]
            answer = self._waiting.pop(0)
            if fits is None or fits(answer):
                return answer
