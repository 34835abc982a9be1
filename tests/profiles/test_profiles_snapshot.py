"""Snapshots that we generate against those that HL7 published, and what a snapshot must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_package import with_snapshots
from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.snapshot import snapshot
from fhir_gateway.fhir.structures import BASE, structure, structure_urls
from fhir_gateway.settings import load_settings

Json = Mapping[str, Any]

#: Where HL7's tool of 2019 published something else than the specification asks for.
PUBLISHED_OTHERWISE = {
    "bp": "value[x] in slices of component is narrowed without being sliced",
    "catalog": "Composition.date stands twice",
    "cholesterol": "takes the constraints of SimpleQuantity into an element that uses it",
    "hdlcholesterol": "takes the constraints of SimpleQuantity into an element that uses it",
    "ldlcholesterol": "takes the constraints of SimpleQuantity into an element that uses it",
    "elementdefinition-de": "unfolds extensions that its differential does not walk into",
    "familymemberhistory-genetic": "most elements are missing",
    "provenance-relevant-history": "a contentReference names a slice",
}
_COMPARED = (
    "path", "sliceName", "min", "max", "base", "mustSupport", "isModifier", "slicing",
    "contentReference",
)  # fmt: skip


def _published() -> list[str]:
    """Every profile on a resource or datatype, and each tenth extension."""
    constraints = [
        url
        for url in structure_urls()
        if (found := structure(url)) and found.get("derivation") == "constraint"
    ]
    extensions = [url for url in constraints if _of(url)["type"] == "Extension"]
    return [url for url in constraints if url not in extensions] + extensions[::10]


def _of(url: str) -> Json:
    found = structure(url)
    assert found is not None
    return found


def _digest(element: Json) -> dict[str, Any]:
    binding = element.get("binding", {})
    fixed = {
        name: value for name, value in element.items() if name.startswith(("fixed", "pattern"))
    }
    return {
        **{name: element.get(name) for name in _COMPARED},
        **fixed,
        "type": [
            (one["code"], one.get("profile"), one.get("targetProfile"))
            for one in element.get("type", ())
        ],
        "binding": (binding.get("strength"), binding.get("valueSet")),
        "constraint": sorted(one["key"] for one in element.get("constraint", ())),
    }


def test_generated_snapshots_are_those_that_hl7_published() -> None:
    others = []
    for url in _published():
        published = _of(url)
        bare = {name: value for name, value in published.items() if name != "snapshot"}
        made = {one["id"]: _digest(one) for one in snapshot(bare, structure)}
        wanted = {one["id"]: _digest(one) for one in published["snapshot"]["element"]}
        if made != wanted or list(made) != list(wanted):
            others.append(published["id"])
    assert sorted(others) == sorted(PUBLISHED_OTHERWISE)


@pytest.fixture(scope="module")
def ours() -> list[dict[str, Any]]:
    resources = with_snapshots(profile_resources(load_settings({}).profiles))
    return [one for one in resources if one["resourceType"] == "StructureDefinition"]


def test_every_element_of_our_snapshots_is_whole(ours: list[dict[str, Any]]) -> None:
    for one in ours:
        elements = one["snapshot"]["element"]
        ids = [element["id"] for element in elements]
        assert len(ids) == len(set(ids)), one["id"]
        assert ids[0] == one["type"]
        for element in elements:
            plain = ".".join(part.partition(":")[0] for part in element["id"].split("."))
            assert element["path"] == plain
            assert element["definition"], element["id"]
            assert element["min"] >= 0
            assert element["max"]
            assert element["base"]["path"]
            keys = [rule["key"] for rule in element.get("constraint", ())]
            assert len(keys) == len(set(keys)), element["id"]
            parent = element["id"].rpartition(".")[0]
            assert not parent or parent in ids, element["id"]


def test_a_slice_stands_after_its_element_and_fits_into_it(ours: list[dict[str, Any]]) -> None:
    for one in ours:
        elements = {element["id"]: element for element in one["snapshot"]["element"]}
        places = {id: number for number, id in enumerate(elements)}
        for id, element in elements.items():
            if "sliceName" not in element or not id.endswith(f":{element['sliceName']}"):
                continue
            whole = id.removesuffix(f":{element['sliceName']}")
            assert places[whole] < places[id]
            assert elements[whole]["slicing"]["discriminator"], id
            high = elements[whole]["max"]
            assert high == "*" or element["max"] != "*"
            assert element["min"] <= (float("inf") if high == "*" else int(high))


def test_a_profile_on_a_profile_has_the_rules_of_both(ours: list[dict[str, Any]]) -> None:
    found = {one["id"]: one for one in ours}
    strict = found["recognizable-laboratory-observation"]["snapshot"]["element"]
    root = strict[0]
    keys = {rule["key"]: rule["source"] for rule in root["constraint"]}
    assert keys["rec-final"].endswith("/recognizable-laboratory-observation")
    assert keys["lab-value"].endswith("/laboratory-observation")
    assert keys["obs-7"] == f"{BASE}Observation"
    item = next(one for one in strict if one["id"] == "Observation.code.coding:item")
    assert (item["min"], item["max"], item["binding"]["strength"]) == (1, "1", "required")


def _profile(*elements: dict[str, Any], base: str = f"{BASE}Patient") -> dict[str, Any]:
    return {
        "resourceType": "StructureDefinition",
        "url": "http://hospital.example/StructureDefinition/x",
        "type": "Patient",
        "baseDefinition": base,
        "differential": {"element": list(elements)},
    }


@pytest.mark.parametrize(
    ("profile", "rule", "words"),
    [
        (_profile(base="http://nowhere.example/x"), "profile-base", "is not known here"),
        (_profile({"id": "Patient.nonsense"}), "profile-element", "nonsense is not an element"),
        (_profile({"id": "Patient.name.x.y"}), "profile-element", "There is no element"),
        (_profile({"id": "Patient.gender", "max": "2"}), "profile-element", "only narrows"),
        (_profile({"id": "Patient.link.other", "min": 0}), "profile-element", "only narrows"),
        (_profile({"path": ""}), "profile-element", "There is no element"),
    ],
)
def test_a_differential_that_contradicts_its_base_is_refused(
    profile: dict[str, Any], rule: str, words: str
) -> None:
    with pytest.raises(Unprocessable) as caught:
        snapshot(profile, structure)
    assert caught.value.issues[0].rule == rule
    assert words in caught.value.issues[0].diagnostics


def test_profiles_that_rest_on_each_other_are_refused() -> None:
    one, two = "http://hospital.example/one", "http://hospital.example/two"
    found = {
        one: {**_profile(base=two), "url": one},
        two: {**_profile(base=one), "url": two},
    }
    with pytest.raises(Unprocessable, match="rests on itself"):
        snapshot(found[one], lambda url: found.get(url) or structure(url))


def test_all_faults_of_a_differential_are_told_with_their_places() -> None:
    profile = _profile({"id": "Patient.a"}, {"id": "Patient.name"}, {"id": "Patient.b"})
    with pytest.raises(Unprocessable) as caught:
        snapshot(profile, structure)
    assert [issue.expression for issue in caught.value.issues] == [
        "StructureDefinition.differential.element[0]",
        "StructureDefinition.differential.element[2]",
    ]


def test_a_path_without_id_and_a_type_in_the_name_are_understood() -> None:
    made = snapshot(
        {
            "url": "http://hospital.example/StructureDefinition/x",
            "baseDefinition": f"{BASE}Observation",
            "differential": {
                "element": [
                    {"path": "Observation.valueQuantity.unit", "min": 1},
                    {"path": "Observation.referenceRange.low.value", "min": 1},
                    {"path": "Observation.component.referenceRange.text", "min": 1},
                ]
            },
        },
        structure,
    )
    found = {one["id"]: one for one in made}
    assert found["Observation.value[x]:valueQuantity.unit"]["min"] == 1
    assert [one["code"] for one in found["Observation.value[x]"]["type"]] == ["Quantity"]
    assert found["Observation.referenceRange.low.value"]["base"]["path"] == "Quantity.value"
    assert found["Observation.component.referenceRange.text"]["min"] == 1
    assert found["Observation.referenceRange.text"]["min"] == 0


def test_the_definitions_that_a_snapshot_is_made_of_stay_as_they_are() -> None:
    before = str(_of(f"{BASE}Patient")["snapshot"])
    snapshot(_profile({"id": "Patient.name", "min": 1, "short": "changed"}), structure)
    assert str(_of(f"{BASE}Patient")["snapshot"]) == before


def test_only_r4s_own_structures_are_found() -> None:
    assert structure(f"{BASE}Patient|4.0.1") is structure(f"{BASE}Patient|4.0.1")
    assert structure("http://hospital.example/StructureDefinition/Patient") is None
    assert structure(f"{BASE}../definitions") is None
    assert f"{BASE}vitalsigns" in structure_urls()
