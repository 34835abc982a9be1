"""How much of what an institution sends is mapped: results and orders apart, by codes and volume.

What is stored is read piece by piece and coded in memory by today's maps, so the figures tell what
holds now, not what held when each resource came. Nothing is kept but counts and keys of codes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.context import Gateway
from fhir_gateway.errors import TooCostly, Unavailable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.interactions.local_codes_work import check_institution
from fhir_gateway.security.actor import Access
from fhir_gateway.store.store import Stored
from fhir_gateway.terminology.catalogue import item_code
from fhir_gateway.terminology.coder import Coder
from fhir_gateway.terminology.local_map import USES, Use
from fhir_gateway.terminology.unmapped import USE_OF, local_code, unmapped_codes

#: Resources of a type that a statement visits, and that are asked for at a time.
VISIT, PAGE = 5_000, 500

Progress = Callable[[int], None]


@dataclass(slots=True)
class Coverage:
    """Of one use: resources that have an item and that have none, and the codes of both.

    A code that is mapped in one resource and not in another (in urine, say) counts as not mapped.
    """

    mapped: int = 0
    unmapped: int = 0
    _mapped: set[int] = field(default_factory=set)
    _unmapped: set[int] = field(default_factory=set)

    @property
    def codes_mapped(self) -> int:
        """How many codes are mapped wherever they come."""
        return len(self._mapped - self._unmapped)

    @property
    def codes(self) -> int:
        """How many codes come."""
        return len(self._mapped | self._unmapped)

    @property
    def volume(self) -> int:
        """How many resources the maps are for."""
        return self.mapped + self.unmapped

    def add(self, *, known: set[int], unknown: set[int]) -> None:
        """One resource, by the keys of its codes."""
        self._mapped |= known
        self._unmapped |= unknown
        if unknown:
            self.unmapped += 1
        elif known:
            self.mapped += 1


def share(part: int, whole: int) -> float | None:
    """A share to show, None of nothing."""
    return round(part / whole, 4) if whole else None


async def coverage(
    gateway: Gateway,
    institution: str,
    *,
    access: Access,
    since: int | None = None,
    most: int | None = None,
    progress: Progress = lambda resources: None,
) -> dict[Use, Coverage]:
    """The figures of an institution, of what was stored at or after `since` (µs) or of everything.

    Raises NotFound for an institution that is not registered, TooCostly for more than `most`
    resources.
    """
    await check_institution(gateway, institution, access)
    await follow(gateway, institution)
    codes = gateway.local_codes
    if codes is None:
        raise Unavailable("This command knows no local codes", rule="local-codes")
    found: dict[Use, Coverage] = {use: Coverage() for use in USES}
    count = 0
    for type, use in USE_OF.items():
        async for page in _pages(gateway, institution, type, access, since):
            count += len(page)
            if most is not None and count > most:
                raise TooCostly(
                    f"Over {most} resources are to be looked at; ask for a later time, or let the "
                    f"operator run: fhir-gateway codes coverage {institution}",
                    expression="since",
                )
            for stored in page:
                _look(found[use], codes.coder, institution, parse(stored.whole()))
            progress(count)
    return found


async def _pages(
    gateway: Gateway, institution: str, type: str, access: Access, since: int | None
) -> AsyncIterator[list[Stored]]:
    """What the institution owns, in bounded pieces, each on a snapshot of its own."""
    owner, after, until = key64(f"Organization/{institution}"), 0, 0
    own = Access(access.max_class, frozenset({owner}))
    while True:
        if since is None:
            async with gateway.store.snapshot(access) as reader:
                page, after = await reader.owned(type, owner, after_rid=after, visit=VISIT)
            yield page
            if not after:
                return
            continue
        async with gateway.store.snapshot(own) as reader:
            until = until or reader.t
            page = await reader.scan(
                type, until_t=until, after_rid=after, limit=PAGE, updated_from=since
            )
        yield [one for one in page if one.owner == owner]
        if len(page) < PAGE:
            return
        after = page[-1].rid


def _look(found: Coverage, coder: Coder, institution: str, resource: dict[str, Any]) -> None:
    """One resource as it would be coded today; one that no map is for counts nowhere."""
    again, _, unmapped = coder.recode(resource, institution)
    use = USE_OF[resource["resourceType"]]
    if unmapped:
        known, unknown = set[int](), {one.key for one in unmapped_codes(again)}
    else:
        known, unknown = _known(again, use), set[int]()
    found.add(known=known, unknown=unknown)


def _known(resource: dict[str, Any], use: Use) -> set[int]:
    """The codes of what has an item. A panel's items stand in the details, its code beside them."""
    concepts = [resource.get("code"), *resource.get("procedureCode", ())]
    details = resource.get("orderDetail", ())
    if not any(item_code(concept) for concept in (*concepts, *details)):
        return set()
    own = [concept for concept in concepts if concept] or list(details)
    return {local_code(use, concept).key for concept in own}
