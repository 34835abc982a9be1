"""What held at a moment of the past: the commit, the rules, the receiver's area.

A question `as of` a moment is answered from what was stored then (the last commit at or before it)
and by the rules that were in force then. What the store keeps no history of is as it is today: the
tables of the catalogue, areas and grounds, and how fresh each source is; the answer says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Invalid
from fhir_gateway.fhir.wire import instant, parse
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.sources import sources
from fhir_gateway.recognition.known import (
    MARKER,
    InForce,
    Known,
    levels_in_force,
    resolved,
    version_of,
)
from fhir_gateway.recognition.lists import View, Views
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.vocabulary import areas_within, catalogue_of
from fhir_gateway.security.institution import Institution, institution_of
from fhir_gateway.store.history_times import last_batch
from fhir_gateway.store.store import Reader, Stored

_PAGE = 200


async def commit_at(gateway: Gateway, reader: Reader, as_of: int, expression: str) -> int:
    """The number of the last commit at or before a moment (µs).

    Raises Invalid for a moment to come, and for one before the first commit of this store.
    """
    if as_of > gateway.clock.now():
        raise Invalid("asOf lies in the future", expression=expression, rule="as-of")
    t = await reader.steps(lambda _: last_batch(as_of, reader.t))
    if t < 1:
        raise Invalid(
            f"Nothing was stored here before {instant(as_of)}: ask for a later moment",
            expression=expression,
            rule="as-of",
        )
    return t


async def known_then(gateway: Gateway, reader: Reader, as_of: int, receiver: str) -> Known:
    """What held at a moment of the past, for an institution with rules of its own.

    Its register is empty: rows are read as they were then, and kept for nobody.
    """
    institutions = await _institutions_then(gateway, reader, as_of, receiver)
    entry = institutions.get(receiver)
    area = entry.area if entry else gateway.settings.area
    versions = await rule_sets_at(reader, as_of)
    active = list(active_among(versions))
    rules: InForce | None = None
    if not unreadable(versions, active):
        zone = gateway.settings.zone
        within = areas_within(gateway, area)
        levels = levels_in_force(active, within, receiver, as_of, zone)
        rules = resolved(gateway, levels) if levels else None
    view: View | None = View(catalogue_of(gateway))
    if rules is not None:
        view = await Views().view(gateway, reader, rules.rule_set, as_of)
    if view is None:
        rules, view = None, View(catalogue_of(gateway))
    listed = await sources(gateway, reader)
    stale = [source for source in listed if source.stale]
    return Known(rules, listed, institutions, {}, stale, view)


async def _institutions_then(
    gateway: Gateway, reader: Reader, as_of: int, receiver: str
) -> Mapping[str, Institution]:
    """The registry of today, with the receiver as it was registered then."""
    institutions = dict(await institutions_at(gateway, reader))
    if receiver in institutions:
        for stored in await reader.history("Organization", receiver):
            if stored.updated <= as_of:
                then = None if stored.deleted else institution_of(parse(stored.whole()))
                if then is not None:
                    institutions[receiver] = then
                break
    return institutions


async def rule_sets_at(reader: Reader, as_of: int) -> list[Stored]:
    """The rule sets as they were stored at a moment, whatever their status."""
    found: list[Stored] = []
    before: tuple[int, int, int] | None = None
    while True:
        page = await reader.changes(
            type="PlanDefinition", at=(as_of, as_of), before=before, limit=_PAGE
        )
        found += [one.stored for one in page if not one.stored.deleted]
        if len(page) < _PAGE:
            return [one for one in found if MARKER in one.tail]
        before = (page[-1].t, page[-1].n, page[-1].i)


def status_of(stored: Stored) -> str:
    """The status that a stored rule set claims."""
    return str(parse(stored.whole()).get("status"))


def active_among(versions: Iterable[Stored]) -> Iterator[InForce]:
    """Those that are active and can be read."""
    for stored in versions:
        definition = parse(stored.whole())
        if definition.get("status") == "active":
            try:
                yield InForce(load_rule_set(definition), version_of(stored))
            except GatewayError:
                continue  # `unreadable` names it: then nothing is in force


def unreadable(versions: Iterable[Stored], active: Iterable[InForce]) -> list[str]:
    """The logical ids of those that are active and are not among the ones that could be read."""
    read = {one.version for one in active}
    claim = (one for one in versions if status_of(one) == "active")
    return [one.id for one in claim if version_of(one) not in read]
