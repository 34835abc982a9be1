"""Oracle, rows and SQL agree: three ways to the same ids for components, units, sounds and links.

The oracle below reads whole resources with the standard library alone, as `search_matcher` does.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from search_loader import Loader
from search_rows import World

Resource = dict[str, Any]

UCUM = "http://unitsofmeasure.org"
#: Grams in a cubic metre, and apart from them moles and things that cannot be converted.
UNITS = {"g/L": ("mass", 1000), "mg/dL": ("mass", 10), "mmol/L": ("mol", 1),
         "umol/L": ("mol", Fraction(1, 1000)), "Cel": ("Cel", 1)}  # fmt: skip
SYSTEMS, CODES = ["http://loinc.org", "http://local.example"], ["a", "b"]

coding = st.fixed_dictionaries(
    {"code": st.sampled_from(CODES)},
    optional={"system": st.sampled_from(SYSTEMS), "display": st.sampled_from(["Hb", "血红蛋白"])},
)
concept = st.fixed_dictionaries(
    {"coding": st.lists(coding, min_size=1, max_size=2)},
    optional={"text": st.sampled_from(["Hb A", "葡萄糖"])},
)
quantity = st.builds(
    lambda tenths, unit: {"value": tenths / 10, "system": UCUM, "code": unit},
    st.sampled_from([5, 54, 540, 5400]),
    st.sampled_from(list(UNITS)),
)
component = st.one_of(
    st.fixed_dictionaries({"code": concept, "valueQuantity": quantity}),
    st.fixed_dictionaries({"code": concept, "valueCodeableConcept": concept}),
)
PATIENTS = {"p0": "张伟", "p1": "单雄信"}
SOUNDS = {"zhangwei": "p0", "zw": "p0", "wei": "p0", "张": "p0", "shan": "p1", "dxx": "p1"}
observation = st.fixed_dictionaries(
    {
        "resourceType": st.just("Observation"),
        "status": st.just("final"),
        "code": concept,
        "subject": st.sampled_from([{"reference": f"Patient/{id}"} for id in PATIENTS]),
    },
    optional={
        "valueQuantity": quantity,
        "component": st.lists(component, min_size=2, max_size=4),
        "hasMember": st.just([{"reference": "Observation/o0"}]),
    },
)


def has_code(value: Resource, asked: str) -> bool:
    system, bar, code = asked.rpartition("|")
    return any(
        one["code"] == code and (not bar or one.get("system", "") == system)
        for one in value.get("coding", ())
    )


def has_text(value: Resource, asked: str) -> bool:
    texts = [value.get("text", ""), *(one.get("display", "") for one in value.get("coding", ()))]
    return any(text.casefold().startswith(asked.casefold()) for text in texts)


def has_value(value: Resource | None, asked: str) -> bool:
    """gt, le or ge of a number, or the number to its precision, in a unit or in none."""
    if value is None:
        return False
    number, _, unit = asked.partition("||")
    prefix = number[:2] if number[0].isalpha() else ""
    limit, own = Fraction(number.removeprefix(prefix)), Fraction(str(value["value"]))
    half = Fraction(5, 10 ** (len(number.partition(".")[2]) + 1))
    if unit:
        (kind, factor), (mine, times) = UNITS[unit], UNITS[value["code"]]
        if kind != mine:
            return False
        own, limit, half = own * times, limit * factor, half * factor
    return {
        "gt": own > limit,
        "le": own <= limit,
        "ge": own >= limit,
        "": limit - half <= own < limit + half,
    }[prefix]


def parts(*, own: bool, inner: bool) -> Callable[[Resource], list[Resource]]:
    def find(resource: Resource) -> list[Resource]:
        return ([resource] if own else []) + (resource.get("component", []) if inner else [])

    return find


ROOT, INNER, ALL = (
    parts(own=True, inner=False),
    parts(own=False, inner=True),
    parts(own=True, inner=True),
)


def pair(items: Callable[[Resource], list[Resource]], value: str, resource: Resource) -> bool:
    first, _, second = value.partition("$")
    return any(
        has_code(item["code"], first)
        and (
            has_value(item.get("valueQuantity"), second)
            if second[-1] not in "ab" or "||" in second
            else has_code(item.get("valueCodeableConcept", {}), second)
        )
        for item in items(resource)
    )


def pointing(resource: Resource, world: list[Resource]) -> list[Resource]:
    me = f"Observation/{resource['id']}"
    return [
        one for one in world if any(m["reference"] == me for m in one.get("hasMember", ()))
    ]  # fmt: skip


Test = Callable[[Resource, str, list[Resource]], bool]
TESTS: dict[str, Test] = {
    "code:text": lambda r, v, w: has_text(r["code"], v),
    "combo-code": lambda r, v, w: any(has_code(item["code"], v) for item in ALL(r)),
    "combo-code:not": lambda r, v, w: not any(has_code(item["code"], v) for item in ALL(r)),
    "combo-code:text": lambda r, v, w: any(has_text(item["code"], v) for item in ALL(r)),
    "value-quantity": lambda r, v, w: has_value(r.get("valueQuantity"), v),
    "combo-value-quantity": lambda r, v, w: any(
        has_value(item.get("valueQuantity"), v) for item in ALL(r)
    ),
    "code-value-quantity": lambda r, v, w: pair(ROOT, v, r),
    "component-code-value-quantity": lambda r, v, w: pair(INNER, v, r),
    "combo-code-value-quantity": lambda r, v, w: pair(ALL, v, r),
    "component-code-value-concept": lambda r, v, w: pair(INNER, v, r),
    "subject:Patient.name": lambda r, v, w: r["subject"]["reference"] == f"Patient/{SOUNDS[v]}",
    "has-member.code": lambda r, v, w: (
        "hasMember" in r and any(has_code(one["code"], v) for one in w if one["id"] == "o0")
    ),
    "_has:Observation:has-member:code": lambda r, v, w: any(
        has_code(one["code"], v) for one in pointing(r, w)
    ),
    "_has:Observation:has-member:patient.name": lambda r, v, w: any(
        one["subject"]["reference"] == f"Patient/{SOUNDS[v]}" for one in pointing(r, w)
    ),
}

code = st.one_of(
    st.sampled_from(CODES),
    st.builds("{}|{}".format, st.sampled_from([*SYSTEMS, ""]), st.sampled_from(CODES)),
)
number = st.builds(
    "{}{}{}".format,
    st.sampled_from(["", "gt", "le", "ge"]),
    st.sampled_from(["0.5", "5.4", "54"]),
    st.sampled_from(["", "||g/L", "||mg/dL", "||mmol/L", "||umol/L", "||Cel"]),
)
measured = st.builds("{}${}".format, code, number)
coded = st.builds("{}${}".format, code, code)
sound = st.sampled_from(list(SOUNDS))
text = st.sampled_from(["hb", "HB A", "血红", "糖", "葡萄糖"])
VALUES = {
    "code:text": text, "combo-code:text": text, "combo-code": code, "combo-code:not": code,
    "value-quantity": number, "combo-value-quantity": number,
    "code-value-quantity": measured, "component-code-value-quantity": measured,
    "combo-code-value-quantity": measured, "component-code-value-concept": coded,
    "subject:Patient.name": sound, "has-member.code": code,
    "_has:Observation:has-member:code": code, "_has:Observation:has-member:patient.name": sound,
}  # fmt: skip
one = st.one_of(*(st.tuples(st.just(name), values) for name, values in VALUES.items()))


@settings(max_examples=examples(50), deadline=None)
@given(
    st.lists(observation, min_size=2, max_size=6),
    st.lists(st.lists(one, min_size=1, max_size=2), min_size=8, max_size=16),
)
def test_oracle_rows_and_sql_agree(
    resources: list[Resource], queries: list[list[tuple[str, str]]]
) -> None:
    loader, world = Loader(), World()
    for id, name in PATIENTS.items():
        patient = {"resourceType": "Patient", "id": id, "name": [{"text": name}]}
        loader.put(patient)
        world.put(patient)
    stored = [{**resource, "id": f"o{number}"} for number, resource in enumerate(resources)]
    for resource in stored:  # _has looks in one person's records (docs/divergences.md)
        if resource["subject"] != stored[0]["subject"]:
            resource.pop("hasMember", None)
    for resource in stored:
        loader.put(resource)
        world.put(resource)
    for query in queries:
        expected = [
            resource["id"]
            for resource in stored
            if all(TESTS[name](resource, value, stored) for name, value in query)
        ]
        url = "Observation?" + "&".join(f"{name}={value}" for name, value in query)
        assert world.ids(url) == expected, url
        assert loader.ids(url) == expected, url
