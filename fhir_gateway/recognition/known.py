"""What every question needs beside the patient's own facts, kept for as long as it is true.

Rule sets change only with the epoch, so they are read once per epoch; a snapshot of another epoch
never sees them (architecture 5.9). So are the rows of the register, as far as they are asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.shared_reader import shared_reader
from fhir_gateway.interactions.sources import Source, sources
from fhir_gateway.recognition.candidates import Register
from fhir_gateway.recognition.lists import View, Views
from fhir_gateway.recognition.rules import CRITERION_SYSTEM, RuleSet, load_rule_set
from fhir_gateway.recognition.rules_resolve import applicable, in_order, resolve
from fhir_gateway.recognition.vocabulary import areas_within, catalogue_of
from fhir_gateway.security.institution import Institution
from fhir_gateway.store.store import Reader, Store, Stored

_log = logging.getLogger(__name__)


class InForce(NamedTuple):
    """A rule set and the version of its PlanDefinition, "PlanDefinition/x/_history/3"; of one that
    was resolved from several levels all of theirs, the nation's first."""

    rule_set: RuleSet
    version: str


class Known(NamedTuple):
    """What holds at one moment in one snapshot. `rules` is None in a gap between rule sets, or
    between the editions of a list that the rule set speaks of.

    `view` is the catalogue as that rule set sees it.
    `register` is what was read of the register in this epoch, for its reader to add to; `stale`
    are those of the sources that are.
    """

    rules: InForce | None
    sources: Sequence[Source]
    institutions: Mapping[str, Institution]
    register: Register
    stale: Sequence[Source]
    view: View


class _Kept(NamedTuple):
    """The active rule sets, what they see of the lists, and the register as of an epoch."""

    epoch: int
    active: list[InForce]
    register: Register
    views: Views
    resolved: dict[tuple[str, ...], InForce]  # by the versions of the levels
    read: Mapping[str, InForce | None]  # by version, also what is not active: a version stays


_PAGE = 100
#: What every stored rule set has in its bytes.
MARKER = CRITERION_SYSTEM.encode()

#: Most pairs of the register that are kept: 500 institutions with all items of the catalogue.
MOST_PAIRS = 100_000

_kept: WeakKeyDictionary[Store, _Kept] = WeakKeyDictionary()
#: The list of sources that was last seen, which is shared for a moment, and the stale ones in it.
_stale: WeakKeyDictionary[Store, tuple[Sequence[Source], Sequence[Source]]] = WeakKeyDictionary()


async def known(gateway: Gateway, reader: Reader, now: int, institution: str = "") -> Known:
    """What holds in this snapshot at this moment, for an institution with rules of its own."""
    kept = _kept.get(gateway.store)
    if kept is None or kept.epoch != reader.epoch:
        async with shared_reader(gateway, reader) as whole:
            read = await _read(whole, kept.read if kept is not None else {})
            active = _active(read)
            kept = _kept[gateway.store] = _Kept(whole.epoch, active, {}, Views(), {}, read)
    elif len(kept.register) > MOST_PAIRS:
        kept.register.clear()
    all_sources = await sources(gateway, reader)
    institutions = await institutions_at(gateway, reader)
    rules = _rules_for(gateway, kept, institutions, institution, now)
    view: View | None = View(catalogue_of(gateway))
    if rules is not None:
        view = await kept.views.view(gateway, reader, rules.rule_set, now)
        if view is None:
            _log.error("rule set %s speaks of a list that is not in force", rules.version)
            rules, view = None, View(catalogue_of(gateway))
    assert view is not None
    return Known(
        rules,
        all_sources,
        institutions,
        kept.register,
        _stale_of(gateway.store, all_sources),
        view,
    )


def _stale_of(store: Store, all_sources: Sequence[Source]) -> Sequence[Source]:
    known = _stale.get(store)
    if known is None or known[0] is not all_sources:
        stale = [source for source in all_sources if source.stale]
        known = _stale[store] = (all_sources, stale)
    return known[1]


