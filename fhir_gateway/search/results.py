"""The parameters that shape a result: _sort, _count, _include, _revinclude, _total, _summary.

Implements hl7.org/fhir/R4/search.html, 3.1.1.5 (managing returned resources).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, cast

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.draft import Draft, not_offered, unknown
from fhir_gateway.search.params import Parameter, refusal
from fhir_gateway.search.plan import Include, Sort
from fhir_gateway.search.registry import Searchable, fixed_home, searchables

#: The name under which a next link carries its cursor.
CURSOR = "_cursor"

MAX_SORT_KEYS = 4
MAX_INCLUDES = 10

#: What a sort by a parameter of this type compares; other types have no order.
_SORT_KINDS: Mapping[str, Literal["int", "value", "text"]] = {
    "date": "int",
    "number": "value",
    "quantity": "value",
    "string": "text",
    "uri": "text",
}

#: Parameters of the standard that are not search parameters of a type, with the reason.
NOT_OFFERED = {
    "_has": "reverse chains come later; search the other type first",
    "_list": "search List first, then by _id",
    "_type": "search one type at a time",
    "_score": "matches are exact and have no score",
    "_contained": "contained resources are not searched",
    "_containedType": "contained resources are not searched",
    "_graph": "use _include and _revinclude",
    "_elements": "whole resources are returned; leave it out",
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


def _sort(draft: Draft, parameter: Parameter) -> str | None:
    if len(parameter.values) > MAX_SORT_KEYS:
        raise TooCostly(f"_sort takes {MAX_SORT_KEYS} keys at most", expression="_sort")
    keys = tuple(_sort_key(draft.type, text) for text in parameter.values)
    draft.once(parameter)
    draft.sort = keys
    return None


def _sort_key(type: str, text: str) -> Sort:
    descending = text.startswith("-")
    code = text[1:] if descending else text
    if code == "_id":
        return Sort(0, "id", descending)
    if code == "_lastUpdated":
        return Sort(0, "updated", descending)
    searchable = searchables(type).get(code)
    if searchable is None:
        raise unknown("Sort key", code, searchables(type))
    if searchable.refused or searchable.kind not in _SORT_KINDS:
        raise not_offered(
            f"_sort={code}", "sort by a date, number, quantity, string, uri, _id or _lastUpdated"
        )
    return Sort(searchable.number, _SORT_KINDS[searchable.kind], descending)


def _include(draft: Draft, parameter: Parameter) -> str | None:
    source, searchable, target = _included(parameter)
    if source != draft.type:
        raise refusal("_include", f"must start from {draft.type}", rule="search-include")
    _add(draft, Include(source, searchable.code, searchable.number, target))
    return None


def _revinclude(draft: Draft, parameter: Parameter) -> str | None:
    source, searchable, target = _included(parameter)
    if target not in (None, draft.type):
        raise refusal("_revinclude", f"must point to {draft.type}", rule="search-include")
    if searchable.targets and draft.type not in searchable.targets:
        raise refusal(
            "_revinclude", f"names a parameter that never points to {draft.type}",
            rule="search-include",
        )  # fmt: skip
    _add(
        draft,
        Include(source, searchable.code, searchable.number, target, True,
                _within(draft.type, searchable)),
    )  # fmt: skip
    return None


def _add(draft: Draft, include: Include) -> None:
    if len(draft.includes) == MAX_INCLUDES:
        raise TooCostly(f"A search takes {MAX_INCLUDES} includes at most", expression="_include")
    draft.includes.append(include)


def _included(parameter: Parameter) -> tuple[str, Searchable, str | None]:
    """Source type, reference parameter and target type of `Source:code[:Target]`."""
    name = parameter.name.base
    pieces = parameter.text.split(":")
    if "*" in pieces:
        raise not_offered(name, "name the parameters one by one instead of *")
    if len(pieces) not in (2, 3) or "" in pieces:
        raise refusal(name, "must be Type:parameter or Type:parameter:Type", rule="search-include")
    for type in (pieces[0], *pieces[2:]):
        if type not in definitions().resource_type_set:
            raise unknown(f"{name}: resource type", type, definitions().resource_types)
    searchable = searchables(pieces[0]).get(pieces[1])
    if searchable is None:
        raise unknown(f"{name}: parameter", pieces[1], searchables(pieces[0]))
    if searchable.refused or searchable.kind != "reference":
        raise refusal(name, "must name a reference parameter", rule="search-include")
    if "Reference" not in searchable.datatypes:
        raise not_offered(f"{name}={pieces[0]}:{pieces[1]}", "canonical urls are not followed")
    return pieces[0], searchable, pieces[2] if len(pieces) == 3 else None


def _within(type: str, searchable: Searchable) -> Literal["homes", "zero", "global"]:
    """Where resources that point to a match of this type are found."""
    if searchable.is_global:
        return "global"
    if fixed_home(searchable.type) == 0:
        return "zero"
    if fixed_home(type) is None:
        return "homes"
    raise TooCostly(
        f"_revinclude={searchable.type}:{searchable.code} would look through the records of all "
        f"patients; search {searchable.type} for one patient instead",
        expression="_revinclude",
        rule="revinclude-across-patients",
    )


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
    if parameter.text in ("true", "text", "data"):
        raise not_offered("_summary", "whole resources are returned; ask for count or leave it out")
    draft.only_count = draft.only_count or parameter.text == "count"
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
    "_sort": _sort,
    "_include": _include,
    "_revinclude": _revinclude,
    "_total": _total,
    "_summary": _summary,
    CURSOR: _cursor,
    "_format": _passed_on,
    "_pretty": _passed_on,
}
