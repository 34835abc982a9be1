"""The body of a request to a door beside FHIR, never more of it than the door takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fhir_gateway.errors import Structure, TooLong

#: What an ASGI server hands out piece by piece.
Receive = Callable[[], Awaitable[Any]]


async def read_bounded(
    receive: Receive, limit: int, what: str, *, rule: str = "body-limit"
) -> bytes:
    """The body. Raises TooLong, under this rule, as soon as it is over the limit ("A form" may
    have so many bytes), Structure when it was cut off."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Structure("The body was cut off", rule="body")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise TooLong(f"{what} may have at most {limit} bytes", rule=rule)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)
