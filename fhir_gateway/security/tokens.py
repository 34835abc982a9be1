"""Bearer tokens that the gateway makes (RFC 6750): 256 random bits, kept only as a SHA-256.

A random token needs no salt and no slow hash: there is nothing to guess. A static one is an
institution's until it is revoked, an issued one a client's for minutes (docs/auth.md).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from hashlib import sha256
from typing import Literal, NamedTuple

from fhir_gateway.errors import GatewayError
from fhir_gateway.security.actor import Actor

#: So that a token found in a log or a repository says what it opens.
STATIC, ISSUED = "fgw_", "fgt_"


class Known(NamedTuple):
    """What is remembered for a moment of a token that was looked up or verified.

    It holds until `until` (µs) and while `epoch` is the newest that is known. `thumbprint` is of
    the certificate that must come with it, "" for none.
    """

    actor: Actor
    until: int
    epoch: int
    kind: Literal["static", "issued", "signed"]
    thumbprint: str = ""


def new_token(random: bytes, prefix: str = STATIC) -> str:
    """A token made of these random bytes (32 of them). Raises ValueError for fewer than 16."""
    if len(random) < 16:
        raise ValueError("a token needs at least 16 random bytes")
    return prefix + urlsafe_b64encode(random).decode().rstrip("=")


def hash_token(token: str) -> bytes:
    """What is stored of a token."""
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def bearer(header: str | None) -> str | None:
    """The token of an Authorization header; None when there is none or it is of another scheme."""
    if not header or header[:7].lower() != "bearer ":
        return None
    return header[7:].strip() or None


def name_of(hash: bytes) -> str:
    """What a token is called in the audit log: enough to find it by, nothing to use it by."""
    return hash[:8].hex()


def challenge(error: GatewayError) -> bytes:
    """WWW-Authenticate of a 401 (RFC 6750 3): what was wrong, where a token came at all."""
    realm = b'Bearer realm="fhir-gateway"'
    if error.issues[0].rule == NO_TOKEN:
        return realm
    said = error.issues[0].diagnostics
    plain = "".join(one for one in said if " " <= one <= "~" and one not in '"\\')
    return realm + b', error="invalid_token", error_description="%s"' % plain.encode("ascii")


#: The rule of the refusal that no token came.
NO_TOKEN = "credential"  # noqa: S105 - the name of a rule
