"""From a plan to the searchset: one page, audited before it is told.

Bundle.link self is the search as it was understood, first and next lead through its pages; there
is no previous, since a cursor only goes forward. What lenient handling left out is named in an
OperationOutcome beside the matches (hl7.org/fhir/R4/search.html#errors, bundle.html#searchset).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue
from fhir_gateway.fhir import bundle
from fhir_gateway.fhir.outcome import operation_outcome
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.audit import disclose_search
from fhir_gateway.interactions.domains import Asked, not_met, only_domains, unknown_domains
from fhir_gateway.interactions.paging import holder_of
from fhir_gateway.interactions.people import People, people_of
from fhir_gateway.interactions.people_told import outcome_of
from fhir_gateway.interactions.shape import Shape, cut
from fhir_gateway.search.page import next_link, resume, self_link
from fhir_gateway.search.persons import widened
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.search.results import CURSOR
from fhir_gateway.security.actor import Actor
from fhir_gateway.store.search_explain import parameters
from fhir_gateway.store.store import Page, Reader, Stored


async def answer(
    gateway: Gateway,
    actor: Actor,
    plan: SearchPlan,
    *,
    base: str,
    asked: str = "",
    domains: Asked | None = None,
) -> bytes:
    """The searchset of one page.

    `asked` is what the audit keeps, below the base; empty for what was applied. Of Patients that
    were searched by `domains` other identifiers are left out. Raises Invalid for
    a page link of another search or caller, TooCostly when it would visit too many rows.
    """
    holder = holder_of(gateway, actor)
    async with gateway.store.snapshot(actor.access) as reader:
        people = await people_of(reader, plan.people)
        plan = resume(of_persons(plan, people), holder)
        page = await reader.search(plan)
        said = await said_of(gateway, reader, actor, plan, people, page.matches)
    if domains is not None:
        naming = gateway.extractor.naming
        shown = [only_domains(one, domains.systems, naming) for one in page.matches]
        page = page._replace(matches=shown)
    applied = self_link(base, plan)
    await disclose_search(
        gateway,
        actor,
        asked=asked or applied[len(base) + 1 :],
        bound=plan.patients,
        named=ids_of(people) if said else (),
        matches=page.matches,
        included=page.included,
    )
    following = None
    if page.next is not None:
        following = next_link(base, plan, page.next, holder)
    entries = _explained(page) or hits(plan, page.matches, page.included, base)
    if domains is not None and domains.unknown:
        unknown = not_met(domains.unknown, page.matches, gateway.extractor.naming)
        if unknown:
            entries.append(bundle.Hit("", unknown_domains(unknown), "outcome"))
    entries += said
    return bundle.searchset(
        entries,
        links=links(base, plan, applied, following),
        total=total_of(plan, page),
    )


def of_persons(plan: SearchPlan, people: Iterable[People]) -> SearchPlan:
    """The plan with all records of the persons that it means."""
    return widened(plan, {one.asked: one.ids for one in people}) if plan.people else plan


def ids_of(people: Iterable[People]) -> tuple[str, ...]:
    """The logical ids of all records of some persons, each once."""
    return tuple(dict.fromkeys(id for one in people for id in one.ids))


async def said_of(
    gateway: Gateway,
    reader: Reader,
    actor: Actor,
    plan: SearchPlan,
    people: Sequence[People],
    matches: Sequence[Stored],
) -> list[bundle.Hit]:
    """The entry that names the records and sources of an answer about persons.

    It stands on the first page, where a person has several records or is not sure, and where
    nothing was found: that nothing is known here must not read as "there is nothing".
    """
    if not people or plan.after is not None or plan.only_count or plan.explain:
        return []
    known = [one for one in people if one.records]
    if not known or (matches and all(one.is_plain for one in known)):
        return []
    return [bundle.Hit("", await outcome_of(gateway, reader, actor.access, known), "outcome")]


def _explained(page: Page) -> list[bundle.Hit]:
    """How the search would run, which __explain=true asks for in place of its matches."""
    if page.explanation is None:
        return []
    return [bundle.Hit("", render(parameters(page.explanation)), "outcome")]


def links(base: str, plan: SearchPlan, applied: str, following: str | None) -> list[bundle.Link]:
    """self, and where there are several pages, first and next."""
    if plan.cursor is None:
        here = [("self", applied)]
    else:
        on_this = msgspec.structs.replace(plan, applied=(*plan.applied, (CURSOR, plan.cursor)))
        here = [("self", self_link(base, on_this)), ("first", applied)]
    if following is not None:
        if plan.cursor is None:
            here.append(("first", applied))
        here.append(("next", following))
    return here


def total_of(plan: SearchPlan, page: Page) -> int | None:
    """The matches of the whole search: as counted, or of a search that has one page, as seen."""
    if page.total is not None or plan.after is not None or page.next is not None:
        return page.total
    if page.explanation is not None:
        return None
    return None if ("_total", "none") in plan.applied else len(page.matches)


def hits(
    plan: SearchPlan, matches: Sequence[Stored], included: Sequence[Stored], base: str
) -> list[bundle.Hit]:
    """The entries: matches, what was included, and what was left out of the question."""
    if plan.summary or plan.elements:
        wanted = Shape(plan.summary, plan.elements)
        matches = [cut(stored, wanted) for stored in matches]
        included = [cut(stored, wanted) for stored in included]
    found = [bundle.Hit(f"{base}/{stored.type}/{stored.id}", stored.whole()) for stored in matches]
    found += [
        bundle.Hit(f"{base}/{stored.type}/{stored.id}", stored.whole(), "include")
        for stored in included
    ]
    if plan.dropped:
        found.append(bundle.Hit("", dropped(plan.dropped), "outcome"))
    return found


def dropped(names: Iterable[str]) -> bytes:
    """An OperationOutcome that names the parameters that were not applied."""
    return operation_outcome([
        Issue(
            "not-supported",
            f"Search parameter {name} is not known or not offered and was not applied: the answer "
            "holds more than was asked for",
            name,
            "not-applied",
            "warning",
        )
        for name in dict.fromkeys(names)
    ])  # fmt: skip
