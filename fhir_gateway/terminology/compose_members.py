"""Which codes are in a value set (FHIR R4 valueset.html#compositions).

Membership has three answers. None is "cannot be known here", because a system or an imported value
set is not here; it never becomes a yes or a no on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fhir_gateway.errors import NotFound
from fhir_gateway.terminology.compose_budget import Spend
from fhir_gateway.terminology.compose_parts import Composed, Part, key_of
from fhir_gateway.terminology.system import Concept, System


class Member(NamedTuple):
    """A code of a value set, in the system and version that it is taken from."""

    system: str
    version: str
    concept: Concept
    found: System | None

    @property
    def key(self) -> tuple[str, str]:
        """What is the same code."""
        return self.system, self.concept.code


def contains(composed: Composed, system: str, code: str) -> bool | None:
    """Whether a code is in the value set; None when that cannot be known here."""
    inside = _any(member_of(part, system, code) for part in composed.includes)
    if inside is False:
        return False
    outside = _any(member_of(part, system, code) for part in composed.excludes)
    if outside is True:
        return False
    if inside is None or outside is None:
        return None
    return composed.inactive or not _is_inactive(composed, system, code)


def find(composed: Composed, system: str, code: str) -> Member | None:
    """The code as the value set shows it, by the first part that has it."""
    for part in composed.includes:
        if not part.system:
            for other in part.within:
                member = find(other, system, code) if other is not None else None
                if member is not None:
                    return member
        elif part.system == system and member_of(part, system, code) is not False:
            concept = _concept(part, code)
            if concept is not None:
                return Member(system, part.version, concept, part.found)
    return None


def _concept(part: Part, code: str) -> Concept | None:
    if part.listed is not None:
        return part.listed.get(key_of(part.found, code))
    return part.found.find(code) if part.found is not None else None


def _is_inactive(composed: Composed, system: str, code: str) -> bool:
    member = find(composed, system, code)
    return member is not None and member.concept.inactive


def member_of(part: Part, system: str, code: str) -> bool | None:
    """Whether a part has a code."""
    if part.system and part.system != system:
        return False
    own = _own(part, code) if part.system else True
    if own is False:
        return False
    return _all([own, *(_within(one, system, code) for one in part.within)])


def _within(other: Composed | None, system: str, code: str) -> bool | None:
    return None if other is None else contains(other, system, code)


def _own(part: Part, code: str) -> bool | None:
    """What a part says by itself, without the value sets that it imports."""
    if part.listed is not None:
        return key_of(part.found, code) in part.listed
    if part.found is None:
        return None
    concept = part.found.find(code)
    if concept is None:
        return False if part.found.content == "complete" else None
    if part.lacks:
        return None
    return all(test(concept) for test in part.tests)


def _any(answers: Iterator[bool | None]) -> bool | None:
    found: bool | None = False
    for one in answers:
        if one:
            return True
        if one is None:
            found = None
    return found


def _all(answers: Sequence[bool | None]) -> bool | None:
    if False in answers:
        return False
    return None if None in answers else True


def members(composed: Composed, spend: Spend) -> Iterator[Member]:
    """Every code, in the order of the definition, each once.

    `spend` is told how many concepts are looked at and raises TooCostly. Raises NotFound when a
    system or a value set is not here, TooCostly for one that cannot be listed.
    """
    seen: set[tuple[str, str]] = set()
    for part in composed.includes:
        for member in _of_part(part, spend):
            if member.key in seen or (member.concept.inactive and not composed.inactive):
                continue
            if not _is_left_out(composed, member):
                seen.add(member.key)
                yield member


def _is_left_out(composed: Composed, member: Member) -> bool:
    for part in composed.excludes:
        out = member_of(part, member.system, member.concept.code)
        if out is None:
            raise missing(part)
        if out:
            return True
    return False


def _of_part(part: Part, spend: Spend) -> Iterator[Member]:
    if None in part.within:
        raise missing(part)
    if not part.system:
        first, *others = part.within or (None,)
        if first is not None:
            for member in members(first, spend):
                if _in_all(others, member, part):
                    yield member
        return
    for concept in _concepts(part, spend):
        member = Member(part.system, part.version, concept, part.found)
        if _in_all(part.within, member, part):
            yield member


def _in_all(others: Sequence[Composed | None], member: Member, part: Part) -> bool:
    if not others:
        return True
    inside = _all([_within(other, member.system, member.concept.code) for other in others])
    if inside is None:
        raise missing(part)
    return inside


def missing(part: Part) -> NotFound:
    """What to say of a part whose codes cannot be told."""
    if part.lacks:
        return NotFound(
            f"{part.lacks}, so its codes cannot be told",
            expression=part.expression,
            rule="vs-unknown" if not part.system else "cs-unknown",
        )
    for number, other in enumerate(part.within):
        if other is None:
            return NotFound(
                f"The value set {part.imports[number][:300]} is not here, so the codes of this one "
                "cannot be told",
                expression=f"{part.expression}.valueSet[{number}]",
                rule="vs-unknown",
            )
    version = f" in version {part.version}" if part.version else ""
    return NotFound(
        f"The code system {part.system[:300]}{version} is not here or not complete, so the codes "
        "of this value set cannot be told",
        expression=part.expression,
        rule="cs-unknown",
    )


def _concepts(part: Part, spend: Spend) -> Iterator[Concept]:
    if part.listed is not None:
        spend(len(part.listed))
        yield from part.listed.values()
        return
    if part.found is None or part.found.content == "not-present" or part.lacks:
        raise missing(part)
    listing = part.found.concepts()
    if listing is None:
        yield from _of_grammar(part, spend)
        return
    price = max(1, len(part.tests))
    for concept in listing:
        spend(price)
        if all(test(concept) for test in part.tests):
            yield concept


def _of_grammar(part: Part, spend: Spend) -> Iterator[Concept]:
    """A system that cannot be listed gives codes only where a filter names them."""
    found = part.found
    named = [
        one.value.split(",") if one.op == "in" else [one.value]
        for one in part.filters
        if one.property in ("concept", "code") and one.op in ("=", "in")
    ]
    if found is None or not named:
        spend(-1)
        return
    for code in named[0]:
        concept = found.find(code.strip())
        if concept is not None and all(test(concept) for test in part.tests):
            spend(1)
            yield concept


def is_open(composed: Composed) -> bool:
    """Whether there may be codes that nobody can name here: a system of which only a part is here
    is taken from by more than a list."""
    stack = [composed]
    while stack:
        for part in stack.pop().includes:
            if part.found is not None and part.listed is None and part.found.content != "complete":
                return True
            stack.extend(one for one in part.within if one is not None)
    return False
