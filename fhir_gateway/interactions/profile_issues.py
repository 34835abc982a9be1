"""What an institution's resources break, counted by profile, rule and element.

No patient data is in it. Nothing is counted when resources are written: the table is made of what
is stored, by the profiles as they are now. So it survives everything, needs no counter, and says
for every institution, in whatever mode, what would be refused if its mode were to refuse
(docs/validation.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.profile_context import Resource
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.pace import unhurried
from fhir_gateway.interactions.profiles import Judging, claimed, profiles
from fhir_gateway.interactions.provenance import is_made_here
from fhir_gateway.interactions.references import JOURNAL_TYPES
from fhir_gateway.security.actor import SYSTEM_ACCESS

#: Versions that are read at a time, and looked at for each resource that is to be judged.
_PAGE, _LOOKED_AT = 200, 50

_INDEX = re.compile(r"\[\d+\]")
BASE = "FHIR R4"


class Line(NamedTuple):
    """One rule of a profile at one element: how often it is broken, in how many resources."""

    profile: str
    type: str
    severity: str
    rule: str
    path: str
    issues: int
    resources: int


_Key = tuple[str, str, str, str, str]


class Table(NamedTuple):
    """The lines, most frequent first; how many resources were judged, and how many of them would
    be refused."""

    judged: int
    refused: int
    lines: list[Line]


async def issue_table(
    gateway: Gateway, institution: str, *, type: str | None = None, last: int = 2_000
) -> Table:
    """The table of an institution's newest resources, of one type or of all."""
    judging = await profiles(gateway)
    issues, resources = Counter[_Key](), Counter[_Key]()
    judged = refused = 0
    async for resource in _newest(gateway, institution, type, last):
        judged += 1
        found = _by_profile(judging, resource, gateway.clock.now())
        keys = [_key(profile, resource, issue) for profile, issue in found]
        issues.update(keys)
        resources.update(set(keys))
        refused += any(issue.severity == "error" for _, issue in found)
    lines = [Line(*key, number, resources[key]) for key, number in issues.items()]
    lines.sort(key=lambda line: (-line.resources, line))
    return Table(judged, refused, lines)


def _key(profile: str, resource: Resource, issue: Issue) -> _Key:
    path = _INDEX.sub("", issue.expression or "")
    return profile, str(resource["resourceType"]), issue.severity, issue.rule or issue.code, path


def _by_profile(judging: Judging, resource: Resource, now: int) -> list[tuple[str, Issue]]:
    """Every issue with the profile that it is of; R4's own are not told again by a profile."""
    own = judging.issues(resource, now=now, hints=False)
    found = [(BASE, issue) for issue in own]
    for url in dict.fromkeys([*claimed(resource), *judging.applies.of(resource)]):
        by = judging.issues(resource, by=[url], now=now, hints=False)
        found += [(url, issue) for issue in by if issue not in own]
    return found


async def _newest(
    gateway: Gateway, institution: str, type: str | None, last: int
) -> AsyncIterator[Resource]:
    """The newest resources of an owner as they stand, the newest first."""
    owner, seen, judged, looked = key64(f"Organization/{institution}"), set[str](), 0, 0
    before: tuple[int, int, int] | None = None
    while judged < last and looked < last * _LOOKED_AT:
        async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
            page = await reader.changes(type=type, before=before, limit=_PAGE)
        looked += len(page)
        async for change in unhurried(page):
            stored = change.stored
            name = f"{stored.type}/{stored.id}"
            if stored.owner != owner or stored.type in JOURNAL_TYPES or name in seen:
                continue
            if is_made_here(stored):
                continue
            seen.add(name)
            if not stored.deleted and judged < last:
                judged += 1
                yield parse(stored.whole())
        if len(page) < _PAGE:
            return
        before = (page[-1].t, page[-1].n, page[-1].i)
