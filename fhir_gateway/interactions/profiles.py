"""What resources are judged by: the profiles that are stored, terminology, and each institution's
mode. Made once per epoch of the store, which every commit to one of them raises.

Profiles are compiled when the first resource is judged by them, and again only when one of the
stored StructureDefinitions is another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from weakref import WeakKeyDictionary

from msgspec.json import decode

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.fhir.profile import Profile
from fhir_gateway.fhir.profile_base import pieces
from fhir_gateway.fhir.profile_context import Context, Resource, Run
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.profile_tree import is_base
from fhir_gateway.interactions.institutions import institutions
from fhir_gateway.interactions.pace import unhurried
from fhir_gateway.interactions.terminology import terminology
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.store import Store
from fhir_gateway.terminology.applies import Applies, load_applies
from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.looks import REMEMBERED, Looks
from fhir_gateway.terminology.naming import Naming
from fhir_gateway.terminology.naming_files import load_naming
from fhir_gateway.terminology.service import Terminology

_PAGE = 50
_HOUR = 3_600_000_000
_Versions = Mapping[tuple[str, int], Resource]


@dataclass(frozen=True, slots=True)
class Judging:
    """Everything that judging needs, as of an epoch. `modes` are those that institutions have
    chosen, `versions` the StructureDefinitions by id and version."""

    epoch: int
    hour: int
    known: Known
    context: Context
    modes: Mapping[str, str]
    applies: Applies
    versions: _Versions

    def issues(
        self,
        resource: Resource,
        *,
        by: Sequence[str] = (),
        resolve: Callable[[str], Resource | None] | None = None,
        now: int = 0,
        hints: bool = True,
    ) -> list[Issue]:
        """What is wrong with a sound resource by R4 and by these profiles; errors first.

        Profiles that are not known are passed over: `unknown` names them.
        """
        run = self._run(resource, resolve, now, hints=hints)
        for _ in pieces(run, self._profiles(by)):
            pass
        return run.issues()

    async def issues_unhurried(
        self,
        resource: Resource,
        *,
        by: Sequence[str] = (),
        resolve: Callable[[str], Resource | None] | None = None,
        now: int = 0,
    ) -> list[Issue]:
        """The same, hints too, with turns of the event loop between the resources of a Bundle."""
        run = self._run(resource, resolve, now)
        async for _ in unhurried(pieces(run, self._profiles(by))):
            pass
        return run.issues()

    def _run(
        self,
        resource: Resource,
        resolve: Callable[[str], Resource | None] | None,
        now: int,
        *,
        hints: bool = True,
    ) -> Run:
        run = Run(resource, self.context, hints=hints)
        run.now = now
        if resolve is not None:
            run.resolve = resolve
        return run

    def _profiles(self, by: Sequence[str]) -> tuple[Profile, ...]:
        if not by:
            return ()
        found = [self.known.profile(url) for url in by if not is_base(url)]
        return tuple(profile for profile in dict.fromkeys(found) if profile is not None)

    def unknown(self, urls: Sequence[str]) -> list[str]:
        """Those of some profiles that are not known here."""
        return [url for url in urls if not is_base(url) and self.known.find(url) is None]

    def profile(self, url: str) -> Profile | None:
        """A compiled profile."""
        return self.known.profile(url)


def claimed(resource: Resource) -> list[str]:
    """The profiles that a sound resource claims."""
    profiles = resource.get("meta", {}).get("profile", ())
    return [url for url in profiles if isinstance(url, str)]


_kept: WeakKeyDictionary[Store, Judging] = WeakKeyDictionary()
_making: WeakKeyDictionary[Store, asyncio.Lock] = WeakKeyDictionary()


async def profiles(gateway: Gateway, epoch: int = -1) -> Judging:
    """What resources are judged by now, as of this epoch or a later one; without an epoch as of
    now. Not to be asked for while a snapshot is held."""
    if epoch < 0:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            epoch = reader.epoch
    hour = gateway.clock.now() // _HOUR
    kept = _kept.get(gateway.store)
    if kept is not None and kept.epoch >= epoch and kept.hour == hour:
        return kept
    async with _making.setdefault(gateway.store, asyncio.Lock()):
        kept = _kept.get(gateway.store)
        if kept is None or kept.epoch < epoch or kept.hour != hour:
            kept = _kept[gateway.store] = await _made(gateway, kept, hour)
    return kept


async def _made(gateway: Gateway, before: Judging | None, hour: int) -> Judging:
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        epoch = reader.epoch
    versions = await _definitions(gateway, before.versions if before is not None else {})
    same = before is not None and before.versions.keys() == versions.keys()
    known = before.known if before is not None and same else Known(versions.values())
    registry = await institutions(gateway)
    settings = gateway.settings
    return Judging(
        epoch=epoch,
        hour=hour,
        known=known,
        context=_context(
            await terminology(gateway), known, settings.terminology, settings.profiles
        ),
        modes={id: one.validation for id, one in registry.items() if one.validation},
        applies=load_applies(settings.profiles),
        versions=versions,
    )


async def _definitions(gateway: Gateway, before: _Versions) -> _Versions:
    """The current StructureDefinitions; those of known versions are not read again."""
    found: dict[tuple[str, int], Resource] = {}
    after = 0
    while True:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.scan(
                "StructureDefinition", until_t=reader.t, after_rid=after, limit=_PAGE
            )
        for stored in page:
            key = (stored.id, stored.version)
            found[key] = before[key] if key in before else decode(stored.whole())
        if len(page) < _PAGE:
            return found
        after = page[-1].rid


def _context(terms: Terminology, known: Known, folder: str, naming: str) -> Context:
    looks = Looks(terms, load_catalogue_once(folder), load_naming_once(naming))
    return Context(
        member=_remembering(terms),
        systems=_systems(terms),
        coding=looks.coding,
        quantity=looks.quantity,
        identifier=looks.identifier,
        whole=looks.whole,
        known=known,
    )


load_catalogue_once = lru_cache(maxsize=4)(load_catalogue)


@lru_cache(maxsize=4)
def load_naming_once(profiles: str) -> Naming:
    """The identifier systems of a profiles folder, read once."""
    return load_naming(profiles)


def _remembering(terms: Terminology) -> Callable[[str, str, str], bool | None]:
    """Membership in value sets, remembered: the same few codes come again and again."""
    answers: dict[tuple[str, str, str], bool | None] = {}

    def member(value_set: str, system: str, code: str) -> bool | None:
        key = (value_set, system, code)
        if key not in answers:
            if len(answers) >= REMEMBERED:
                answers.clear()
            try:
                answers[key] = terms.is_member(value_set, system, code)
            except GatewayError:  # a value set that cannot be used says nothing
                answers[key] = None
        return answers[key]

    return member


def _systems(terms: Terminology) -> Callable[[str], frozenset[str] | None]:
    """The code systems from which a value set takes codes; None when that is not known."""

    @lru_cache(maxsize=1_024)
    def systems(value_set: str) -> frozenset[str] | None:
        found: set[str] = set()
        seen: set[str] = set()
        waiting = [value_set]
        while waiting:
            url = waiting.pop()
            if url in seen:
                continue
            seen.add(url)
            try:
                includes = terms.value_set(url).get("compose", {}).get("include", ())
            except GatewayError:
                return None
            found |= {one["system"] for one in includes if "system" in one}
            waiting += [inner for one in includes for inner in one.get("valueSet", ())]
        return frozenset(found)

    return systems
