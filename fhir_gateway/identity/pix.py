"""Patient/$ihe-pix: the numbers that other domains give to the person behind a number.

IHE PIXm ITI-83 (profiles.ihe.net/ITI/PIXm/ITI-83.html). Identities come from confirmed links alone:
what is only likely belongs to `$match`. The source may be a logical id of this server, under the
FHIR base as its domain, and so may a target.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Conflict, Forbidden, Invalid, Issue, NotFound
from fhir_gateway.identity.person_records import person_of, records_of, replaced
from fhir_gateway.interactions.audit import disclose_search
from fhir_gateway.interactions.domains import Domains, known_domains
from fhir_gateway.interactions.operation_definitions import MANY, Call, Definition
from fhir_gateway.interactions.operation_definitions import Parameter as P
from fhir_gateway.search.params import parts
from fhir_gateway.search.planner import plan_search
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.naming import Naming

_URL = "https://profiles.ihe.net/ITI/PIXm/OperationDefinition/IHE.PIXm.pix"

PIX = Definition(
    code="ihe-pix",
    title="The numbers of one person in other domains",
    says=(
        "All identifiers and Patients of the person who bears an identifier, by confirmed links "
        "alone. The identifier that was asked for is not repeated."
    ),
    types=("Patient",),
    levels=("type",),
    takes=(
        P("sourceIdentifier", "string", "An identifier as system|value, or base|Patient/id", 1),
        P("targetSystem", "uri string", "Only identifiers of this domain; it may repeat", 0, MANY),
    ),
    gives=(
        P("targetIdentifier", "Identifier", "An identifier of the person", 0, MANY),
        P("targetId", "Reference", "A Patient of the person", 0, MANY),
    ),
    guide=(("Patient", "type", _URL),),
)

Pair = tuple[str, str]


class _Asked(NamedTuple):
    """The question: `source` in its preferred form, `targets` empty for all domains."""

    source: Pair
    targets: frozenset[str]
    base: str

    def wants(self, system: str) -> bool:
        """Whether identifiers of a domain were asked for."""
        return not self.targets or system in self.targets


async def ihe_pix(gateway: Gateway, actor: Actor, call: Call) -> dict[str, Any]:
    """The Parameters of ITI-83.

    Raises Invalid (400) for a source that has no domain or one that is not known, Forbidden (403)
    for a target domain that is not known, NotFound (404) for a number that nobody bears, Conflict
    (409) for one that two persons bear.
    """
    domains = await known_domains(gateway)
    base = gateway.settings.base_url or call.base
    asked = _asked(call, domains, base)
    async with gateway.store.snapshot(actor.access) as reader:
        bearers = await _bearers(reader, gateway, asked)
        records = await records_of(reader, await person_of(reader, bearers))
    if not bearers:
        raise _nobody(domains, asked)
    if not records:
        raise Conflict(
            "Several persons bear this identifier; which of them is meant has to be settled first",
            expression="sourceIdentifier",
            rule="identifier-contested",
        )
    _check_targets(domains, asked, records)
    named = list(_told(records, asked, domains.naming))
    shown = [stored for stored in records if _is_wanted(stored, asked, domains.naming)]
    await disclose_search(
        gateway,
        actor,
        asked=_address(asked),
        matches=list(dict.fromkeys([*bearers, *shown])),
        interaction="operation",
    )
    named += [
        {"name": "targetId", "valueReference": {"reference": f"Patient/{stored.id}"}}
        for stored in shown
    ]
    return {"resourceType": "Parameters", **({"parameter": named} if named else {})}


def _asked(call: Call, domains: Domains, base: str) -> _Asked:
    text: str = call.value("sourceIdentifier")
    pieces = parts(text)
    if len(pieces) != 2 or not all(piece.strip() for piece in pieces):
        raise Invalid(
            "sourceIdentifier must be system|value",
            expression="sourceIdentifier",
            rule="pix-source",
        )
    naming = domains.naming
    targets = [naming.preferred(system) for system in call.values("targetSystem")]
    return _Asked(naming.normal(*pieces), frozenset(targets), base)


async def _bearers(reader: Reader, gateway: Gateway, asked: _Asked) -> list[Stored]:
    """The Patients that bear the source identifier, or are it."""
    system, value = asked.source
    if system == asked.base:
        type, _, id = value.partition("/")
        stored = await reader.read("Patient", id) if type == "Patient" and id else None
        return [stored] if stored and not stored.deleted and not replaced(stored) else []
    plan = plan_search(
        "Patient",
        [("identifier", f"{_escape(system)}|{_escape(value)}")],
        secret=gateway.store.index_key,
        zone=gateway.settings.zone,
        page_limit=gateway.settings.page_limit,
        naming=gateway.extractor.naming,
    )
    return [one for one in (await reader.search(plan)).matches if not replaced(one)]


def _nobody(domains: Domains, asked: _Asked) -> NotFound | Invalid:
    system = asked.source[0]
    if system == asked.base or domains.knows(system):
        return NotFound(
            "sourceIdentifier Patient Identifier not found",
            expression="sourceIdentifier",
            rule="identifier-unknown",
        )
    return Invalid(
        issues=(
            Issue(
                "code-invalid",
                "sourceIdentifier Assigning Authority not found",
                "sourceIdentifier",
                "unknown-domain",
            ),
        )
    )


def _check_targets(domains: Domains, asked: _Asked, records: Sequence[Stored]) -> None:
    """Raises Forbidden for target domains that are neither registered nor met in these records."""
    met = {system for system, _, _ in _identifiers(records, domains.naming)}
    issues = tuple(
        Issue("code-invalid", "targetSystem not found", "targetSystem", "unknown-domain")
        for system in sorted(asked.targets)
        if system != asked.base and system not in met and not domains.knows(system)
    )
    if issues:
        raise Forbidden(issues=issues)


def _told(records: Sequence[Stored], asked: _Asked, naming: Naming) -> Iterator[dict[str, Any]]:
    """Each identifier once, without the one that was asked for."""
    told: set[Pair] = {asked.source}
    for system, number, identifier in _identifiers(records, naming):
        if (system, number) not in told and asked.wants(system):
            told.add((system, number))
            yield {"name": "targetIdentifier", "valueIdentifier": identifier}


def _is_wanted(stored: Stored, asked: _Asked, naming: Naming) -> bool:
    """Whether a Patient has a number of a domain that was asked for, or is one by its id."""
    if not asked.targets or asked.base in asked.targets:
        return True
    return any(system in asked.targets for system, _, _ in _identifiers([stored], naming))


def _identifiers(
    records: Collection[Stored], naming: Naming
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(system, number, identifier) of all that have a domain and are in use."""
    for stored in records:
        patient: dict[str, Any] = msgspec.json.decode(stored.whole())
        for identifier in patient.get("identifier", ()):
            system, value = identifier.get("system"), identifier.get("value")
            if system and value and identifier.get("use") != "old":
                yield *naming.normal(system, value), identifier


def _address(asked: _Asked) -> str:
    pairs = [("sourceIdentifier", "|".join(asked.source))]
    pairs += [("targetSystem", system) for system in sorted(asked.targets)]
    return f"Patient/$ihe-pix?{urlencode(pairs)}"


def _escape(text: str) -> str:
    """The escapes of search values (hl7.org/fhir/R4/search.html#escaping)."""
    for character in "\\,$|":
        text = text.replace(character, f"\\{character}")
    return text
