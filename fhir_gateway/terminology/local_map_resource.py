"""Local code maps as ConceptMaps (hl7.org/fhir/R4/conceptmap.html), both ways.

A map says in `useContext` whose codes it is about and which: those of results, or those of orders
and charges. Each element is a local code, each target an item of the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

from fhir_gateway.fhir.wire import render
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEM_OF, Catalogue, Item, Kind
from fhir_gateway.terminology.local_map import USES, LocalMap, Row, Use, comment_of

#: Names of what a row asks for beside the code, as ConceptMap…dependsOn.property.
PROPERTY = f"{CANONICAL}/CodeSystem/mapping-condition"
CONDITIONS = ("specimen", "unit", "method")

#: UsageContext.code: whose codes a map is about (valueReference), and which (valueCodeableConcept).
CONTEXT_SYSTEM = f"{CANONICAL}/CodeSystem/local-map-context"
INSTITUTION, CODES = "institution", "codes"
#: … which: the codes of results, or those of orders and charges.
USE_SYSTEM = f"{CANONICAL}/CodeSystem/local-code-use"

#: Extension on a target: the days on which it holds (valuePeriod).
PERIOD_URL = f"{CANONICAL}/StructureDefinition/mapping-period"

_NO_KIND: tuple[Kind, ...] = ("lab",)  # where a code that means nothing is listed
_ID_LENGTH = 64


#: Maps of one use: that of the table, and that of the decisions of the work list.
_PARTS = ("", "accepted")


def map_id(institution: str, use: Use, part: str = "") -> str:
    """The logical id of an institution's map of a use; a digest where its own id is long."""
    ending = f"-{part}-{use}" if part else f"-{use}"
    id = institution + ending
    if len(id) <= _ID_LENGTH:
        return id
    digest = sha256(institution.encode()).hexdigest()[:16]
    return f"{institution[: _ID_LENGTH - len(ending) - 17]}-{digest}{ending}"


def contexts(institution: str, use: Use) -> list[dict[str, Any]]:
    """The useContext of a map of local codes."""
    return [
        {
            "code": {"system": CONTEXT_SYSTEM, "code": INSTITUTION},
            "valueReference": {"reference": f"Organization/{institution}"},
        },
        {
            "code": {"system": CONTEXT_SYSTEM, "code": CODES},
            "valueCodeableConcept": {"coding": [{"system": USE_SYSTEM, "code": use}]},
        },
    ]


def sourced(institution: str, rows: Sequence[Row], catalogue: Catalogue) -> list[Row]:
    """The rows of a table, each with the canonical of the ConceptMap that it is served in."""
    sources = {use: f"{_url(institution, use)}|{_version(rows, use, catalogue)}" for use in USES}
    return [replace(row, source=sources[row.use]) for row in rows]


def concept_maps_of(local_map: LocalMap, name: str, catalogue: Catalogue) -> list[dict[str, Any]]:
    """The map as ConceptMap resources, one for each use that has rows; `name` the institution's."""
    return [
        _resource(local_map, use, name, catalogue)
        for use in USES
        if any(row.use == use for row in local_map.rows)
    ]


def addresses(institution: str) -> frozenset[str]:
    """The urls that the gateway gives the maps of an institution: of its table, and of what was
    accepted from its work list."""
    root = f"{CANONICAL}/ConceptMap/"
    return frozenset(root + map_id(institution, use, part) for use in USES for part in _PARTS)


def _url(institution: str, use: Use) -> str:
    return f"{CANONICAL}/ConceptMap/{map_id(institution, use)}"


def _version(rows: Iterable[Row], use: Use, catalogue: Catalogue) -> str:
    """The edition of the catalogue and a digest of the rows: another table is another version."""
    digest = sha256(render(groups_of([row for row in rows if row.use == use]))).hexdigest()[:8]
    return f"{catalogue.edition}-{digest}"


def _resource(local_map: LocalMap, use: Use, name: str, catalogue: Catalogue) -> dict[str, Any]:
    id = map_id(local_map.institution, use)
    words = {"result": "results", "order": "orders"}[use]
    resource: dict[str, Any] = {
        "resourceType": "ConceptMap",
        "id": id,
        "url": _url(local_map.institution, use),
        "version": _version(local_map.rows, use, catalogue),
        "name": re.sub("[^A-Za-z0-9]", "_", f"LocalCodes_{id}"),
        "title": f"Local codes of {words}: {name}",
        "status": catalogue.status,
        "experimental": catalogue.experimental,
        "date": catalogue.date,
        "publisher": catalogue.publisher,
        "description": f"What the codes of {words} of {name} mean in the catalogue of items.",
        "copyright": "\n\n".join(catalogue.notices),
        "group": groups_of([row for row in local_map.rows if row.use == use]),
    }
    return {key: value for key, value in resource.items() if value not in ("", [])}


def groups_of(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One group for each pair of source and target system, in the order of the rows.

    An element without a code is for what comes under its name alone.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        kinds: dict[Kind, None] = dict.fromkeys(item.kind for item in row.items)
        for kind in kinds or dict.fromkeys(_NO_KIND):
            targets = [_target(row, item) for item in row.items if item.kind == kind]
            element = {
                "code": row.code,
                "display": row.name,
                "target": targets or [_nothing(row)],
            }
            groups.setdefault((row.system, SYSTEM_OF[kind]), []).append(filled(element))
    return [
        filled({"source": source, "target": target, "element": elements})
        for (source, target), elements in groups.items()
    ]


def _target(row: Row, item: Item) -> dict[str, Any]:
    return filled(
        {
            "extension": period_of(row),
            "code": item.code,
            "display": item.name_zh,
            "equivalence": "equivalent" if len(row.items) == 1 else "narrower",
            "comment": comment_of(row),
            "dependsOn": conditions_of(row),
        }
    )


def _nothing(row: Row) -> dict[str, Any]:
    return filled(
        {
            "extension": period_of(row),
            "equivalence": "unmatched",
            "comment": row.note,
            "dependsOn": conditions_of(row),
        }
    )


def period_of(row: Row) -> list[dict[str, Any]]:
    """The extension that says when a target holds; none when it always does."""
    period = {key: day for key, day in (("start", row.start), ("end", row.end)) if day}
    return [{"url": PERIOD_URL, "valuePeriod": period}] if period else []


def conditions_of(row: Row) -> list[dict[str, str]]:
    """What a target asks for beside the code, as dependsOn."""
    values = (row.specimen, row.unit, row.method)
    return [
        {"property": f"{PROPERTY}#{name}", "value": value}
        for name, value in zip(CONDITIONS, values, strict=True)
        if value
    ]


def filled(element: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty: FHIR has no empty texts and lists."""
    return {key: value for key, value in element.items() if value not in ("", [])}
