"""Decisions about local codes, written into the map that a work list fills.

A person accepts an item for a code, rejects one, or says that the catalogue has nothing for it. Who
and when stands on the target itself, so that it goes wherever the map goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEM_OF, Catalogue, Item
from fhir_gateway.terminology.local_map import Row, Use, comment_of
from fhir_gateway.terminology.local_map_resource import (
    conditions_of,
    contexts,
    filled,
    map_id,
    period_of,
)

#: Extension on a target: the person who decided, when, and what the matcher's score was.
DECISION_URL = f"{CANONICAL}/StructureDefinition/mapping-decision"

Kind = Literal["accept", "reject", "nothing"]
Json = dict[str, Any]

#: The part of a map's id that tells it from the table and from maps a hospital writes itself.
PART = "accepted"

_NAME = re.compile("[^A-Za-z0-9]")


class Decision(NamedTuple):
    """One decision. `row` is the code, what it asks for and its items; a rejection has the item
    that was rejected. `score` is what the matcher gave, None when nothing was proposed."""

    kind: Kind
    row: Row
    score: float | None = None


class By(NamedTuple):
    """Who decided, and when (a FHIR instant)."""

    person: str
    at: str


def decided(
    current: Mapping[str, Any] | None,
    institution: str,
    use: Use,
    decisions: Sequence[Decision],
    *,
    by: By,
    catalogue: Catalogue,
) -> Json:
    """The map after these decisions, as a new version; what stands in `current` stays as it is."""
    resource = _copied(current) if current is not None else _new(institution, use, catalogue)
    for decision in decisions:
        _apply(resource, decision, by)
    resource["group"] = [group for group in resource.get("group", ()) if group["element"]]
    if not resource["group"]:
        del resource["group"]
    version = str(resource.get("version", "0"))
    resource |= {"version": str(int(version) + 1) if version.isdecimal() else f"{version}.1"}
    resource |= {"status": "active", "date": by.at}
    return resource


def _new(institution: str, use: Use, catalogue: Catalogue) -> Json:
    id = map_id(institution, use, PART)
    words = {"result": "results", "order": "orders and charges"}[use]
    return {
        "resourceType": "ConceptMap",
        "id": id,
        "url": f"{CANONICAL}/ConceptMap/{id}",
        "name": _NAME.sub("_", f"AcceptedCodes_{id}"),
        "title": f"Codes of {words} of {institution}, accepted from the work list",
        "status": "active",
        "experimental": catalogue.experimental,
        "useContext": contexts(institution, use),
        "group": [],
    }


def _apply(resource: Json, decision: Decision, by: By) -> None:
    row = decision.row
    for group, element in list(_elements(resource, row)):
        element["target"] = [
            target for target in element["target"] if not _replaced(target, decision)
        ]
        if not element["target"]:
            group["element"].remove(element)
    if decision.kind == "nothing":
        _add(resource, row, SYSTEM_OF["lab"], _target(decision, None, by))
    for item in row.items if decision.kind != "nothing" else ():
        _add(resource, row, item.system, _target(decision, item, by))


def _elements(resource: Json, row: Row) -> Iterator[tuple[Json, Json]]:
    """The elements of a code, with their groups."""
    for group in resource.get("group", ()):
        if group.get("source", "") != row.system:
            continue
        for element in group["element"]:
            same = element.get("code", "") == row.code
            if same and (row.code or element.get("display", "") == row.name):
                yield group, element


def _replaced(target: Json, decision: Decision) -> bool:
    """Whether a target is what the decision is about, and so gives way to it."""
    row, items = decision.row, {item.code for item in decision.row.items}
    same = target.get("dependsOn", []) == conditions_of(row)
    if target.get("equivalence") == "disjoint":
        return target.get("code") in items
    if decision.kind == "reject":
        return same and target.get("code") in items
    return same and [
        one for one in target.get("extension", []) if one["url"] != DECISION_URL
    ] == period_of(row)


def _add(resource: Json, row: Row, system: str, target: Json) -> None:
    groups = resource.setdefault("group", [])
    group = next(
        (
            one
            for one in groups
            if one.get("source", "") == row.system and one.get("target") == system
        ),
        None,
    )
    if group is None:
        group = filled({"source": row.system, "target": system}) | {"element": []}
        groups.append(group)
    for other, element in _elements(resource, row):
        if other is group:
            element["target"].append(target)
            return
    group["element"].append(filled({"code": row.code, "display": row.name}) | {"target": [target]})


def _target(decision: Decision, item: Item | None, by: By) -> Json:
    row = decision.row
    equivalence = "equivalent" if len(row.items) == 1 else "narrower"
    if item is None:
        equivalence = "unmatched"
    elif decision.kind == "reject":
        equivalence = "disjoint"
    return filled(
        {
            "extension": [*period_of(row), _said(decision, by)],
            "code": item.code if item else "",
            "display": item.name_zh if item else "",
            "equivalence": equivalence,
            "comment": comment_of(row),
            "dependsOn": conditions_of(row),
        }
    )


def _said(decision: Decision, by: By) -> Json:
    parts: list[Json] = [
        {"url": "person", "valueString": by.person},
        {"url": "at", "valueDateTime": by.at},
    ]
    if decision.score is not None:
        parts.append({"url": "score", "valueDecimal": decision.score})
    return {"url": DECISION_URL, "extension": parts}


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(member) for name, member in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value
