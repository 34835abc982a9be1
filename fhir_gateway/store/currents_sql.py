"""The current versions of many resources by their names, in one statement for every driver."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.history_sql import Seen, stored
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.store import Stored

Name = tuple[str, str]

_COLUMNS = "r.version, r.updated, r.deleted, r.home, r.rid, r.owner, r.enc, r.body"


def currents(seen: Seen, names: Sequence[Name]) -> Steps[dict[Name, Stored]]:
    """What `Reader.read` gives for each of these ("Type", id), deletions too; what was never
    stored or is not visible is left out. Not for types of the journal."""
    if not names:
        return {}
    dialect, kinds = seen.dialect, "int text"
    rule, shown = seen.of("r")
    rows = yield Query(
        f"SELECT r.type, r.id, {_COLUMNS} FROM {dialect.listed(kinds)}"  # noqa: S608 - constants
        f" {dialect.then} locator l ON l.type = k.k0 AND l.id = k.k1"
        f" {dialect.then} resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"
        f" WHERE {rule}",
        (*dialect.columns(kinds, [(type_key(type), id) for type, id in names]), *shown),
    )
    types = {type_key(type): type for type, _ in names}
    return {(types[row[0]], row[1]): stored(types[row[0]], row[1], row[2:]) for row in rows}
