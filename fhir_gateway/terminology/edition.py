"""Editions of lists of items: which holds on a day, and what an edition may not do to its codes.

The catalogue and every official list that an operator imports are CodeSystems, one stored resource
for each edition (`version`), side by side. A code keeps its meaning through all editions of its
list; one that is left out stays as a retired concept. docs/adr/0017-catalogue-editions.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEM_OF, SYSTEMS, Catalogue, Item, Kind
from fhir_gateway.terminology.catalogue_meaning import (
    DECIDING,
    Difference,
    differences,
    other_meaning,
)
from fhir_gateway.terminology.catalogue_resource import (
    EFFECTIVE,
    LIST_KIND,
    extensions,
    items_of,
    items_system,
    title_of,
)
from fhir_gateway.terminology.resource import head
from fhir_gateway.terminology.value_set import value_set

SYSTEM_ROOT = f"{CANONICAL}/CodeSystem/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edition:
    """One edition of one list. `items` stand on it, `retired` did in an earlier one.

    `effective` and `until` are the first and last day on which it holds ("" open). `stored` is the
    version of the CodeSystem it was read from, "CodeSystem/x/_history/1"; "" for none.
    """

    name: str
    kind: Kind
    edition: str
    effective: str
    until: str = ""
    title: str = ""
    publisher: str = ""
    description: str = ""
    notice: str = ""
    status: str = "active"
    experimental: bool = False
    items: Mapping[str, Item] = field(default_factory=dict)
    retired: Mapping[str, Item] = field(default_factory=dict)
    stored: str = ""

    @property
    def url(self) -> str:
        """The canonical url of the list, the same for all its editions."""
        return SYSTEM_ROOT + self.name

    @property
    def id(self) -> str:
        """The logical id of this edition's resources."""
        return f"{self.name}-{self.edition}"

    @property
    def is_catalogue(self) -> bool:
        """Whether it is the project's own catalogue, and no list that somebody imported."""
        return self.url in SYSTEMS

    def has(self, code: str) -> bool:
        """Whether the code stands on it, or did in an earlier edition."""
        return code in self.items or code in self.retired

    def all_items(self) -> Mapping[str, Item]:
        """The items and the retired ones."""
        return {**self.items, **self.retired}


def edition_on(editions: Iterable[Edition], day: str) -> Edition | None:
    """The edition of a list that holds on a day: the latest to begin; None in a gap."""
    begun = [one for one in editions if one.effective <= day]
    latest = max(begun, key=lambda one: (one.effective, one.edition), default=None)
    return latest if latest is not None and (not latest.until or day <= latest.until) else None


# -- as resources ----------------------------------------------------------------------------------


def edition_resources(edition: Edition, beside: Catalogue) -> list[dict[str, Any]]:
    """The CodeSystem and the ValueSet of an edition; `beside` knows groups and regions."""
    described = head(
        type="CodeSystem",
        url=edition.url,
        id=edition.id,
        version=edition.edition,
        title=edition.title,
        status=edition.status,
        experimental=edition.experimental,
        date=edition.effective,
        publisher=edition.publisher,
        description=edition.description,
        copyright=edition.notice,
        language="zh-CN",
        extension=extensions(edition.kind, edition.effective, edition.until),
    )
    items = [*edition.items.values(), *edition.retired.values()]
    system = items_system(described, edition.kind, items, beside)
    return [system, value_set(system)]


def edition_of(resource: Mapping[str, Any], stored: str = "") -> Edition | None:
    """The edition that a CodeSystem holds; None for a CodeSystem that is no list of items."""
    said = {one.get("url"): one for one in resource.get("extension", ())}
    url = str(resource.get("url", ""))
    kind = said.get(LIST_KIND, {}).get("valueCode") or SYSTEMS.get(url)
    if kind not in SYSTEM_OF or not url.startswith(SYSTEM_ROOT):
        return None
    period = said.get(EFFECTIVE, {}).get("valuePeriod", {})
    items = items_of(resource, cast(Kind, kind))
    return Edition(
        name=url.removeprefix(SYSTEM_ROOT),
        kind=cast(Kind, kind),
        edition=resource.get("version", ""),
        effective=period.get("start", resource.get("date", ""))[:10],
        until=period.get("end", "")[:10],
        title=resource.get("title", ""),
        publisher=resource.get("publisher", ""),
        description=resource.get("description", ""),
        notice=resource.get("copyright", ""),
        status=resource.get("status", ""),
        experimental=bool(resource.get("experimental", False)),
        items=MappingProxyType({code: one for code, one in items.items() if not one.retired}),
        retired=MappingProxyType({code: one for code, one in items.items() if one.retired}),
        stored=stored,
    )


def editions_of(catalogue: Catalogue) -> list[Edition]:
    """The two lists of the catalogue as editions."""
    return [
        Edition(
            name=url.removeprefix(SYSTEM_ROOT),
            kind=kind,
            edition=catalogue.edition,
            effective=catalogue.effective,
            until=catalogue.until,
            title=title_of(kind),
            publisher=catalogue.publisher,
            description=catalogue.statement,
            notice="\n\n".join(catalogue.notices),
            status=catalogue.status,
            experimental=catalogue.experimental,
            items={one.code: one for one in catalogue.of(kind)},
            retired={code: one for code, one in catalogue.retired.items() if one.kind == kind},
        )
        for url, kind in SYSTEMS.items()
    ]


