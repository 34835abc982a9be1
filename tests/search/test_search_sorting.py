"""_sort by every kind of parameter, by several at once, in every scope, page by page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from search_loader import SECRET, Loader

from fhir_gateway.search.page import Holder, encode_cursor, resume

KINDS = {
    "status": ["preliminary", "final", "amended", "registered"],
    "code": ["Sodium", "glucose", "Ünit", "酶"],
    "value": [7, -3, 0.5, 12],
    "date": ["2024-03-05", "2024-03", "2023", "2025-01-01T10:00:00Z"],
    "text": ["b", "A", "äb", "甲"],
}


def observation(id: str, chosen: dict[str, Any]) -> dict[str, Any]:
    """A result with some of the members that the sort keys read."""
    made: dict[str, Any] = {
        "resourceType": "Observation", "id": id, "status": chosen["status"],
        "subject": {"reference": f"Patient/{chosen['patient']}"},
    }  # fmt: skip
    if chosen["code"]:
        made["code"] = {"coding": [{"code": "c", "display": chosen["code"]}]}
    if chosen["value"] is not None:
        made["valueQuantity"] = {"value": chosen["value"]}
    if chosen["text"]:
        made["valueString"] = chosen["text"]
    if chosen["date"]:
        made["effectiveDateTime"] = chosen["date"]
    return made


def maybe(values: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([None, *values])


results = st.lists(
    st.fixed_dictionaries({
        "status": st.sampled_from(KINDS["status"]), "patient": st.sampled_from(["p", "q"]),
        "code": maybe(KINDS["code"]), "value": maybe(KINDS["value"]),
        "text": maybe(KINDS["text"]), "date": maybe(KINDS["date"]),
    }),
    max_size=8,
)  # fmt: skip

#: What each key compares, from the text of the standard; None comes last both ways. The beginning
#: of a date upwards, its end downwards.
_FROM = {"2023": 1, "2024-03": 2, "2024-03-05": 3, "2025-01-01T10:00:00Z": 4}
_TO = {"2023": 1, "2024-03-05": 2, "2024-03": 3, "2025-01-01T10:00:00Z": 4}
_FOLDED = {"Sodium": "sodium", "glucose": "glucose", "Ünit": "unit", "酶": "酶",
           "b": "b", "A": "a", "äb": "ab", "甲": "甲"}  # fmt: skip
VALUES: dict[str, Callable[[dict[str, Any], bool], Any]] = {
    "_id": lambda one, down: one["id"],
    "_lastUpdated": lambda one, down: one["number"],
    "status": lambda one, down: one["status"],
    "code": lambda one, down: _FOLDED.get(one["code"]),
    "value-quantity": lambda one, down: one["value"],
    "value-string": lambda one, down: _FOLDED.get(one["text"]),
    "date": lambda one, down: (_TO if down else _FROM).get(one["date"]),
}
keys = st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.tuples(*(st.sampled_from([name, f"-{name}"]) for name in names))
)


def ordered(rows: list[dict[str, Any]], sort: tuple[str, ...]) -> list[str]:
    """The ids in order: by the last key first, as stable sorts compose."""
    for key in reversed(sort):
        down, name = key.startswith("-"), key.removeprefix("-")
        known = [one for one in rows if VALUES[name](one, down) is not None]
        rest = [one for one in rows if VALUES[name](one, down) is None]
        known.sort(key=lambda one: VALUES[name](one, down), reverse=down)
        rows = known + rest
    return [one["id"] for one in rows]


def walk(loader: Loader, url: str, count: int) -> list[str]:
    """All matches, page by page."""
    asked = f"{url}&_count={count}"
    plan, ids = loader.plan(asked), []
    while True:
        page = loader.run(plan)
        ids += [match.id for match in page.matches]
        if page.next is None:
            return ids
        cursor = encode_cursor(plan, page.next, Holder(SECRET, "me"))
        plan = resume(loader.plan(f"{asked}&_cursor={cursor}"), Holder(SECRET, "me"))


def stored(chosen: list[dict[str, Any]]) -> tuple[Loader, list[dict[str, Any]]]:
    loader, rows = Loader(), []
    for id in "pq":
        loader.put({"resourceType": "Patient", "id": id})
    for number, one in enumerate(chosen):
        row = {**one, "id": f"{'zyxwvuts'[number]}", "number": number}
        loader.put(observation(row["id"], row))
        rows.append(row)
    return loader, rows


@settings(max_examples=examples(60), deadline=None)
@given(results, keys, st.integers(1, 4), st.sampled_from(["patient=p", "patient=p,q", ""]))
def test_any_keys_in_any_order_page_by_page(
    chosen: list[dict[str, Any]], sort: tuple[str, ...], count: int, scope: str
) -> None:
    loader, rows = stored(chosen)
    if scope == "patient=p":
        rows = [one for one in rows if one["patient"] == "p"]
    url = f"Observation?{scope}&_sort={','.join(sort)}".replace("?&", "?")
    # downwards, equal ones stay in the order in which they came
    expected = ordered(rows, sort)
    assert walk(loader, url, count) == expected


def test_equal_ones_stay_in_the_order_in_which_they_came() -> None:
    same = {"status": "final", "patient": "p", "code": "Sodium", "value": 1, "text": None,
            "date": "2023"}  # fmt: skip
    loader, _ = stored([same] * 4)
    for key in ("status", "-status", "code", "-code", "value-quantity", "-date"):
        assert loader.ids(f"Observation?patient=p&_sort={key}") == ["z", "y", "x", "w"]


def test_many_homes_and_home_0_are_sorted_alike() -> None:
    loader = Loader()
    for number in range(20):
        loader.put({"resourceType": "Patient", "id": f"p{number}",
                    "identifier": [{"value": "all"}]})  # fmt: skip
        chosen = {"status": "final", "patient": f"p{number}", "code": KINDS["code"][number % 4],
                  "value": None, "text": None, "date": None}  # fmt: skip
        loader.put(observation(f"o{number}", chosen))
        loader.put({"resourceType": "Practitioner", "id": f"d{number}", "active": True,
                    "gender": ["male", "female", "other", "unknown"][number % 4],
                    "name": [{"family": KINDS["code"][number % 4]}]})  # fmt: skip
    by_text = [*range(1, 20, 4), *range(0, 20, 4), *range(2, 20, 4), *range(3, 20, 4)]
    many = walk(loader, "Observation?patient.identifier=all&_sort=code", 3)
    assert many == [f"o{number}" for number in by_text]
    assert walk(loader, "Practitioner?active=true&_sort=family", 3) == [
        f"d{number}" for number in by_text
    ]
    by_code = [*range(1, 20, 4), *range(0, 20, 4), *range(2, 20, 4), *range(3, 20, 4)]
    assert walk(loader, "Practitioner?_sort=gender", 7) == [f"d{number}" for number in by_code]
    assert walk(loader, "Practitioner?_sort=-gender,-_id", 7)[:2] == ["d7", "d3"]


@pytest.mark.parametrize("sort", ["code", "-status,date", "-value-quantity"])
def test_a_walk_meets_every_match_once_while_others_are_added(sort: str) -> None:
    chosen = [
        {"status": status, "patient": "p", "code": code, "value": value, "text": None, "date": None}
        for status, code, value in zip(
            KINDS["status"] * 2, [*KINDS["code"], None] * 2, [*KINDS["value"], None] * 2,
            strict=False,
        )
    ]  # fmt: skip
    loader, rows = stored(chosen)
    url = f"Observation?patient=p&_sort={sort}&_count=2"
    plan, ids = loader.plan(url), []
    for turn in range(40):
        page = loader.run(plan)
        ids += [match.id for match in page.matches]
        if page.next is None:
            break
        if turn < 4:
            loader.put(observation(f"new{turn}", {**chosen[turn], "status": "final"}))
        cursor = encode_cursor(plan, page.next, Holder(SECRET, "me"))
        plan = resume(loader.plan(f"{url}&_cursor={cursor}"), Holder(SECRET, "me"))
    assert len(ids) == len(set(ids))
    assert {id for id in ids if not id.startswith("new")} == {one["id"] for one in rows}
