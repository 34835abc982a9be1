"""What the scopes of a caller's token leave of its rights: judged before a request is carried out.

hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html (2.2.0). A request that needs a letter
which no scope grants is refused and told which scope would do (RFC 6750, 3.1). Where a scope is of
one Patient or has a query, the caller's Access is narrowed: rows that it does not let through are
in no answer, no count and no filter (`Access.narrow`). docs/scopes.md, docs/adr/0041
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Forbidden, GatewayError
from fhir_gateway.interactions.people import person_of
from fhir_gateway.interactions.permits import Asked, refuse
from fhir_gateway.interactions.scope_needs import Needs, load_needs
from fhir_gateway.search.context import Context
from fhir_gateway.search.index import Extractor
from fhir_gateway.search.narrow import conditions_of
from fhir_gateway.search.params import parse_name
from fhir_gateway.security import scopes as smart
from fhir_gateway.security.actor import SYSTEM_ACCESS, Access, Actor, Narrow, Way, Ways
from fhir_gateway.security.scopes import Level, Narrowed, Refused, Unknown

#: Interactions that write: their Access is not narrowed, what they change is judged by
#: `interactions.scoped_writes`.
WRITES = frozenset({"create", "update", "patch", "delete"})

#: Parameters by which a request names a Patient.
_PATIENT_NAMES = frozenset({"patient", "subject"})


class InsufficientScope(Forbidden):
    """The token's scopes do not grant this; `scope` names one that would."""

    scope = ""


def insufficient(scope: str) -> InsufficientScope:
    """The refusal that names what is missing."""
    error = InsufficientScope(
        f"The scopes of this token do not grant this; it needs {scope}", rule="insufficient-scope"
    )
    error.scope = scope
    return error


# -- what scopes mean ------------------------------------------------------------------------


def unknown_scopes(gateway: Gateway, texts: Iterable[str]) -> list[Unknown]:
    """The scopes that mean nothing here, each with why: a token is not issued with one of them."""
    given = tuple(dict.fromkeys(texts))
    found = smart.unknown(given)
    context = _context(gateway.extractor, gateway.settings.base_url)
    for text in given:
        scope = smart.parse(text)
        if isinstance(scope, smart.Scope) and scope.query:
            why = _why_not(scope, context)
            if why:
                found.append(Unknown(text, why))
    return found


def _why_not(scope: smart.Scope, context: Context) -> str:
    try:
        conditions_of(scope.type, scope.query, context)
    except GatewayError as error:
        return error.issues[0].diagnostics
    return ""


def _context(extractor: Extractor, base_url: str) -> Context:
    return extractor.context._replace(base_url=base_url)


