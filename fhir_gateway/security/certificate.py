"""The client certificate that a proxy has checked and passes on in a header (mTLS). Pure.

RFC 8705 binds a token to the SHA-256 of a certificate; RFC 9440 says how a proxy hands it on:
`:base64:` of its DER. Percent-encoded PEM, as nginx spells it, and plain base64 are read as well.
Only the proxies that the operator trusts are believed; from anybody else the header is air.
"""

from __future__ import annotations

import re
from base64 import b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from urllib.parse import unquote

from fhir_gateway.errors import Invalid
from fhir_gateway.security.origin import is_trusted
from fhir_gateway.settings import Settings

#: The largest certificate that is read, as it is spelled in the header.
_MOST = 16_384
_NAME = re.compile(r"[a-z0-9][a-z0-9\-]{0,63}")
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_THUMBPRINT = re.compile(r"[A-Za-z0-9_\-]{43}")
#: Headers that mean something else already.
_TAKEN = frozenset({"authorization", "host", "content-type", "content-length", "cookie"})


def check_certificate_header(settings: Settings) -> None:
    """Raises Invalid for a header that is none, or that nobody would be believed about."""
    name = settings.client_certificate_header.lower()
    if not name:
        return
    if not _NAME.fullmatch(name) or name in _TAKEN:
        raise Invalid(
            "FHIR_GATEWAY_CLIENT_CERTIFICATE_HEADER must be the name of a header that the proxy "
            "sets and nobody else may, such as client-cert",
            rule="setting-value",
        )
    if not settings.trusted_proxies:
        raise Invalid(
            "FHIR_GATEWAY_CLIENT_CERTIFICATE_HEADER is believed only of FHIR_GATEWAY_TRUSTED_"
            "PROXIES: name the proxy there",
            rule="setting-value",
        )


def presented(headers: Mapping[str, str], peer: str, settings: Settings) -> str:
    """The thumbprint of the certificate that came with a request, "" for none to believe."""
    name = settings.client_certificate_header
    if not name or not is_trusted(peer, settings.trusted_proxies):
        return ""
    return thumbprint_of(headers.get(name.lower(), ""))


@lru_cache(maxsize=4_096)
def thumbprint_of(text: str) -> str:
    """The SHA-256 of a certificate in base64url (x5t#S256); "" for what is no certificate."""
    if not text or len(text) > _MOST:
        return ""
    pem = _PEM.search(unquote(text))
    spelled = pem[1] if pem else text.strip().strip(":")
    try:
        der = b64decode(re.sub(r"\s", "", spelled), validate=True)
    except (Base64Error, ValueError):
        return ""
    return _spelled(sha256(der).digest()) if der[:1] == b"\x30" else ""


def read_thumbprint(text: str) -> str:
    """A thumbprint as an operator gives it: base64url, or hexadecimal with or without colons.

    Raises Invalid.
    """
    plain = text.strip()
    if _THUMBPRINT.fullmatch(plain):
        return plain
    try:
        digest = bytes.fromhex(plain.replace(":", ""))
    except ValueError:
        digest = b""
    if len(digest) != sha256().digest_size:
        raise Invalid(
            "A certificate is given as a PEM file, or by its SHA-256 as 64 hexadecimal digits or "
            "43 characters of base64url",
            rule="certificate",
        )
    return _spelled(digest)


def _spelled(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")
