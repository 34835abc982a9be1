"""Calling another server: one that is listed, at the very address that was judged, for a moment.

The one way out of the gateway. security.outbound says what may be called; here a name is resolved
once, every address of it is judged, and the connection goes to that address, so that a name which
changes between the judgement and the call (DNS rebinding) changes nothing. The certificate must be
the name's. Redirects are not followed, proxies of the environment not used, bodies not unpacked,
and size and time have limits. RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from fhir_gateway.errors import Invalid, Unavailable
from fhir_gateway.security.outbound import Policy, Target, allowed_target, check_addresses

if TYPE_CHECKING:
    import httpx

#: Its lines quote addresses, and an address of a search names a patient.
logging.getLogger("httpx").setLevel(logging.WARNING)

#: From a name and a port to addresses. Raises OSError.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

#: Connections of one caller; what it asks for at once is a handful.
_MOST = 8


class Fetched(NamedTuple):
    """An answer that came whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a name, by the system's own resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@lru_cache(maxsize=8)
def trusted_certificates(file: str = "") -> ssl.SSLContext:
    """What a server's certificate is checked by: the public roots and those of a file.

    Raises Invalid for a file without certificates.
    """
    import httpx  # noqa: PLC0415 - a fifth of a second that a start need not take

    context = httpx.create_ssl_context(trust_env=False)
    if file:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError):
            raise Invalid(
                "FHIR_GATEWAY_OUTBOUND_CA must be a file of certificates (PEM)",
                rule="setting-value",
            ) from None
    return context


class Outbound:
    """Calls listed servers. Each origin is resolved and pinned once, as long as this is open."""

    def __init__(self, policy: Policy, *, ca: str = "", resolver: Resolve | None = None) -> None:
        self._policy, self._ca, self._resolve = policy, ca, resolver or resolve
        self._open: dict[str, asyncio.Task[tuple[httpx.AsyncClient, str]]] = {}

    async def __aenter__(self) -> Outbound:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for opening in self._open.values():
            if not opening.done():
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
            elif not opening.cancelled() and opening.exception() is None:
                await opening.result()[0].aclose()

    async def fetch(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        most_bytes: int,
        seconds: float,
    ) -> Fetched:
        """The whole answer, whatever its status below 300 or from 400 on.

        Raises Forbidden and Invalid for an address that may not be called, Unavailable when there
        is no answer within the limits, or one that leads elsewhere.
        """
        import httpx  # noqa: PLC0415 - a fifth of a second that a start need not take

        target = allowed_target(url, self._policy)
        try:
            async with asyncio.timeout(seconds):
                client, address = await self._client(target)
                return await _ask(client, method, target, address, headers or {}, most_bytes)
        except TimeoutError:
            raise _failed("did not answer in time", "outbound-time") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            raise _failed("cannot be reached", "outbound-unreachable") from None

    async def _client(self, target: Target) -> tuple[httpx.AsyncClient, str]:
        """The client of an origin. Of several that ask at once the first one resolves the name."""
        opening = self._open.get(target.origin)
        if opening is None:
            opening = self._open[target.origin] = asyncio.create_task(self._connect(target))
        return await asyncio.shield(opening)

    async def _connect(self, target: Target) -> tuple[httpx.AsyncClient, str]:
        import httpx  # noqa: PLC0415 - a fifth of a second that a start need not take

        literal = target.literal
        found = [target.host] if literal else await self._resolve(target.host, target.port)
        address = check_addresses(target, found, self._policy)
        client = httpx.AsyncClient(
            verify=trusted_certificates(self._ca),
            trust_env=False,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - `fetch` has the limit, for all of it
            limits=httpx.Limits(max_connections=_MOST, max_keepalive_connections=_MOST),
        )
        return client, f"[{address}]" if ":" in address else address


async def _ask(
    client: httpx.AsyncClient,
    method: str,
    target: Target,
    address: str,
    headers: Mapping[str, str],
    most_bytes: int,
) -> Fetched:
    request = client.build_request(
        method,
        f"{target.scheme}://{address}:{target.port}{target.rest}",
        headers={
            **headers,
            "host": target.origin.partition("://")[2],
            "accept-encoding": "identity",
            "user-agent": "fhir-gateway",
        },
        extensions={} if target.literal else {"sni_hostname": target.host},
    )
    response = await client.send(request, stream=True)
    try:
        if 300 <= response.status_code < 400:
            raise _failed("answers with an address elsewhere", "outbound-redirect")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise _failed("answers with a packed body", "outbound-encoding")
        return Fetched(response.status_code, response.headers, await _body(response, most_bytes))
    finally:
        await response.aclose()


async def _body(response: httpx.Response, most_bytes: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > most_bytes:
            raise _failed(f"answers with more than {most_bytes} bytes", "outbound-size")
        parts.append(part)
    return b"".join(parts)


def _failed(what: str, rule: str) -> Unavailable:
    return Unavailable(f"The server that the gateway asked {what}", rule=rule)
