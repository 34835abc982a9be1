"""The lists that a rule set speaks of, as they hold on the day of a question.

A rule set names a list as what it depends on (PlanDefinition.relatedArtifact, type depends-on, a
CodeSystem, with an edition or without one). Without one the edition counts that holds on the day.
A list that is not here, or in a gap between its editions, leaves the question undecided: to go on
with the catalogue alone would be a wider permission. docs/adr/0017-catalogue-editions.md
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.lists import join_of, stored_editions
from fhir_gateway.interactions.shared_reader import shared_reader
from fhir_gateway.recognition.rules import RuleSet
from fhir_gateway.recognition.situation import period
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.store.store import Reader
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue
from fhir_gateway.terminology.catalogue_join import joins_of
from fhir_gateway.terminology.edition import (
    Edition,
    Named,
    as_listed,
    catalogue_of_editions,
    edition_of,
    edition_on,
)


class View(NamedTuple):
    """The catalogue as a rule set sees it, and the stored versions that it was made of."""

    catalogue: Catalogue
    versions: tuple[str, ...] = ()


class Views:
    """The views that were asked for in one epoch of the store; nothing is read before that."""

    def __init__(self) -> None:
        self._editions: Sequence[Edition] | None = None
        self._made: dict[tuple[str, str], View | None] = {}

    async def view(
        self, gateway: Gateway, reader: Reader, rule_set: RuleSet, now: int
    ) -> View | None:
        """What holds at a moment; None when a list that is named does not."""
        base = catalogue_of(gateway)
        zone = gateway.settings.zone
        first, last = _bounds(base.effective, base.until, zone)
        if not rule_set.lists and first <= now <= last:
            return View(base)
        day = datetime.fromtimestamp(now / 1_000_000, UTC).astimezone(ZoneInfo(zone)).date()
        key = (rule_set.digest, day.isoformat())
        if key not in self._made:
            async with shared_reader(gateway, reader) as whole:
                if self._editions is None:
                    self._editions = await stored_editions(whole)
                made = await _view(whole, self._editions, rule_set.lists, key[1], base)
            self._made[key] = made
        return self._made[key]


@lru_cache(maxsize=64)
def _bounds(start: str, end: str, zone: str) -> tuple[int, int]:
    return period(start, end, zone)


async def _view(
    reader: Reader, editions: Sequence[Edition], lists: Sequence[str], day: str, base: Catalogue
) -> View | None:
    own = [one for one in lists if one.partition("|")[0] in SYSTEMS]
    catalogue = _catalogue_on(editions, own, day, base)
    if catalogue is None:
        return None
    named: list[Named] = []
    versions: list[str] = []
    for canonical in lists:
        if canonical in own:
            continue
        edition = _holding(editions, canonical, day)
        if edition is None:
            return None
        joins, version = await join_of(reader, edition)
        named.append(Named(edition, joins))
        versions += [edition.stored, version] if version else [edition.stored]
    return View(as_listed(catalogue, named), tuple(versions))


def _holding(editions: Sequence[Edition], canonical: str, day: str) -> Edition | None:
    url, _, pinned = canonical.partition("|")
    mine = [one for one in editions if one.url == url and one.status != "retired"]
    if pinned:
        return next((one for one in mine if one.edition == pinned), None)
    return edition_on(mine, day)


def _catalogue_on(
    editions: Sequence[Edition], own: Sequence[str], day: str, base: Catalogue
) -> Catalogue | None:
    """The catalogue's edition of a day: the one that is served, or a former one from the store.

    Before the first day of the first edition that is known, that one counts: the catalogue was
    served without days once, and has no gap at its beginning.
    """
    pinned = {edition for one in own if (edition := one.partition("|")[2])}
    if pinned:
        if pinned == {base.edition}:
            return base
        return former_catalogue(editions, pinned.pop(), base) if len(pinned) == 1 else None
    if base.effective <= day:
        return base if not base.until or day <= base.until else None
    for url in SYSTEMS:
        former = edition_on((one for one in editions if one.url == url), day)
        if former is not None and former.edition != base.edition:
            return former_catalogue(editions, former.edition, base)
    return base


def former_catalogue(
    editions: Sequence[Edition], edition: str, base: Catalogue
) -> Catalogue | None:
    """The catalogue as an edition that is kept in the store held it; None when it is not there."""
    mine = [one for one in editions if one.is_catalogue and one.edition == edition]
    return catalogue_of_editions(mine, base) if mine else None


# -- deciding again --------------------------------------------------------------------------------


async def view_then(
    gateway: Gateway, reader: Reader, catalogue: str, lists: Sequence[str]
) -> Catalogue:
    """The catalogue by which a recorded decision was made, as far as the store still has it: by
    the recorded edition, and the recorded versions of lists and their maps."""
    base = catalogue_of(gateway)
    edition = catalogue.partition(" ")[0]
    if edition and edition != base.edition:
        base = former_catalogue(await stored_editions(reader), edition, base) or base
    named: list[Named] = []
    for version in lists:
        type, id, _, number = version.split("/")
        stored = await reader.vread(type, id, int(number))
        if stored is None or stored.deleted:
            continue
        if type == "ConceptMap":
            named[-1:] = [one._replace(joins=joins_of(parse(stored.whole()))) for one in named[-1:]]
        elif (found := edition_of(parse(stored.whole()), version)) is not None:
            named.append(Named(found, {}))
    return as_listed(base, named)
