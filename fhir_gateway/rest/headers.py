"""The headers that every answer of every door has, whatever it is about.

Answers are data for programs: no page may frame, sniff, cache or run them, whoever opens one in a
browser. A door that has said something about one of these names keeps its word. OWASP Secure
Headers, CSP Level 3, RFC 6797 (HSTS), RFC 9110 12.5.5 (Vary).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fhir_gateway.errors import Invalid
from fhir_gateway.security.origin import base_of
from fhir_gateway.settings import Settings

Headers = tuple[tuple[bytes, bytes], ...]

_FEATURES = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb")

ALWAYS: Headers = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; "
                                 b"frame-ancestors 'none'; sandbox"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", ", ".join(f"{name}=()" for name in _FEATURES).encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)  # fmt: skip
#: Two years: what came by TLS once is asked for by TLS only.
_TLS = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")
#: Bytes that somebody else chose are never shown in place.
_DOWNLOAD = (b"content-disposition", b"attachment")
#: Where such bytes go out: Binary, and the files of asynchronous answers.
_FOREIGN = ("/fhir/Binary", "/fhir/_async/")


def guarding(scope: Mapping[str, Any], settings: Settings, given: Any) -> list[Any]:
    """The headers of an answer: those that its door gave, and those that every answer has."""
    headers = [*given]
    names = {name for name, _ in headers}
    headers += [pair for pair in ALWAYS if pair[0] not in names]
    if by_tls(scope, settings):
        headers.append(_TLS)
    if scope["path"].startswith(_FOREIGN) and b"content-disposition" not in names:
        headers.append(_DOWNLOAD)
    return headers


def by_tls(scope: Mapping[str, Any], settings: Settings) -> bool:
    """Whether the client came by TLS, as far as the gateway can know: RFC 6797 7.2 wants no HSTS
    over plain HTTP."""
    if scope["scheme"] == "https" or _is_https(settings.base_url):
        return True
    if not settings.trusted_proxies:
        return False
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name in (b"forwarded", b"x-forwarded-proto")
    }
    try:
        return base_of(scope, {**headers, "host": "localhost"}, settings).startswith("https:")
    except Invalid:  # a proxy that names no clean host is refused where links are made
        return False


@lru_cache(maxsize=8)
def _is_https(base_url: str) -> bool:
    return base_url.lower().startswith("https:")


def rate_limit(left: int, burst: int, window: int, after: int) -> Headers:
    """What a client has left, as draft-ietf-httpapi-ratelimit-headers tells it."""
    return (
        (b"ratelimit-policy", b'"points";q=%d;w=%d' % (burst, window)),
        (b"ratelimit", b'"points";r=%d;t=%d' % (left, after)),
    )
