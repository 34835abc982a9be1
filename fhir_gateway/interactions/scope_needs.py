"""Which scopes an operation needs: the table profiles/access/scopes.csv.

SMART names letters for the interactions of FHIR and leaves operations to the server. Each
operation needs the letters of what it returns or stores, and its rows are judged by letters too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple, cast

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.terminology.table import Table

#: What scopes with less than a whole type mean for an operation: `rows`, it tells of what they let
#: through; `patient`, the same for scopes of one Patient, and those with a query are refused;
#: `whole`, it takes whole types only.
Filter = Literal["rows", "patient", "whole"]
_FILTERS = ("rows", "patient", "whole")

_NEED = re.compile(r"(\{type\}|\*|[A-Za-z]+)\.(c?r?u?d?s?)")


class Needs(NamedTuple):
    """What an operation needs: (type, letters), "{type}" for that of the address and "*" for any;
    the letters by which a row that it tells of is judged; and how far it can be narrowed."""

    types: tuple[tuple[str, str], ...]
    rows: str
    filter: Filter


@lru_cache(maxsize=8)
def load_needs(path: Path) -> Mapping[str, Needs]:
    """The table by operation. Raises Unprocessable with every fault."""
    table = Table(path, ("operation", "needs", "rows", "filter", "says"))
    found: dict[str, Needs] = {}
    for line, cells in table.rows():
        needs = [_NEED.fullmatch(text) for text in cells["needs"].split()]
        types = tuple((one[1], one[2]) for one in needs if one is not None and one[2])
        known = {"{type}", "*"} | definitions().resource_type_set
        if len(types) < len(needs) or any(type not in known for type, _ in types):
            table.fault(line, "needs", "must be Type.letters, with spaces between", rule="scopes")
        if not cells["operation"] or cells["operation"] in found:
            table.fault(line, "operation", "empty, or twice in the table", rule="scopes")
        if cells["filter"] not in _FILTERS:
            table.fault(line, "filter", f"must be one of {', '.join(_FILTERS)}", rule="scopes")
        if cells["rows"] not in ("r", "s", "rs"):
            table.fault(line, "rows", "must be r, s or rs", rule="scopes")
        filter = cast(Filter, cells["filter"])
        found[cells["operation"]] = Needs(types, cells["rows"], filter)
    table.check()
    return found