def _rules_for(
    gateway: Gateway,
    kept: _Kept,
    institutions: Mapping[str, Institution],
    institution: str,
    now: int,
) -> InForce | None:
    """The rules of all levels for an institution, resolved once per epoch."""
    zone = gateway.settings.zone
    active = kept.active
    if len(active) == 1 and not active[0].rule_set.scope.is_overlay:
        return active[0] if active[0].rule_set.in_force(now, zone) else None
    entry = institutions.get(institution)
    area = entry.area if entry else gateway.settings.area
    levels = levels_in_force(active, areas_within(gateway, area), institution, now, zone)
    if levels is None:
        return None
    key = tuple(one.version for one in levels)
    if key not in kept.resolved:
        kept.resolved[key] = resolved(gateway, levels)
    return kept.resolved[key]


def levels_in_force(
    active: Sequence[InForce], within: Sequence[str], institution: str, now: int, zone: str
) -> list[InForce] | None:
    """The rule sets of all levels that hold, the nation's first; None in a gap."""
    by_id = {id(one.rule_set): one for one in active}
    found = applicable([one.rule_set for one in active], within, institution, now, zone)
    if found is None:
        return None
    base, overlays = found
    return [by_id[id(one)] for one in (base, *overlays)]


def resolved(gateway: Gateway, levels: Sequence[InForce]) -> InForce:
    """One rule set from a base and its overlays, and the versions of all, in their order."""
    base, *overlays = levels
    if not overlays:
        return base
    depth = partial(area_depth, gateway)
    versions = {id(one.rule_set): one.version for one in levels}
    layers = in_order([one.rule_set for one in overlays], depth)
    rule_set = resolve(base.rule_set, layers, depth)
    return InForce(rule_set, " ".join([base.version, *(versions[id(one)] for one in layers)]))


def area_depth(gateway: Gateway, area: str) -> int:
    """How many areas contain an area, itself among them."""
    return len(areas_within(gateway, area))


_UNREADABLE = "unreadable"


async def _read(reader: Reader, before: Mapping[str, InForce | None]) -> dict[str, InForce | None]:
    """Every stored rule set by its version, None where it is not active; versions that were read
    before are not read again, so that publishing one costs nobody the reading of all.

    _UNREADABLE stands for one that is active and cannot be read.
    """
    read: dict[str, InForce | None] = {}
    for stored in await _stored(reader):
        version = version_of(stored)
        if version in before:
            read[version] = before[version]
            continue
        definition = parse(stored.whole())
        if definition.get("status") != "active":
            read[version] = None
            continue
        try:
            read[version] = InForce(load_rule_set(definition), version)
        except GatewayError as error:
            _log.error("rule set %s cannot be read: %s", stored.id, error)
            read[_UNREADABLE] = None
    return read


def _active(read: Mapping[str, InForce | None]) -> list[InForce]:
    """The active rule sets by url and version; none at all when one of them cannot be read.

    To go on with an older one would be a guess: a gap is *cannot-decide*.
    """
    if _UNREADABLE in read:
        return []
    active = [one for one in read.values() if one is not None]
    return sorted(active, key=lambda one: one.rule_set.canonical.split("|"))


async def _stored(reader: Reader) -> list[Stored]:
    """Every PlanDefinition that names a criterion, whatever its status."""
    found: list[Stored] = []
    after = 0
    while True:
        page = await reader.scan("PlanDefinition", until_t=reader.t, after_rid=after, limit=_PAGE)
        found += [one for one in page if MARKER in one.tail]
        if len(page) < _PAGE:
            return found
        after = page[-1].rid


async def stored_rule_sets(reader: Reader) -> list[tuple[Stored, dict[str, Any]]]:
    """Every PlanDefinition that names a criterion, whatever its status, by url and version."""
    found = [(one, parse(one.whole())) for one in await _stored(reader)]
    return sorted(found, key=lambda pair: (pair[1].get("url", ""), pair[1].get("version", "")))


def version_of(stored: Stored) -> str:
    """A stored version as a reference."""
    return f"{stored.type}/{stored.id}/_history/{stored.version}"
