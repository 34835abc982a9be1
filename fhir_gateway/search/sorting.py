"""_sort: what each type of parameter is ordered by (hl7.org/fhir/R4/search.html#sort).

Dates by the beginning of their range, downwards by its end; numbers and quantities by value;
strings and uris by text, names of persons too; codes of a closed list by the spelling of the code;
other coded values by their text or display. References have no order of their own: equal ones
stand together. What has no value, or no text, comes last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.keys import key64
from fhir_gateway.search.draft import Draft, not_offered, unknown
from fhir_gateway.search.params import Parameter
from fhir_gateway.search.plan import Sort
from fhir_gateway.search.registry import Searchable, searchables

MAX_SORT_KEYS = 4

#: What a sort by a parameter of this type compares.
_KINDS: Mapping[str, Literal["int", "value", "text"]] = {
    "date": "int",
    "number": "value",
    "quantity": "value",
    "reference": "value",
    "string": "text",
    "uri": "text",
}


def sort(draft: Draft, parameter: Parameter) -> str | None:
    """The handler of _sort. Raises Invalid for an unknown key, NotSupported for one without order,
    TooCostly for too many."""
    draft.once(parameter)
    if len(parameter.values) > MAX_SORT_KEYS:
        raise TooCostly(f"_sort takes {MAX_SORT_KEYS} keys at most", expression="_sort")
    draft.sort = tuple(_key(draft, value) for value in parameter.values)
    return None


def _key(draft: Draft, value: str) -> Sort:
    descending = value.startswith("-")
    code = value[1:] if descending else value
    if code == "_id":
        return Sort(0, "id", descending)
    if code == "_lastUpdated":
        return Sort(0, "updated", descending)
    searchable = searchables(draft.type).get(code)
    if searchable is None:
        raise unknown("_sort: key", code, searchables(draft.type), within="_sort")
    if searchable.refused:
        raise not_offered("_sort", searchable.refused, value=code)
    if searchable.parts != (code,):
        raise not_offered("_sort", f"sort by {' or '.join(searchable.parts)}", value=code)
    if searchable.kind in _KINDS:
        return Sort(searchable.number, _KINDS[searchable.kind], descending)
    if searchable.kind == "token":
        return _token(draft, searchable, descending)
    raise not_offered("_sort", "sort by one of its parts", value=code)


def _token(draft: Draft, searchable: Searchable, descending: bool) -> Sort:
    if searchable.codes:
        secret = draft.context.secret
        ranks = tuple(key64(code, secret) for code in searchable.codes)
        return Sort(searchable.number, "token", descending, ranks)
    if searchable.text_number and "Identifier" not in searchable.datatypes:
        return Sort(searchable.text_number, "text", descending)
    raise not_offered(
        "_sort",
        "its values have no order; sort by a date, a text, a coded value or _id",
        value=searchable.code,
    )