@lru_cache(maxsize=1_024)
def _kept(extractor: Extractor, base_url: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the scopes that grant something: one with a query that cannot be kept does not."""
    context = _context(extractor, base_url)
    found = []
    for text in texts[: smart.MOST_SCOPES]:
        scope = smart.parse(text)
        if isinstance(scope, smart.Scope) and not (scope.query and _why_not(scope, context)):
            found.append(text)
    return tuple(found)


def scopes_of(gateway: Gateway, actor: Actor) -> tuple[str, ...]:
    """The scopes of a caller that grant something here."""
    return _kept(gateway.extractor, gateway.settings.base_url, actor.scopes or ())


@lru_cache(maxsize=4_096)
def _narrow(
    extractor: Extractor,
    base_url: str,
    texts: tuple[str, ...],
    letters: str,
    levels: frozenset[Level],
) -> Narrow | None:
    """What scopes leave of rows that are judged by these letters; None: all of them."""
    context = _context(extractor, base_url)
    types: dict[str, Ways | None] = {}
    for type in smart.named_types(texts):
        types[type] = _ways(smart.allowed(texts, type, letters, levels), type, context)
    others = types.pop("*")
    if others == () and all(ways == () for ways in types.values()):
        return None
    return Narrow(tuple((t, ways) for t, ways in types.items() if ways is not None), others)


def _ways(grant: smart.Grant, type: str, context: Context) -> Ways | None:
    if isinstance(grant, Refused):
        return None
    if not isinstance(grant, Narrowed):
        return ()
    return tuple(
        tuple(
            Way(conditions_of(type, way.query, context), bound=way.level == "patient")
            for way in member
        )
        for member in grant.ways
    )


# -- one request -----------------------------------------------------------------------------


async def scoped(gateway: Gateway, actor: Actor, asked: Asked) -> Actor:
    """The caller with the Access that its scopes leave for this request.

    Raises, on record, InsufficientScope for what no scope grants, and Forbidden for a Patient that
    the token is not bound to and for an operation that cannot be narrowed as the scopes are.
    """
    if actor.scopes is None or asked.interaction in _FREE:
        return actor
    try:
        return await _scoped(gateway, actor, asked)
    except Forbidden as error:
        await refuse(gateway, actor, asked, error)
        raise


async def _scoped(gateway: Gateway, actor: Actor, asked: Asked) -> Actor:
    needs = _needs(gateway, asked)
    texts, levels = scopes_of(gateway, actor), smart.levels_of(actor)
    narrowed = _narrowed(texts, levels, needs)
    homes: frozenset[int] = frozenset()
    if levels >= {"patient"} and any("patient/" in text for text in texts):
        ids, homes = await own_records(gateway, actor)
        if narrowed and all(_is_bound(grant) for grant in narrowed):
            _check_named(asked, ids)
    if asked.interaction in WRITES:
        return actor
    return _within(actor, narrow_of(gateway, actor, needs.rows, homes))


@lru_cache(maxsize=4_096)
def _within(actor: Actor, narrow: Narrow | None) -> Actor:
    """The caller with that of its Access; made once, since callers ask again and again."""
    return replace(actor, access=replace(actor.access, narrow=narrow))


@lru_cache(maxsize=4_096)
def _narrowed(
    texts: tuple[str, ...], levels: frozenset[Level], needs: Needs
) -> tuple[Narrowed, ...]:
    """What is granted with less than a whole type. Raises Forbidden as `scoped` does."""
    grants = [_grant(texts, type, letters, levels) for type, letters in needs.types]
    narrowed = tuple(grant for grant in grants if isinstance(grant, Narrowed))
    for grant in narrowed:
        _check_filter(grant, needs)
    return narrowed


#: What needs no scope by itself: each entry of a Bundle is judged alone.
_FREE = frozenset({"transaction", "batch"})


def narrow_of(gateway: Gateway, actor: Actor, letters: str, homes: frozenset[int]) -> Narrow | None:
    """What the caller's scopes leave of rows that are judged by these letters."""
    narrow = _narrow(
        gateway.extractor, gateway.settings.base_url, scopes_of(gateway, actor), letters,
        smart.levels_of(actor),
    )  # fmt: skip
    return narrow if narrow is None or not homes else replace(narrow, homes=homes)


async def own_records(gateway: Gateway, actor: Actor) -> tuple[frozenset[str], frozenset[int]]:
    """The logical ids and homes of the person whom a token is bound to."""
    async with gateway.store.snapshot(SYSTEM_ACCESS) as reader:
        person = await person_of(reader, actor.patient)
    homes = frozenset(one.home for one in person.records)
    return frozenset(person.ids), homes


def _grant(
    texts: tuple[str, ...], type: str, letters: str, levels: frozenset[Level]
) -> smart.Grant:
    """What is granted of a type; of "*", what is granted of any type. Raises InsufficientScope."""
    grant = smart.allowed(texts, type, letters, levels)
    if not isinstance(grant, Refused):
        return grant
    if type == "*":
        for name in smart.named_types(texts):
            other = smart.allowed(texts, name, letters, levels)
            if not isinstance(other, Refused):
                return smart.Whole()
    raise insufficient(grant.needs)


def _is_bound(grant: Narrowed) -> bool:
    return any(all(way.level == "patient" for way in member) for member in grant.ways)


def _check_filter(grant: Narrowed, needs: Needs) -> None:
    if needs.filter == "rows" or (needs.filter == "patient" and not grant.queried):
        return
    what = "with a query" if grant.queried else "of one patient"
    raise Forbidden(
        f"This cannot be narrowed to what scopes {what} grant; ask for scopes of whole types",
        rule="scope-query",
    )


def _needs(gateway: Gateway, asked: Asked) -> Needs:
    if asked.operation:
        return _needs_of(gateway.settings.profiles, asked.operation, asked.type)
    letters = smart.INTERACTIONS[asked.interaction]
    if asked.interaction in WRITES and asked.pairs:
        letters += "s"  # a condition is a search
    names = _types_asked(asked) if asked.interaction == "search-system" else (asked.type,)
    if asked.member:
        names = (asked.member,) if asked.member != "*" else _types_asked(asked)
    return Needs(tuple((name or "*", letters) for name in names), letters[-1], "rows")


@lru_cache(maxsize=4_096)
def _needs_of(profiles: str, operation: str, type: str) -> Needs:
    """What an operation needs of a type. Raises InsufficientScope for one that no scope grants."""
    needs = load_needs(Path(profiles) / "access" / "scopes.csv").get(operation)
    if needs is None:
        raise insufficient(f"system/{type or '*'}.cruds for whole types")
    types = tuple((type if t == "{type}" else t, letters) for t, letters in needs.types)
    return needs._replace(types=types)


def _types_asked(asked: Asked) -> tuple[str, ...]:
    found = [type for name, text in asked.pairs if name == "_type" for type in text.split(",")]
    return tuple(found) or ("*",)


def _check_named(asked: Asked, own: frozenset[str]) -> None:
    """Raises Forbidden when a request is about another Patient than the token's, stored or not."""
    named = {asked.id} if asked.type == "Patient" and asked.id else set()
    for name, text in asked.pairs:
        parts = parse_name(name)
        if parts.base not in _PATIENT_NAMES or parts.chain is not None:
            continue
        if parts.modifier not in (None, "Patient"):
            continue
        for value in text.split(","):
            type, slash, id = value.rpartition("/")
            if not slash or type.endswith("Patient"):
                named.add(id)
    if not named <= own:
        raise Forbidden("This token is bound to another patient", rule="launch-patient")


def is_narrowed(access: Access, type: str) -> bool:
    """Whether an Access leaves something out of a type by what stands in the resource."""
    ways = access.narrow.ways(type) if access.narrow is not None else ()
    return ways is None or any(way.conditions for member in ways for way in member)
