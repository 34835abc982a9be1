"""Small made-up code systems, value sets and concept maps for the tests of the service."""

from __future__ import annotations

from typing import Any

from fhir_gateway.terminology.service import Terminology, of_resources

ROOT = "http://tests.example.org"
ANIMALS, COLOURS, PARTS, WHOLE = (f"{ROOT}/{name}" for name in ("animals", "colours", "parts", "w"))


def concept(code: str, zh: str = "", en: str = "", *below: dict[str, Any], **said: Any) -> Any:
    """A concept with its names in two languages, properties as keywords."""
    named = [("zh-CN", zh), ("en", en)]
    raw: dict[str, Any] = {"code": code, "display": zh or en or code}
    raw["designation"] = [{"language": tag, "value": text} for tag, text in named if text]
    raw["property"] = [_property(name, value) for name, value in said.items()]
    raw["concept"] = list(below)
    return {name: value for name, value in raw.items() if value != []}


def _property(name: str, value: Any) -> dict[str, Any]:
    element = {bool: "valueBoolean", int: "valueInteger"}.get(type(value), "valueCode")
    return {"code": name, element: value}


def code_system(url: str, *concepts: Any, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "CodeSystem", "id": url.rpartition("/")[2], "url": url,
        "status": "active", "caseSensitive": True, "content": "complete",
        "concept": list(concepts),
    } | more  # fmt: skip


def value_set(url: str, *includes: Any, exclude: Any = (), **more: Any) -> dict[str, Any]:
    compose: dict[str, Any] = {"include": list(includes)}
    if exclude:
        compose["exclude"] = list(exclude)
    head = {"resourceType": "ValueSet", "id": url.rpartition("/")[2], "url": url}
    return head | {"status": "active", "compose": compose} | more


def listed(system: str, *codes: str) -> dict[str, Any]:
    return {"system": system, "concept": [{"code": code} for code in codes]}


def filtered(system: str, property: str, op: str, value: str) -> dict[str, Any]:
    return {"system": system, "filter": [{"property": property, "op": op, "value": value}]}


#: mammal(dog(puppy), cat), bird; unicorn is retired, thing abstract.
ANIMAL_SYSTEM = code_system(
    ANIMALS,
    concept(
        "thing", "生物", "Living thing",
        concept(
            "mammal", "哺乳动物", "Mammal",
            concept("dog", "狗", "Dog", concept("puppy", "小狗", "Puppy", legs=4), legs=4),
            concept("cat", "猫", "Cat", legs=4),
        ),
        concept("bird", "鸟", "Bird", legs=2),
        concept("unicorn", "独角兽", "Unicorn", inactive=True),
        notSelectable=True,
    ),
    version="1.10",
    valueSet=f"{ANIMALS}/all",
    language="zh-CN",
    property=[
        {"code": "legs", "type": "integer"}, {"code": "inactive", "type": "boolean"},
        {"code": "notSelectable", "type": "boolean"},
    ],
)  # fmt: skip
COLOUR_SYSTEM = code_system(
    COLOURS, concept("Red", "红", "Red"), concept("Blue", "蓝", "Blue"), caseSensitive=False
)
PART_SYSTEM = code_system(PARTS, concept("a", en="A"), content="fragment")


def known(*resources: dict[str, Any], today: str = "") -> Terminology:
    """The systems above, and what a test adds."""
    return of_resources([ANIMAL_SYSTEM, COLOUR_SYSTEM, PART_SYSTEM, *resources], today=today)


def codes(expanded: dict[str, Any]) -> list[str]:
    """The codes of an expansion in their order, nested ones after what they stand below."""
    found: list[str] = []
    stack = list(reversed(expanded["expansion"].get("contains", ())))
    while stack:
        one = stack.pop()
        found.append(one["code"])
        stack.extend(reversed(one.get("contains", ())))
    return found
