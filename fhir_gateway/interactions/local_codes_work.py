"""The work list of an institution: its codes that no map knows, and what they may mean.

Read from the global index (store/listing_sql.py), code by code: how often each comes is counted
there, and of each some resources are looked at, for its name, specimens, units and methods. What
today's map knows by now, and only waits to be mapped again, is left out. Names nobody's results: an
example is an address.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from fhir_gateway.context import Gateway
from fhir_gateway.errors import NotFound, Unavailable
from fhir_gateway.fhir.keys import key64
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.institutions import institutions_at
from fhir_gateway.interactions.local_codes import map_at, rejections
from fhir_gateway.security.actor import Access
from fhir_gateway.store.index_version import check_current
from fhir_gateway.store.store import Listed, Stored
from fhir_gateway.terminology.local_map import (
    USES,
    LocalMap,
    Stated,
    Use,
    day_of,
    is_standard,
)
from fhir_gateway.terminology.matcher import Matcher, Proposal, load_matcher
from fhir_gateway.terminology.specimen import canonical_specimen
from fhir_gateway.terminology.unit import canonical_unit, compare_units
from fhir_gateway.terminology.unmapped import USE_OF, Local, parameter_of, unmapped_codes

#: Codes of a page, and resources that are looked at of each.
PAGE, EXAMPLES = 50, 40

Progress = Callable[[int], None]


class Line(NamedTuple):
    """One code to decide. `local` has the specimen and the unit where the code needs them to be
    told apart. `times` is how often it came, `first` and `last` are µs; `example` is "Type/id".
    """

    local: Local
    times: int
    first: int
    last: int
    example: str
    specimens: tuple[str, ...]
    units: tuple[str, ...]
    methods: tuple[str, ...]
    proposals: tuple[Proposal, ...]

    @property
    def is_own(self) -> bool:
        """Whether the institution can map it: not a code of a published system."""
        return not is_standard(self.local.system)


@dataclass(slots=True)
class _Code:
    """What is known of a code while its resources are read."""

    count: int = 0
    examples: list[tuple[Stored, Local, str]] = field(default_factory=list)


async def work_list(
    gateway: Gateway,
    institution: str,
    *,
    use: Use | None = None,
    access: Access,
    limit: int | None = None,
    progress: Progress = lambda codes: None,
) -> list[Line]:
    """The codes that nobody has decided yet, those that come most often first.

    Raises NotFound for an institution that is not registered, Unavailable while the index is being
    brought up to date.
    """
    await check_institution(gateway, institution, access)
    codes: dict[tuple[Use, int], _Code] = {}
    for type, its_use in USE_OF.items():
        if use in (None, its_use):
            async for group in _groups(gateway, institution, type, access):
                _gather(codes.setdefault((its_use, group.value), _Code()), group)
                progress(len(codes))
    known = await map_at(gateway, institution)
    lines = [line for code in codes.values() for line in _lines(code, known)]
    lines.sort(key=lambda one: (-one.times, USES.index(one.local.use), one.local))
    matcher = matcher_of(gateway)
    rejected = await rejected_of(gateway, institution, access)
    return [_proposed(line, matcher, rejected) for line in lines[:limit]]


def matcher_of(gateway: Gateway) -> Matcher:
    """The matcher of this gateway, made when it is asked for first."""
    codes = gateway.local_codes
    if codes is None:
        raise Unavailable("This command knows no local codes", rule="local-codes")
    if codes.matcher is None:
        codes.matcher = load_matcher(gateway.settings.terminology, codes.catalogue)
    return codes.matcher


async def check_institution(gateway: Gateway, id: str, access: Access) -> None:
    """Raises NotFound for an institution that is not registered."""
    async with gateway.store.snapshot(access) as reader:
        if id not in await institutions_at(gateway, reader):
            raise NotFound(f"No institution {id} is registered", rule="institution")


async def rejected_of(
    gateway: Gateway, institution: str, access: Access
) -> dict[tuple[str, str, str], set[str]]:
    """Items that a person has rejected, by system, code and name of the local code."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for one in await rejections(gateway, institution, access):
        key = (one.system, one.code, "" if one.code else one.name)
        found.setdefault(key, set()).add(one.item)
    return found


