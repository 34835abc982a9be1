"""Patient identifier domains: which are known here, and Patients cut to some of them.

A domain is the system of an identifier. Known are the systems of profiles/NamingSystem, those of
the registered institutions, passports of any country, and the base of this server for logical ids.
A search by a domain alone (`identifier=urn:oid:1.2|,urn:oid:3.4|`) says also which identifiers are
wanted back (IHE PDQm ITI-78, 2:3.78.4.1.2.3; PIXm ITI-83).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.shape import tagged
from fhir_gateway.search.params import parse_parameter, parts
from fhir_gateway.security.institution import NUMBER_KINDS
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.store import Stored
from fhir_gateway.terminology.naming import Naming

_PASSPORT = "http://hl7.org/fhir/sid/passport-"


class Domains(NamedTuple):
    """The domains that are known. `issuers` begin the systems that an institution may make up."""

    naming: Naming
    systems: frozenset[str]
    issuers: tuple[str, ...]

    def knows(self, system: str) -> bool:
        """Whether numbers of this domain may be met here."""
        if self.naming.find(system) is not None or system.startswith(_PASSPORT):
            return True
        return self.naming.preferred(system) in self.systems or system.startswith(self.issuers)


async def known_domains(gateway: Gateway) -> Domains:
    """The domains as they are registered now."""
    naming = gateway.extractor.naming
    registered = (await institutions(gateway)).values()
    systems = {
        naming.preferred(system)
        for one in registered
        for system in (
            *one.identifier_systems.values(),
            *(one.system(kind) for kind in NUMBER_KINDS),
        )
    }
    issuers = tuple(f"{CANONICAL}/NamingSystem/{one.id}-" for one in registered)
    return Domains(naming, frozenset(systems), issuers)


class Asked(NamedTuple):
    """The domains that a search names without a number, and those of them that are not known."""

    systems: frozenset[str]
    unknown: tuple[str, ...]


async def asked_domains(
    gateway: Gateway, type: str, pairs: Sequence[tuple[str, str]]
) -> Asked | None:
    """The domains of a search for Patients; None when it names none."""
    if type != "Patient":
        return None
    named = [system for name, text in pairs if name == "identifier" for system in _alone(text)]
    if not named:
        return None
    domains = await known_domains(gateway)
    preferred = [domains.naming.preferred(system) for system in named]
    unknown = tuple(dict.fromkeys(one for one in named if not domains.knows(one)))
    return Asked(frozenset(preferred), unknown)


def _alone(text: str) -> list[str]:
    """The systems of a value all of whose alternatives are `system|`."""
    found = []
    for value in parse_parameter("identifier", text).values:
        pieces = parts(value)
        if len(pieces) != 2 or not pieces[0] or pieces[1]:
            return []
        found.append(pieces[0])
    return found


def only_domains(stored: Stored, systems: Collection[str], naming: Naming) -> Stored:
    """A Patient without the identifiers of other domains, tagged as one that is not whole."""
    if stored.type != "Patient":
        return stored
    whole = stored.whole()
    members = msgspec.json.decode(whole, type=dict[str, msgspec.Raw])
    if "identifier" not in members:
        return stored
    identifiers = msgspec.json.decode(members["identifier"], type=list[msgspec.Raw])
    wanted = [one for one in identifiers if _system(one, naming) in systems]
    if len(wanted) == len(identifiers):
        return stored
    members["identifier"] = msgspec.Raw(render(wanted))
    if not wanted:
        del members["identifier"]
    head = len(whole) - len(stored.tail)  # id, version and time stay as they are
    return stored._replace(tail=tagged(members)[head:])


def _system(identifier: msgspec.Raw, naming: Naming) -> str:
    value: Mapping[str, Any] = msgspec.json.decode(identifier)
    return naming.preferred(value.get("system", ""))


def not_met(unknown: Collection[str], shown: Iterable[Stored], naming: Naming) -> list[str]:
    """Those of the domains that none of these Patients has a number of either."""
    met = {
        naming.preferred(identifier.get("system", ""))
        for stored in shown
        for identifier in msgspec.json.decode(stored.whole()).get("identifier", ())
    }
    return [system for system in unknown if naming.preferred(system) not in met]


def unknown_domains(systems: Collection[str]) -> bytes:
    """The OperationOutcome that names domains nobody has registered (ITI-78, case 4)."""
    return operation_outcome([
        Issue(
            "not-found",
            f"targetSystem not found: {system} is no identifier domain that is known here",
            "identifier",
            "unknown-domain",
            "warning",
        )
        for system in systems
    ])  # fmt: skip