def catalogue_of_editions(editions: Sequence[Edition], beside: Catalogue) -> Catalogue:
    """The catalogue as these editions of its lists hold it; the other kind is `beside`'s own."""
    kinds = {one.kind for one in editions}
    items = {code: item for code, item in beside.items.items() if item.kind not in kinds}
    retired = {code: item for code, item in beside.retired.items() if item.kind not in kinds}
    for one in editions:
        items |= one.items
        retired |= one.retired
    first = editions[0]
    return replace(
        beside,
        items=MappingProxyType(items),
        retired=MappingProxyType(retired),
        edition=first.edition,
        effective=first.effective,
        until=first.until,
    )


# -- codes keep their meaning ----------------------------------------------------------------------


class Reused(NamedTuple):
    """A code to which a new edition would give another meaning than `edition` gave it."""

    code: str
    edition: str
    differences: tuple[Difference, ...]


def reused(
    items: Iterable[Item],
    editions: Iterable[Edition],
    effective: str,
    confirmed: Iterable[str] = (),
) -> list[Reused]:
    """Codes that would change their meaning from `effective` on, with what differs.

    Each is compared with the last edition before it and the first after it that have the code:
    what they mean was accepted step by step. `confirmed` are codes of which a person said that
    only the name is another.
    """
    known = sorted(editions, key=lambda one: one.effective)
    before = [one for one in reversed(known) if one.effective <= effective]
    after = [one for one in known if one.effective > effective]
    sure, found = frozenset(confirmed), []
    for item in items:
        for edition in _next_to(item.code, before, after):
            former = edition.items.get(item.code) or edition.retired[item.code]
            other = tuple(
                one
                for one in other_meaning(former, item)
                if one.column != "name_zh" or item.code not in sure
            )
            if other:
                found.append(Reused(item.code, edition.edition, other))
                break
    return found


def _next_to(code: str, *directions: Sequence[Edition]) -> Iterator[Edition]:
    """In each direction the first edition that has a code."""
    for editions in directions:
        nearest = next((one for one in editions if one.has(code)), None)
        if nearest is not None:
            yield nearest


def deciding_differences(served: Edition, edition: Edition) -> Iterator[tuple[str, Difference]]:
    """What decides and is not as the same edition was served with: (code, difference)."""
    for code, item in edition.items.items():
        before = served.items.get(code)
        for one in differences(before, item) if before is not None else ():
            if one.column in DECIDING:
                yield code, one


def with_retired(edition: Edition, former: Iterable[Edition]) -> Edition:
    """The edition with every code of its former ones: those it leaves out are retired by it."""
    retired = dict(edition.retired)
    for one in sorted(former, key=lambda one: one.effective, reverse=True):
        if one.effective > edition.effective:
            continue
        for code, item in one.all_items().items():
            if code not in edition.items and code not in retired:
                retired[code] = replace(
                    item, edition=edition.edition, retired=item.retired or edition.effective
                )
    return replace(edition, retired=MappingProxyType(retired))


# -- what a rule set sees --------------------------------------------------------------------------


class Named(NamedTuple):
    """A list that a rule set speaks of: the edition that holds, and its join to the catalogue."""

    edition: Edition
    joins: Mapping[str, tuple[str, ...]]


def as_listed(catalogue: Catalogue, lists: Sequence[Named]) -> Catalogue:
    """The catalogue as rules see it that speak of these lists.

    An item of a kind for which a list is named is listed where an entry of the list is joined to
    it. The list's window counts before the catalogue's; where several entries are joined to one
    item, the shortest does. Kinds without a list stay as they are.
    """
    if not lists:
        return catalogue
    entries: dict[str, list[Item]] = {}
    sources: dict[str, Named] = {}
    for named in lists:
        for code, targets in named.joins.items():
            entry = named.edition.items.get(code)
            for target in targets if entry is not None else ():
                if sources.setdefault(target, named) is named:
                    entries.setdefault(target, []).append(cast(Item, entry))
    kinds = {named.edition.kind for named in lists}
    items = {
        code: item if item.kind not in kinds else _as_listed(item, entries.get(code, []))
        for code, item in catalogue.items.items()
    }
    said = " ".join(f"{named.edition.name}|{named.edition.edition}" for named in lists)
    return replace(catalogue, items=MappingProxyType(items), edition=f"{catalogue.edition} {said}")


def _as_listed(item: Item, entries: Sequence[Item]) -> Item:
    if not entries:
        return replace(item, listed=False)
    windows = [one for one in entries if one.validity_days]
    if not windows:
        return item
    shortest = min(windows, key=lambda one: (one.validity_days, one.code))
    return replace(
        item,
        validity_days=shortest.validity_days,
        validity_source=shortest.validity_source,
    )
