"""$translate: concept maps both ways, with dependencies, unmapped codes and circles."""

from __future__ import annotations

from typing import Any

import pytest
from service_cases import ANIMALS, COLOURS, ROOT, known

from fhir_gateway.errors import NotFound, Unprocessable
from fhir_gateway.terminology.service_validate import Coding
from fhir_gateway.terminology.translation import Dependency, Translating

LOCAL = f"{ROOT}/local"


def element(code: str, *targets: Any) -> dict[str, Any]:
    return {"code": code, "target": list(targets)}


def target(code: str, equivalence: str = "equivalent", **more: Any) -> dict[str, Any]:
    return ({"code": code} if code else {}) | {"equivalence": equivalence} | more


def depends(property: str, value: str, system: str = "") -> dict[str, str]:
    return {"property": property, "value": value} | ({"system": system} if system else {})


def concept_map(url: str, *elements: Any, source: str = LOCAL, to: str = ANIMALS, **more: Any):
    unmapped = {"unmapped": more.pop("unmapped")} if "unmapped" in more else {}
    group = {"source": source, "target": to, "element": list(elements)} | unmapped
    head = {"resourceType": "ConceptMap", "url": f"{ROOT}/{url}", "status": "active"}
    return head | {"group": [group]} | more


PETS = concept_map(
    "pets",
    element("W", target("dog", comment="Wau")),
    element("M", target("cat"), target("mammal", "wider")),
    element("N", target("", "unmatched", comment="nothing like it")),
    element("S", target("unicorn", dependsOn=[depends("horn", "1")],
                        product=[depends("colour", "Red", COLOURS)])),
    sourceUri=f"{ROOT}/local/vs", targetUri=f"{ANIMALS}/all",
)  # fmt: skip


def translate(code: str, *maps: Any, system: str = LOCAL, **asked: Any):
    asked.setdefault("url", f"{ROOT}/pets" if not maps else maps[0]["url"])
    return known(PETS, *maps).translate(Coding(system, code), Translating(**asked))


def told(found):
    return [(one.equivalence, one.coding and one.coding.code) for one in found.matches]


def test_a_code_is_what_its_map_says():
    found = translate("W")
    assert (found.result, told(found), found.message) == (True, [("equivalent", "dog")], "")
    (match,) = found.matches
    assert (match.coding.system, match.coding.display, match.source) == (
        ANIMALS, "狗", f"{ROOT}/pets",
    )  # fmt: skip
    assert told(translate("M")) == [("equivalent", "cat"), ("wider", "mammal")]
    assert translate("M", language="en").matches[0].coding.display == "Cat"


def test_a_map_may_say_that_there_is_nothing():
    found = translate("N")
    assert (found.result, told(found)) == (False, [("unmatched", None)])
    assert found.message == "The code is mapped to nothing"
    assert translate("X").message == f"No concept map that was asked knows this code of {LOCAL}"
    assert not translate("W", system=f"{ROOT}/elsewhere").result


def test_from_targets_to_sources_equivalence_reads_the_other_way_round():
    found = translate("mammal", system=ANIMALS, reverse=True)
    assert told(found) == [("narrower", "M")]
    assert found.matches[0].coding.system == LOCAL
    assert not translate("W", reverse=True).result


def test_what_a_mapping_depends_on_must_be_known_and_fit():
    silent = translate("S")
    assert (silent.result, silent.matches) == (False, ())
    assert "depend on horn" in silent.message
    one = Dependency("horn", frozenset({("", "1")}))
    found = translate("S", dependencies=(one,))
    assert told(found) == [("equivalent", "unicorn")]
    (product,) = found.matches[0].products
    assert (product.element, product.coding[:2]) == ("colour", (COLOURS, "Red"))
    two = Dependency("horn", frozenset({("", "2")}))
    other = translate("S", dependencies=(two,))
    assert (other.result, "depend on" in other.message) == (False, False)


def test_maps_are_chosen_by_what_they_are_from_and_to():
    colours = concept_map("hues", element("W", target("Red")), to=COLOURS)
    everything = translate("W", colours, url="", source="", target_system="")
    assert told(everything) == [("equivalent", "dog"), ("equivalent", "Red")]
    assert told(translate("W", colours, url="", target_system=COLOURS)) == [("equivalent", "Red")]
    assert told(translate("W", colours, url="", target=f"{ANIMALS}/all")) == [("equivalent", "dog")]
    assert told(translate("dog", colours, system=ANIMALS, url="", source=f"{ANIMALS}/all",
                          reverse=True)) == [("equivalent", "W")]  # fmt: skip
    retired = concept_map("old", element("W", target("bird")), status="retired")
    assert ("equivalent", "bird") not in told(translate("W", retired, url=""))
    assert told(translate("W", retired)) == [("equivalent", "bird")]


def test_codes_that_a_map_does_not_list_go_where_it_says():
    same = concept_map("same", unmapped={"mode": "provided"})
    fixed = concept_map("fixed", unmapped={"mode": "fixed", "code": "thing"})
    assert told(translate("dog", same)) == [("equivalent", "dog")]
    assert told(translate("Q", fixed)) == [("inexact", "thing")]
    other = concept_map("other", unmapped={"mode": "other-map", "url": f"{ROOT}/pets"})
    found = translate("W", other)
    assert (told(found), found.matches[0].source) == ([("equivalent", "dog")], f"{ROOT}/pets")
    lost = concept_map("lost", unmapped={"mode": "other-map", "url": f"{ROOT}/nowhere"})
    with pytest.raises(NotFound):
        translate("W", lost)


def test_maps_in_a_circle_are_told_so():
    ring = [
        concept_map(f"ring{n}",
                    unmapped={"mode": "other-map", "url": f"{ROOT}/ring{(n + 1) % 3}"})
        for n in range(3)
    ]  # fmt: skip
    with pytest.raises(Unprocessable) as caught:
        translate("W", *ring)
    (issue,) = caught.value.issues
    assert issue.rule == "map-circular"
    assert f"{ROOT}/ring0" in issue.diagnostics


def test_codes_without_case_are_found_without_it():
    hues = concept_map("hues", element("RED", target("dog")), source=COLOURS)
    assert told(translate("red", hues, system=COLOURS)) == [("equivalent", "dog")]


def test_an_unknown_map_and_an_inline_one():
    with pytest.raises(NotFound):
        translate("W", url=f"{ROOT}/unheard")
    inline = concept_map("inline", element("W", target("cat")))
    assert told(translate("W", map=inline)) == [("equivalent", "cat")]
