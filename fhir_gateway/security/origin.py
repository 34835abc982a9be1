"""Where a request came in and from whose page: the address clients call, and CORS.

Links in answers lead where the client came from: the configured base, else what a trusted proxy
says (RFC 7239 Forwarded, or X-Forwarded-*), else the Host header. What an untrusted peer says about
itself is not read: links are followed with credentials. Browsers: fetch.spec.whatwg.org#http-cors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from fhir_gateway.errors import Invalid
from fhir_gateway.settings import Settings

#: Where the FHIR base stands below the root of the server.
FHIR_PATH = "/fhir"

Headers = tuple[tuple[bytes, bytes], ...]

_HOST = re.compile(r"[A-Za-z0-9.\-_]{1,255}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


def check_origins(settings: Settings) -> None:
    """Raises Invalid for settings that name no networks or no origins."""
    _networks(settings.trusted_proxies)
    for origin in _origins(settings.allowed_origins):
        if origin != "*" and not re.fullmatch(r"https?://[^/\s,]+", origin):
            raise Invalid(
                "allowed_origins are origins such as https://app.example", rule="setting-type"
            )


def base_of(scope: Mapping[str, object], headers: Mapping[str, str], settings: Settings) -> str:
    """The FHIR base as the client called it, or as configured. Raises Invalid for no clean host."""
    if settings.base_url:
        return settings.base_url.rstrip("/")
    scheme, host = str(scope["scheme"]), headers.get("host", "")
    if settings.trusted_proxies:
        scheme, host = _as_forwarded(scope, headers, settings.trusted_proxies, scheme, host)
    if not _HOST.fullmatch(host):
        raise Invalid("The Host header is not a host name", rule="host")
    return f"{scheme}://{host}{scope.get('root_path', '')}{FHIR_PATH}"


def root_of(scope: Mapping[str, object], headers: Mapping[str, str], settings: Settings) -> str:
    """The address of the server itself, where the other doors stand beside the FHIR base.

    A base that was configured without our own path at its end says nothing but its origin.
    Raises Invalid for no clean host.
    """
    base = base_of(scope, headers, settings)
    if base.endswith(FHIR_PATH):
        return base.removesuffix(FHIR_PATH)
    return "/".join(base.split("/", 3)[:3])


def _as_forwarded(
    scope: Mapping[str, object],
    headers: Mapping[str, str],
    proxies: str,
    scheme: str,
    host: str,
) -> tuple[str, str]:
    """What the proxy next to us says of the request it got; the last word is that proxy's own."""
    client = scope.get("client")
    if not isinstance(client, tuple | list) or not is_trusted(str(client[0]), proxies):
        return scheme, host
    if "forwarded" in headers:
        said = _forwarded(headers["forwarded"])
        named, proto = said.get("host", host), said.get("proto", scheme)
    else:
        named = _last(headers.get("x-forwarded-host", "")) or host
        proto = _last(headers.get("x-forwarded-proto", "")) or scheme
        port = _last(headers.get("x-forwarded-port", ""))
        if port and not re.search(r":\d+$", named) and port != _PORTS.get(proto.lower()):
            named = f"{named}:{port}"
    proto = proto.lower()
    return (proto if proto in _PORTS else scheme), named


def client_of(scope: Mapping[str, object], headers: Mapping[str, str], proxies: str) -> str:
    """The address of the client, as a trusted proxy next to us says it; else the peer's own."""
    client = scope.get("client")
    peer = str(client[0]) if isinstance(client, tuple | list) else ""
    if not proxies or not is_trusted(peer, proxies):
        return peer
    if "forwarded" in headers:
        said = _forwarded(headers["forwarded"]).get("for", "")
    else:
        said = _last(headers.get("x-forwarded-for", ""))
    said = said[1:].partition("]")[0] if said.startswith("[") else said
    said = said.partition(":")[0] if said.count(":") == 1 else said
    try:
        return str(ip_address(said))
    except ValueError:
        return peer


_PORTS = {"http": "80", "https": "443"}


def _last(text: str) -> str:
    return text.rpartition(",")[2].strip()


_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s;,"]+)')


@lru_cache(maxsize=512)
def _forwarded(header: str) -> Mapping[str, str]:
    """The pairs of the last element of a Forwarded header."""
    pairs = _PAIR.findall(re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', header)[-1])
    return {name.lower(): re.sub(r"\\(.)", r"\1", value.strip('"')) for name, value in pairs}


@lru_cache(maxsize=8)
def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())
    except ValueError:
        raise Invalid(
            "trusted_proxies are addresses or networks such as 10.0.0.0/8", rule="setting-type"
        ) from None


@lru_cache(maxsize=4_096)
def is_trusted(address: str, proxies: str) -> bool:
    """Whether a peer is one of the proxies that the operator trusts."""
    try:
        peer = ip_address(address)
    except ValueError:
        return False
    return any(peer in network for network in _networks(proxies))


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """True for localhost and loopback addresses."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_direct(headers: Mapping[str, str], settings: Settings) -> bool:
    """Whether nobody can stand between a caller and this machine: it listens on loopback, has no
    proxy, and the request does not say that it came through one."""
    return (
        is_loopback(settings.host)
        and not settings.trusted_proxies
        and _OF_PROXIES.isdisjoint(headers)
    )


#: What proxies add, of whatever make.
_OF_PROXIES = frozenset({
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port",
    "x-forwarded-server", "x-real-ip", "via",
})  # fmt: skip


# -- pages of other origins ------------------------------------------------------------------

_EXPOSED = (
    b"access-control-expose-headers",
    b"content-location, etag, last-modified, location, retry-after, x-progress, x-request-id",
)
_ALLOWED_HEADERS = (
    b"access-control-allow-headers",
    b"accept, authorization, content-type, if-match, if-modified-since, if-none-exist, "
    b"if-none-match, prefer, x-request-id",
)


@lru_cache(maxsize=8)
def _origins(text: str) -> frozenset[str]:
    return frozenset(one.strip().rstrip("/").lower() for one in text.split(",") if one.strip())


def shared_with(origin: str, allowed: str, *, everyone: bool = False) -> Headers:
    """The headers that let a page of this origin read an answer; none when it may not.

    `everyone` is for what any page may read, such as the CapabilityStatement.
    """
    if everyone or "*" in _origins(allowed):
        return ((b"access-control-allow-origin", b"*"), _EXPOSED)
    if origin.lower() not in _origins(allowed):
        return ((b"vary", b"origin"),)
    given = (b"access-control-allow-origin", origin.encode("latin-1"))
    return (given, (b"vary", b"origin"), _EXPOSED)


def preflight(methods: str) -> Headers:
    """What else a browser wants to know before it asks."""
    return (
        (b"access-control-allow-methods", methods.encode()),
        _ALLOWED_HEADERS,
        (b"access-control-max-age", b"600"),
    )
