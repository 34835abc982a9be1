"""A coder remembers its answers; each depends on the map, the catalogue and all that is stated."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

from fhir_gateway.terminology.catalogue import load_catalogue
from fhir_gateway.terminology.coder import Coder
from fhir_gateway.terminology.local_codes import LocalCodes
from fhir_gateway.terminology.local_map import Row

ROOT = Path(__file__).parents[2]
CATALOGUE = load_catalogue(ROOT / "terminology")
FIRST, SECOND = CATALOGUE.items["L001"], CATALOGUE.items["L016"]


def row(item: Any, **more: Any) -> Row:
    return Row("result", "", "K", "钾", (item,), source="urn:map|1", **more)


def codes(*rows: Row) -> LocalCodes:
    known = LocalCodes(CATALOGUE, {})
    known.put("h", list(rows))
    return known


def coded(known: LocalCodes, institution: str = "h", **more: Any) -> list[str]:
    """The catalogue codes that a result gets."""
    result = {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "urn:h", "code": "K"}], "text": "钾"},
        **copy.deepcopy(more),
    }
    (add,) = known.coders
    add(result, institution)
    return [one["code"] for one in result["code"]["coding"] if "extension" in one]


def test_a_map_that_is_stored_or_taken_back_counts_from_the_next_result_on() -> None:
    known = codes()
    assert coded(known) == coded(known) == []
    known.put("h", [row(FIRST)])
    assert coded(known) == coded(known) == [FIRST.code]
    known.put("h", [row(SECOND)])
    assert coded(known) == coded(known) == [SECOND.code]
    known.put("h", [])
    assert coded(known) == []


def test_another_catalogue_answers_for_itself() -> None:
    result = {"resourceType": "Observation",
              "code": {"coding": [{"system": FIRST.system, "code": FIRST.code}]}}  # fmt: skip
    assert Coder(CATALOGUE, {}).add(copy.deepcopy(result), "h") == ([], [])
    items = {code: one for code, one in CATALOGUE.items.items() if code != FIRST.code}
    without = replace(CATALOGUE, items=items)
    assert Coder(without, {}).add(copy.deepcopy(result), "h") == ([], ["Observation.code"])


def test_an_answer_is_one_institutions() -> None:
    known = codes(row(FIRST))
    known.put("other", [replace(row(SECOND), source="urn:other|1")])
    assert [coded(known, one) for one in ("h", "other", "h", "nobody")] == [
        [FIRST.code], [SECOND.code], [FIRST.code], [],
    ]  # fmt: skip


def test_an_answer_holds_for_what_is_stated_beside_the_code() -> None:
    known = codes(row(FIRST, unit="mmol/L"), row(SECOND, unit="U/L"))
    units = [coded(known, valueQuantity={"unit": unit}) for unit in ("mmol/L", "U/L", "mmol/L")]
    assert units == [[FIRST.code], [SECOND.code], [FIRST.code]]
    known = codes(row(FIRST, specimen="血清"), row(SECOND, specimen="尿液"))
    found = [coded(known, specimen={"display": text}) for text in ("血清", "尿液", "血清")]
    assert found == [[FIRST.code], [SECOND.code], [FIRST.code]]
    known = codes(row(FIRST, method="A"), row(SECOND, method="B"))
    found = [coded(known, method={"text": text}) for text in ("A", "B", "A")]
    assert found == [[FIRST.code], [SECOND.code], [FIRST.code]]


def test_an_answer_holds_on_its_day() -> None:
    known = codes(row(FIRST, end="2026-06-30"), row(SECOND, start="2026-07-01"))
    days = ("2026-06-30T23:00:00+08:00", "2026-07-01T08:00:00+08:00", "2026-06-30", "2026")
    found = [coded(known, effectiveDateTime=day) for day in days]
    assert found == [[FIRST.code], [SECOND.code], [FIRST.code], []]


def test_what_a_result_got_is_its_own() -> None:
    known = codes(row(FIRST))
    (add,) = known.coders
    result: dict[str, Any] = {"resourceType": "Observation",
                              "code": {"coding": [{"system": "urn:h", "code": "K"}]}}  # fmt: skip
    add(result, "h")
    result["code"]["coding"][1]["code"] = "changed"
    assert coded(known) == [FIRST.code]
