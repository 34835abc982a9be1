"""Tokens of outside OpenID providers: which are trusted, and by which of their keys.

The file of issuers is read once for each process (FHIR_GATEWAY_ISSUERS); keys stand in it or are
fetched from the one address that it names for the issuer (interactions.key_sets).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Invalid, Login
from fhir_gateway.interactions.key_sets import keys_at
from fhir_gateway.interactions.outbound import trusted_certificates
from fhir_gateway.security.certificate import check_certificate_header
from fhir_gateway.security.issuers import Issuer, read_issuers
from fhir_gateway.security.jwt import ALGORITHMS, Unverified, check_signed, has_key, read, refused
from fhir_gateway.security.jwt_access import Said, judge
from fhir_gateway.security.outbound import read_policy
from fhir_gateway.settings import Settings


@lru_cache(maxsize=32)
def issuers_of(file: str) -> Mapping[str, Issuer]:
    """The providers in the settings' file, read once for each process; none without a file.

    Raises Invalid with every fault of the file.
    """
    if not file:
        return {}
    try:
        return read_issuers(Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise Invalid(
            "FHIR_GATEWAY_ISSUERS must be a file of TOML in UTF-8", rule="setting-value"
        ) from None


def check_issuers(settings: Settings) -> None:
    """Raises Invalid for settings by which a token would be believed of the wrong, or of none."""
    check_certificate_header(settings)
    read_policy(settings.outbound_origins, settings.outbound_networks)
    if settings.outbound_ca:
        trusted_certificates(settings.outbound_ca)
    issuers_of(settings.issuers)


async def said_by(gateway: Gateway, token: str) -> Said:
    """What a signed token says, once it is verified and judged.

    Raises Login, and Unavailable when the issuer's keys cannot be had just now.
    """
    unread = read(token, ALGORITHMS)
    issuer = issuers_of(gateway.settings.issuers).get(unread.issuer)
    if issuer is None:
        raise Login(
            "The issuer of this token is not trusted here: list it in FHIR_GATEWAY_ISSUERS",
            rule="client-token",
        )
    if unread.alg not in issuer.algorithms:
        raise refused(f"must be signed by one of {', '.join(issuer.algorithms)}")
    if unread.jku and unread.jku != issuer.jwks_url:
        raise refused("names another address of keys (jku) than its issuer has here")
    check_signed(unread, await _keys(gateway, issuer, unread))
    return judge(unread, issuer, gateway.settings.base_url, gateway.clock.now())


async def _keys(
    gateway: Gateway, issuer: Issuer, unread: Unverified
) -> tuple[Mapping[str, Any], ...]:
    if issuer.keys and (not issuer.jwks_url or has_key(unread, issuer.keys)):
        return issuer.keys
    return tuple(await keys_at(gateway, issuer.jwks_url, lambda keys: has_key(unread, keys)))