# -- reading -------------------------------------------------------------------------------------


async def _groups(
    gateway: Gateway, institution: str, type: str, access: Access
) -> AsyncIterator[Listed]:
    row, after = (parameter_of(type), key64(f"Organization/{institution}")), None
    while True:
        async with gateway.store.snapshot(access) as reader:
            check_current(reader.index)
            page = await reader.listed(type, row, after=after, limit=PAGE, examples=EXAMPLES)
        for group in page:
            yield group
        if len(page) < PAGE:
            return
        after = page[-1].value


def _gather(code: _Code, group: Listed) -> None:
    code.count += group.rows
    for stored in group.examples.values():
        resource = parse(stored.whole())
        day = day_of(resource)
        for local in unmapped_codes(resource):
            if local.key == group.value:
                code.examples.append((stored, local, day))
                break


def _lines(code: _Code, known: LocalMap | None) -> Iterable[Line]:
    """The lines of a code: one, or one for each specimen and unit that could mean another item."""
    open_ones = [one for one in code.examples if not _is_answered(one, known)]
    if not open_ones:
        return
    by_specimen = len({canonical_specimen(local.specimen) for _, local, _ in open_ones}) > 1
    by_unit = _differ([local.unit for _, local, _ in open_ones])
    groups: dict[tuple[str, str], list[tuple[Stored, Local, str]]] = {}
    for one in open_ones:
        specimen = canonical_specimen(one[1].specimen) if by_specimen else ""
        unit = canonical_unit(one[1].unit) if by_unit else ""
        groups.setdefault((specimen, unit), []).append(one)
    answered = code.count * (len(code.examples) - len(open_ones)) // len(code.examples)
    for examples in groups.values():
        share = max((code.count - answered) * len(examples) // len(open_ones), 1)
        yield _line(examples, share, by_specimen=by_specimen, by_unit=by_unit)


def _is_answered(one: tuple[Stored, Local, str], known: LocalMap | None) -> bool:
    """Whether today's map knows the code, or knows that it means nothing in the catalogue."""
    if known is None:
        return False
    _, local, day = one
    coding = {"system": local.system, "code": local.code, "display": local.name}
    concept = {"coding": [{name: text for name, text in coding.items() if text}]}
    stated = Stated(local.specimen, local.unit, local.method, day)
    return known.find(local.use, concept, stated) is not None


def _differ(units: list[str]) -> bool:
    """Whether two of the units measure different things."""
    known = list({canonical_unit(unit) for unit in units} - {""})
    return any(compare_units(known[0], other) is False for other in known[1:])


def _line(
    examples: list[tuple[Stored, Local, str]], times: int, *, by_specimen: bool, by_unit: bool
) -> Line:
    locals_ = [local for _, local, _ in examples]
    stored = sorted((one for one, _, _ in examples), key=lambda one: one.updated)
    local = Counter(one.name for one in locals_ if one.name).most_common(1)
    name = local[0][0] if local else ""
    specimens, units, methods = (
        _seen(texts)
        for texts in (
            (one.specimen for one in locals_),
            (one.unit for one in locals_),
            (one.method for one in locals_),
        )
    )
    return Line(
        local=locals_[0]._replace(
            name=name,
            specimen=specimens[0] if by_specimen and specimens else "",
            unit=units[0] if by_unit and units else "",
            method="",
        ),
        times=times,
        first=stored[0].updated,
        last=stored[-1].updated,
        example=f"{stored[-1].type}/{stored[-1].id}",
        specimens=specimens,
        units=units,
        methods=methods,
        proposals=(),
    )


def _seen(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that came, the commonest first."""
    return tuple(text for text, _ in Counter(text for text in texts if text).most_common(5))


def _proposed(line: Line, matcher: Matcher, rejected: dict[tuple[str, str, str], set[str]]) -> Line:
    """With the matcher's proposals, by what the code came with most often."""
    local = line.local
    key = (local.system, local.code, "" if local.code else local.name)
    asked = local._replace(
        specimen=next(iter(line.specimens), ""),
        unit=next(iter(line.units), ""),
        method=next(iter(line.methods), ""),
    )
    found = matcher.propose(asked, rejected=rejected.get(key, ()))
    return line._replace(proposals=tuple(found))
