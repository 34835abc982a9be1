"""Which addresses the gateway may call, so that nobody can make it call for them (SSRF).

What a caller sends or an institution stores is never a reason to connect: an address is called
only when its origin is on a list of the operator, and only when every address that its name
resolves to is public or lies in a network that the operator listed. Whoever connects does so to
the very address that was judged here (RFC 3986 3.2, RFC 6890; interactions.outbound). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import NamedTuple

from fhir_gateway.errors import Forbidden, Invalid

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

#: Longer addresses are nobody's.
MOST_CHARACTERS = 2_048

_PORTS = {"http": 80, "https": 443}
#: Only what every parser reads alike: no user, no backslash, no escape in the host, no fragment.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9.\-]{1,253})"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!$&-;=@-\[\]_a-z~%]*)?"
    r"(?:\?(?P<query>[!$&-;=?-\[\]_a-z~%|]*))?",
    re.IGNORECASE,
)
_LABEL = r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?"
#: The last label is none that some parser takes for a number (url.spec.whatwg.org, host parsing).
_NAME = re.compile(rf"(?:{_LABEL}\.)*(?!0x[0-9a-f]*$)(?![0-9]+$){_LABEL}")

#: Networks whose addresses carry another one: what they lead to cannot be judged by their own.
_CARRIERS = tuple(map(ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))


class Target(NamedTuple):
    """An address that may be called once its name is resolved. `host` has no brackets."""

    scheme: str
    host: str
    port: int
    rest: str  # path and query

    @property
    def origin(self) -> str:
        """Scheme, host and port as they are listed; a port that goes without saying is left out."""
        return _origin(self.scheme, self.host, self.port)

    @property
    def literal(self) -> bool:
        """Whether the host is an address and no name."""
        return _address(self.host) is not None


class Policy(NamedTuple):
    """What the operator listed. `networks` may be called although they are not public."""

    origins: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def allowing(self, urls: Iterable[str]) -> Policy:
        """This policy with the origins of these addresses. Raises Invalid for one that is none."""
        return self._replace(origins=self.origins.union(_read(url).origin for url in urls))


@lru_cache(maxsize=16)
def read_policy(origins: str, networks: str) -> Policy:
    """The policy of two settings, each a list with commas.

    Raises Invalid for an origin or network that cannot be meant, and for plain HTTP to anything
    but this machine.
    """
    listed = [one for one in map(str.strip, origins.split(",")) if one]
    allowed = tuple(_network(one) for one in map(str.strip, networks.split(",")) if one)
    policy = Policy(networks=allowed).allowing(listed)
    for one in listed:
        check_listed(one)
    return policy


def check_listed(url: str) -> None:
    """Raises Invalid for an address that no list should have: plain HTTP leads to this machine
    only, because what is asked carries a credential."""
    target = _read(url)
    if target.scheme == "http" and not _is_this_machine(target.host):
        raise Invalid(
            "An address that the gateway calls is https, unless it is this machine's own",
            rule="outbound-scheme",
        )


def allowed_target(url: str, policy: Policy) -> Target:
    """The address as it may be called.

    Raises Forbidden for one whose origin is not listed, Invalid for one that is not clean.
    """
    target = _read(url)
    if target.origin not in policy.origins:
        raise Forbidden(
            "The gateway calls only servers that its operator has listed", rule="outbound-origin"
        )
    return target


def check_addresses(target: Target, addresses: Iterable[str], policy: Policy) -> str:
    """The address to connect to, of those that the name was resolved to.

    Raises Forbidden when any of them may not be called: a name with one inner and one outer
    address is a trap. Plain HTTP goes to loopback alone, and only when that is listed.
    """
    found = [_address(text) for text in addresses]
    first = found[0] if found else None
    if first is None or not all(one is not None and _usable(one, policy) for one in found):
        raise Forbidden(
            "The server's address is not public and in no network that the operator has listed",
            rule="outbound-address",
        )
    if target.scheme == "http" and not all(one is not None and one.is_loopback for one in found):
        raise Forbidden("Plain HTTP is for this machine only", rule="outbound-scheme")
    return str(first)


def _usable(address: Address, policy: Policy) -> bool:
    for network in policy.networks:
        # a wide network does not bring the metadata service of a cloud (169.254.169.254) with it
        if address in network and (not address.is_link_local or network.is_link_local):
            return True
    if any(address in carrier for carrier in _CARRIERS):
        return False
    return address.is_global and not (
        address.is_multicast or address.is_reserved or address.is_unspecified
    )


def _read(url: str) -> Target:
    match = _URL.fullmatch(url) if len(url) <= MOST_CHARACTERS else None
    if match is None:
        raise _unclean()
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = int(match["port"]) if match["port"] else _PORTS[scheme]
    if host.startswith("["):
        literal = _address(host[1:-1])
        if literal is None or ":" not in host:
            raise _unclean()
        host = str(literal)
    elif _address(host) is None and not _NAME.fullmatch(host):
        raise _unclean()
    if not 0 < port < 65_536:
        raise _unclean()
    query = f"?{match['query']}" if match["query"] is not None else ""
    return Target(scheme, host, port, (match["path"] or "/") + query)


def _unclean() -> Invalid:
    return Invalid(
        "An address must be https://name[:port]/path, without user, fragment or odd numbers",
        rule="outbound-url",
    )


def _origin(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if port == _PORTS[scheme] else f"{scheme}://{shown}:{port}"


def _address(text: str) -> Address | None:
    """An address in its usual spelling; one of IPv4 in the clothes of IPv6 is one of IPv4."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_this_machine(host: str) -> bool:
    address = _address(host)
    return host == "localhost" if address is None else address.is_loopback


def _network(text: str) -> Network:
    try:
        network = ip_network(text)
    except ValueError:
        network = None
    if network is None or network.prefixlen < (8 if network.version == 4 else 7):
        raise Invalid(
            "outbound_networks are networks such as 10.0.0.0/8, none wider than that",
            rule="setting-type",
        )
    return network
