"""What the project's CodeSystems and ValueSets have in common (FHIR R4 codesystem.html).

Always the same bytes for the same input, so that seeding a resource again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Concept = dict[str, Any]

#: (code, FHIR type, description) of properties that are fields of what is served.
Properties = Sequence[tuple[str, str, str]]

#: hl7.org/fhir/R4/codesystem-concept-properties.html, and two of R5 that R4 has no other word for.
STANDARD = "http://hl7.org/fhir/concept-properties#"
VALUE_KEY = {
    "string": "valueString", "code": "valueCode", "integer": "valueInteger",
    "boolean": "valueBoolean", "dateTime": "valueDateTime",
}  # fmt: skip


def head(
    *, type: str, url: str, id: str = "", version: str, title: str, status: str, description: str,
    **others: Any,
) -> dict[str, Any]:  # fmt: skip
    """The metadata of a CodeSystem, ValueSet or ConceptMap; what is "" is left out."""
    name = url.rpartition("/")[2]
    elements = {
        "resourceType": type,
        "id": id or name,
        "url": url,
        "version": version,
        "name": "".join(word.capitalize() for word in name.replace(".", "-").split("-")),
        "title": title,
        "status": status,
        **others,
        "description": description,
    }
    return {key: value for key, value in elements.items() if value != ""}


def code_system(
    head: dict[str, Any],
    concepts: list[Concept],
    properties: Properties = (),
    filters: Iterable[str] = (),
) -> dict[str, Any]:
    """A complete CodeSystem; concepts may hold concepts, which then are grouped by them."""
    resource = head | {
        "caseSensitive": True,
        "valueSet": head["url"].replace("/CodeSystem/", "/ValueSet/"),
    }
    nested = any("concept" in concept for concept in concepts)
    if nested:
        resource["hierarchyMeaning"] = "grouped-by"
    resource |= {"content": "complete", "count": count(concepts)}
    served = [_filter(code) for code in filters]
    if nested:
        served.insert(0, _hierarchy_filter())
    if served:
        resource["filter"] = served
    if properties:
        resource["property"] = [_declared(*one) for one in properties]
    return resource | {"concept": concepts}


def count(concepts: Iterable[Concept]) -> int:
    """How many concepts there are, at all levels."""
    return sum(1 + count(concept.get("concept", ())) for concept in concepts)


def named(code: str, zh: str, en: str) -> Concept:
    """A concept shown in Chinese, with both languages as designations."""
    concept: Concept = {"code": code, "display": zh or en}
    names = (("zh-CN", zh), ("en", en))
    concept["designation"] = [{"language": tag, "value": name} for tag, name in names if name]
    return concept


def values(properties: Properties, source: Any) -> list[dict[str, Any]]:
    """The fields of `source` as properties of a concept; what is empty is left out."""
    return [
        {"code": name, VALUE_KEY[type]: value}
        for name, type, _ in properties
        if (value := getattr(source, name)) != ""
    ]


def _declared(code: str, type: str, text: str) -> dict[str, Any]:
    declared = {"code": code, "description": text, "type": type}
    return declared | ({"uri": STANDARD + code} if code in _STANDARD_CODES else {})


_STANDARD_CODES = frozenset({"inactive", "notSelectable", "status", "deprecationDate", "parent"})


def _filter(code: str) -> dict[str, Any]:
    return {"code": code, "operator": ["=", "in", "not-in"], "value": f"A value of {code}"}


def _hierarchy_filter() -> dict[str, Any]:
    operators = ["is-a", "descendent-of", "is-not-a"]
    return {"code": "concept", "operator": operators, "value": "A code of a group or of an item"}
