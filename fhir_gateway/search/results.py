"""The parameters that shape a result: _count, _total, _summary, _elements and their like.

Implements hl7.org/fhir/R4/search.html, 3.1.1.5 (managing returned resources). _sort and the
includes have modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search import includes
from fhir_gateway.search.draft import Draft, not_offered, unknown
from fhir_gateway.search.params import Parameter, refusal
from fhir_gateway.search.sorting import sort

#: Ours: whether a Patient that a search names stands for all records of the person.
PERSON = "_person"

#: The name under which a next link carries its cursor.
CURSOR = "_cursor"

#: Parameters of the standard that are not search parameters of a type, with the reason.
NOT_OFFERED = {
    "_type": "it belongs to a search of the whole system; this one is of one type",
    "_score": "matches are exact and have no score",
    "_containedType": "contained resources are not searched",
    "_graph": "use _include and _revinclude",
}


def _count(draft: Draft, parameter: Parameter) -> str | None:
    draft.once(parameter)
    text = parameter.text
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise refusal("_count", "must be a whole number", rule="search-count")
    draft.count = min(int(text), draft.page_limit)
    if draft.count == 0:
        draft.only_count = True
    return str(draft.count)


def _total(draft: Draft, parameter: Parameter) -> str | None:
    draft.once(parameter)
    if parameter.text not in ("none", "estimate", "accurate"):
        raise refusal("_total", "must be none, estimate or accurate", rule="search-total")
    draft.total = cast(Literal["none", "estimate", "accurate"], parameter.text)
    return None


def _summary(draft: Draft, parameter: Parameter) -> str | None:
    draft.once(parameter)
    if parameter.text not in ("true", "false", "text", "data", "count"):
        raise refusal("_summary", "must be true, false, text, data or count", rule="search-summary")
    draft.summary = cast(Literal["true", "text", "data", "count", "false"], parameter.text)
    draft.only_count = draft.only_count or parameter.text == "count"
    return None


def _elements(draft: Draft, parameter: Parameter) -> str | None:
    """Elements of the type, by name; a choice by its name means it in every datatype."""
    draft.once(parameter)
    draft.elements = elements(draft.type, parameter.values)
    return None


def elements(type: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The JSON members of a resource type that these element names mean, in order.

    Raises Invalid for an element that the type does not have.
    """
    definition = definitions().types[type]
    found: dict[str, None] = {}
    for name in names:
        element = definition.elements.get(name)
        if element is not None:
            found |= dict.fromkeys(member for member, _ in element.members())
        elif name in definition.members or name == "resourceType":
            found[name] = None
        else:
            raise unknown("_elements: element", name, definition.elements, within="_elements")
    return tuple(found)


def _contained(draft: Draft, parameter: Parameter) -> str | None:
    draft.once(parameter)
    if parameter.text not in ("false", "true", "both"):
        raise refusal("_contained", "must be false, true or both", rule="search-contained")
    if parameter.text != "false":
        raise not_offered("_contained", "contained resources are not searched")
    return None


def _explain(draft: Draft, parameter: Parameter) -> str | None:
    draft.once(parameter)
    if parameter.text not in ("true", "false"):
        raise refusal("__explain", "must be true or false", rule="search-explain")
    draft.explain = parameter.text == "true"
    return None


def _person(draft: Draft, parameter: Parameter) -> str | None:
    """Ours: false keeps a search to the very records that it names."""
    draft.once(parameter)
    if parameter.text not in ("true", "false"):
        raise refusal("_person", "must be true or false", rule="search-person")
    draft.persons = parameter.text == "true"
    return None


def _cursor(draft: Draft, parameter: Parameter) -> str | None:
    draft.once(parameter)
    draft.cursor = parameter.text
    return None


def _passed_on(draft: Draft, parameter: Parameter) -> str | None:
    """Understood by the REST layer, which shapes the answer."""
    draft.once(parameter)
    return None


#: What to do with each result parameter; a handler may say how the self link shows the value.
RESULTS: Mapping[str, Callable[[Draft, Parameter], str | None]] = {
    "_count": _count,
    "_sort": sort,
    "_include": includes.include,
    "_include:iterate": includes.include_iterate,
    "_include:recurse": includes.include_iterate,
    "_revinclude": includes.revinclude,
    "_revinclude:iterate": includes.revinclude_iterate,
    "_revinclude:recurse": includes.revinclude_iterate,
    "_total": _total,
    "_summary": _summary,
    "_elements": _elements,
    "_contained": _contained,
    "__explain": _explain,
    PERSON: _person,
    CURSOR: _cursor,
    "_format": _passed_on,
    "_pretty": _passed_on,
}
