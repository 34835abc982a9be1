"""Who sends over MLLP: an institution by its client certificate, its address, or both.

v2 carries no credential, so the connection has to say whose it is. One TOML file that the operator
keeps (docs/mllp.md). Pure: the text comes in, a frozen value comes out.
"""

from __future__ import annotations

import re
import tomllib
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue

Network = IPv4Network | IPv6Network

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class Sender(NamedTuple):
    """One sender. Of what it lists, all must hold: an address in one of `networks`, and a client
    certificate whose SHA-256 (hex) is one of `certificates`."""

    institution: str
    networks: tuple[Network, ...] = ()
    certificates: frozenset[str] = frozenset()


class Senders(NamedTuple):
    """All senders. A certificate that is listed says more than an address."""

    listed: tuple[Sender, ...] = ()

    def institution(self, address: str, certificate: str = "") -> str | None:
        """The institution that calls from this address with this certificate ("" for none); None
        for nobody's, and where more than one could be meant."""
        here = [sender for sender in self.listed if _is_from(sender, address)]
        bound = {one.institution for one in here if certificate in one.certificates}
        found = bound or {one.institution for one in here if not one.certificates}
        return found.pop() if len(found) == 1 else None


def _is_from(sender: Sender, address: str) -> bool:
    if not sender.networks:
        return True
    try:
        at = ip_address(address)
    except ValueError:
        return False
    plain = getattr(at, "ipv4_mapped", None) or at
    return any(plain in network for network in sender.networks)


def read_senders(text: str) -> Senders:
    """The senders in a TOML file. Raises Invalid with every fault of it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(
            f"The file of MLLP senders is not TOML: {error}", rule="mllp-senders"
        ) from None
    entries = document.get("sender", [])
    if set(document) - {"sender"} or not isinstance(entries, list):
        raise Invalid("The file of MLLP senders has [[sender]] tables only", rule="mllp-senders")
    issues: list[Issue] = []
    senders = tuple(_sender(entry, f"sender[{n}]", issues) for n, entry in enumerate(entries))
    for n, sender in enumerate(senders):
        for other in senders[:n]:
            if _overlap(sender, other):
                _fault(issues, f"sender[{n}]", "could be taken for another institution's above")
    if issues:
        raise Invalid(issues=tuple(issues))
    return Senders(senders)


def _sender(entry: Any, at: str, issues: list[Issue]) -> Sender:
    if not isinstance(entry, dict):
        _fault(issues, at, "must be a table")
        return Sender("")
    for name in sorted(set(entry) - {"institution", "networks", "certificates"}):
        _fault(issues, f"{at}.{name}", "is not known: institution, networks, certificates are")
    institution = entry.get("institution")
    if not isinstance(institution, str) or not institution:
        _fault(issues, f"{at}.institution", "must be the logical id of an Organization")
    texts = _list(entry, "networks", at, issues)
    networks = [_network(text, f"{at}.networks", issues) for text in texts]
    certificates = set()
    for text in _list(entry, "certificates", at, issues):
        plain = text.replace(":", "").lower()
        if not _FINGERPRINT.fullmatch(plain):
            _fault(issues, f"{at}.certificates", "must be SHA-256 fingerprints, 64 hex digits each")
        certificates.add(plain)
    if not entry.get("networks") and not certificates:
        _fault(issues, at, "needs networks or certificates: else everybody could send in its name")
    return Sender(
        str(institution or ""),
        tuple(network for network in networks if network is not None),
        frozenset(certificates),
    )


def _list(entry: dict[str, Any], name: str, at: str, issues: list[Issue]) -> list[str]:
    value = entry.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        _fault(issues, f"{at}.{name}", "must be a list of texts")
        return []
    return value


def _network(text: str, at: str, issues: list[Issue]) -> Network | None:
    try:
        return ip_network(text)
    except ValueError:
        _fault(issues, at, f"{text!r} is no address and no network such as 10.20.0.0/16")
        return None


def _overlap(one: Sender, other: Sender) -> bool:
    """Whether a connection could be either's."""
    if one.institution == other.institution:
        return False
    if one.certificates or other.certificates:
        return bool(one.certificates & other.certificates)
    return any(
        a.version == b.version and a.overlaps(b) for a in one.networks for b in other.networks
    )


def _fault(issues: list[Issue], at: str, what: str) -> None:
    issues.append(Issue("invalid", f"{at} {what}", at, "mllp-senders"))
