"""From the parameters of a request to a SearchPlan: what they mean, and what they may not.

Implements hl7.org/fhir/R4/search.html for one type. A parameter that is not understood is refused
unless the caller asked for lenient handling (3.1.1.3): a filter that is ignored would return
everyone.
"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.errors import Invalid, NotFound, NotSupported, TooCostly
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.search import chains
from fhir_gateway.search.context import Codes, Context
from fhir_gateway.search.draft import IGNORABLE, Draft
from fhir_gateway.search.params import parse_parameter, shown
from fhir_gateway.search.plan import SearchPlan
from fhir_gateway.search.registry import WRITTEN_PER_HOME, Searchable
from fhir_gateway.search.results import CURSOR, RESULTS
from fhir_gateway.search.types import reference
from fhir_gateway.terminology.naming import NO_NAMES, Naming

#: Most parameters of a search, and how many of them may be _has.
MAX_PARAMETERS, MAX_HAS = 50, 4

#: Longer values are understood anew each time, so that the cache stays small.
_CACHED_LENGTH = 200


def plan_search(  # noqa: PLR0913 - what a search means depends on all of them
    type: str,
    pairs: Sequence[tuple[str, str]],
    *,
    secret: bytes,
    base_url: str = "",
    zone: str = "Asia/Shanghai",
    lenient: bool = False,
    page_limit: int = 500,
    codes: Codes | None = None,
    naming: Naming = NO_NAMES,
) -> SearchPlan:
    """The meaning of a search; `applied` of the result is what was understood.

    Raises NotFound for an unknown type, Invalid for an unknown parameter or modifier (unless
    lenient) and for every bad value, NotSupported for what FHIR has and the gateway does not offer,
    TooCostly for too many parameters or alternatives.
    """
    check(type, pairs)
    draft = Draft(type, Context(secret, base_url, zone, codes, naming), page_limit)
    fill(draft, pairs, lenient=lenient)
    return draft.plan()


def check(type: str, pairs: Sequence[tuple[str, str]]) -> None:
    """Raises NotFound for an unknown type, TooCostly for more than any search may ask."""
    if type not in definitions().resource_type_set:
        raise NotFound("FHIR R4 has no such resource type", rule="unknown-type")
    if len(pairs) > MAX_PARAMETERS:
        raise TooCostly(f"A search takes {MAX_PARAMETERS} parameters at most")
    if sum(name.count("_has:") for name, _ in pairs) > MAX_HAS:
        raise TooCostly(
            f"A search takes {MAX_HAS} times _has at most", expression="_has", rule="search-has"
        )


def fill(draft: Draft, pairs: Sequence[tuple[str, str]], *, lenient: bool) -> None:
    """Adds the parameters to the draft, in order; lenient handling drops what is not known."""
    for name, text in pairs:
        try:
            shown_text = _apply(draft, name, text, draft.context)
        except (Invalid, NotSupported) as error:
            if lenient and error.issues[0].rule in IGNORABLE:
                draft.dropped.append(shown(name))
                continue
            raise
        if name != CURSOR:
            draft.applied.append((name, shown_text))


def _apply(draft: Draft, name: str, text: str, context: Context) -> str:
    """Adds one parameter to the draft; returns its value for the self link."""
    handler = RESULTS.get(name)
    if handler is not None:
        return handler(draft, parse_parameter(name, text)) or text
    remembered = len(text) < _CACHED_LENGTH and context.codes is None
    understand = chains.understood if remembered else chains.understand
    meaning = understand(draft.type, name, text, context)
    draft.people.extend(meaning.people)
    if meaning.searchable is None or meaning.named is None or draft.bound:
        draft.conditions.extend((meaning.rank, one) for one in meaning.conditions)
    else:
        _bind(meaning.searchable, draft, meaning.named)
    return text


def _bind(searchable: Searchable, draft: Draft, named: reference.Named) -> None:
    """The homes in which everything stands that can name these resources.

    A type whose only tie to a home is this very element lives in home 0 when it names no Patient.
    """
    patients = tuple(dict.fromkeys(id for type, id in named.local if type == "Patient"))
    others = tuple(dict.fromkeys(pair for pair in named.local if pair[0] != "Patient"))
    per_home = searchable.type in WRITTEN_PER_HOME
    if searchable.binding == "institution":
        if len(named.local) == 1:
            draft.home = institution_home(named.local[0][1])
    elif searchable.binding == "follow":  # what came before the followed stays in home 0
        draft.patients, draft.follows, draft.rest = patients, others, True
    elif searchable.is_patient:
        draft.patients, draft.rest = patients, bool(others)
        draft.by_patient = not others
    elif not others:
        draft.patients, draft.rest = patients, per_home
    if not draft.by_patient:
        draft.conditions.append((searchable.rank, named.condition))
