"""What values mean beyond the basic types: texts, types of identifiers, pinyin, composites."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from search_loader import Loader
from search_rows import World

from fhir_gateway.search.types.pinyin import asked, sounds
from fhir_gateway.terminology.ucum import canonical


def both(resource: dict[str, Any], query: str) -> bool:
    """The same answer by rows in memory and by the store."""
    loader, world = Loader(), World(resource)
    loader.put({"resourceType": "Patient", "id": "another"})
    loader.put(resource)
    url = f"{resource['resourceType']}?{query}"
    found = loader.ids(url)
    assert found == world.ids(url)
    return found == [resource["id"]]


def person(*names: dict[str, Any], type: str = "Patient") -> dict[str, Any]:
    return {"resourceType": type, "id": "x", "name": list(names)}


def observation(**members: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": "x", "status": "final",
            "code": {"text": "x"}, **members}  # fmt: skip


ZHANG = {"family": "张", "given": ["伟"], "text": "张伟"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("name=张", True),
        ("name=张伟", True),
        ("name=伟", True),
        ("name=zhang", True),
        ("name=Zhang", True),
        ("name=zhangwei", True),
        ("name=zhang wei", True),
        ("name=Zhāng Wěi", True),
        ("name=zhang1wei3", True),
        ("name=zhang'wei", True),
        ("name=zw", True),
        ("name=ZW", True),
        ("name=wei", True),
        ("name=zhangwe", True),
        ("name=zhangwen", False),
        ("name=wz", False),
        ("name=hang", False),
        ("name=li,zw", True),
        ("family=zhang", True),
        ("family=wei", False),
        ("given=wei", True),
        ("given=zhang", False),
        ("name:exact=zhangwei", False),
        ("name:exact=zw", False),
        ("name:exact=张伟", True),
        ("name:contains=zhang", False),
        ("name:contains=ang", False),
        ("name:contains=伟", True),
        ("family:exact=zhang", False),
        ("family:missing=false", True),
    ],
)
def test_a_chinese_name_is_found_by_its_sound(query: str, expected: bool) -> None:
    assert both(person(ZHANG), query) is expected
    assert both(person(ZHANG, type="Practitioner"), query) is expected


@pytest.mark.parametrize("type", ["Person", "RelatedPerson", "Patient", "Practitioner"])
def test_a_name_that_is_one_text_is_found_too(type: str) -> None:
    resource = person({"text": "欧阳 小明"}, type=type)
    for query in ("欧阳", "ouyang", "ouyangxiaoming", "oyxm", "xiaoming", "xm"):
        assert both(resource, f"name={query}"), query
    assert not both(resource, "name=yangxiaoming")


@pytest.mark.parametrize(
    ("family", "readings"),
    [
        ("单", "shan dan chan"),
        ("曾", "zeng ceng"),
        ("仇", "qiu chou"),
        ("解", "xie jie"),
        ("区", "ou qu"),
        ("查", "zha cha"),
        ("任", "ren"),
        ("盖", "ge gai"),
        ("朴", "piao pu"),
        ("黑", "he hei"),
        ("万俟", "moqi wanqi"),
        ("尉迟", "yuchi weichi"),
        ("吕", "lu lv lyu"),
        ("长孙", "zhangsun changsun"),
    ],
)
def test_every_reading_of_a_surname_finds_it(family: str, readings: str) -> None:
    for reading in readings.split():
        assert both(person({"family": family, "given": ["伟"]}), f"family={reading}")
        assert both(person({"family": family, "given": ["伟"]}), f"name={reading}wei")


def test_what_has_no_chinese_sound_has_no_pinyin() -> None:
    assert sounds("Zhang", "Wei") == ()
    assert sounds("田中", "さくら") == ()
    assert sounds("张" * 30, "") == ()
    assert sounds("", "") == ()
    assert sounds("买买提", "吐尔逊") == sounds("买买提·", "吐尔逊")
    assert asked("zhang wei") == "zhangwei"
    assert asked("张wei") == ""
    assert asked("a" * 97) == ""
    assert not both(person({"family": "Zhang", "given": ["Wei"]}), "name=zw")


def test_names_with_many_readings_are_cut_to_the_usual_one() -> None:
    assert len(sounds("长单仇", "解")) <= 32
    assert "zhangdanchoujie" in sounds("长单仇解", "")


def test_only_persons_have_pinyin() -> None:
    clinic = {"resourceType": "Organization", "id": "x", "name": "张伟诊所"}
    assert both(clinic, "name=张伟")
    assert not both(clinic, "name=zhangwei")


CODE = {"text": "血红蛋白 Hb", "coding": [{"system": "http://loinc.org", "code": "718-7",
        "display": "Hemoglobin [Mass/volume]"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("code:text=血红", True),
        ("code:text=hemoglobin", True),
        ("code:text=HEMOGLOBIN [mass", True),
        ("code:text=718-7", False),
        ("code:text=globin", False),
        ("code:text=glucose,血红蛋白", True),
        ("combo-code:text=hemo", True),
        ("component-code:text=hemo", False),
        ("identifier:text=病历", True),
        ("identifier:text=7", False),
        ("identifier:of-type=http://t|MR|7", True),
        ("identifier:of-type=http://t|MR|8", False),
        ("identifier:of-type=http://t|AN|7", False),
        ("identifier:of-type=|MR|7", False),
        ("identifier:of-type=http://t|AN|7,http://t|MR|7", True),
    ],
)
def test_texts_and_types_of_tokens(query: str, expected: bool) -> None:
    kind = {"text": "病历号", "coding": [{"system": "http://t", "code": "MR"}]}
    identifier = {"system": "http://s", "value": "7", "type": kind}
    assert both(observation(code=CODE, identifier=[identifier]), query) is expected


def test_of_type_finds_a_patient_in_the_global_index() -> None:
    identifier = {"value": "7", "type": {"coding": [{"system": "http://t", "code": "MR"}]}}
    loader = Loader()
    for number in range(30):
        loader.put({"resourceType": "Patient", "id": f"p{number}"})
    loader.put({"resourceType": "Patient", "id": "x", "identifier": [identifier]})
    assert loader.ids("Patient?identifier:of-type=http://t|MR|7", budget=5) == ["x"]
    assert loader.ids("Patient?name=zw", budget=5) == []


UCUM = "http://unitsofmeasure.org"


def panel() -> dict[str, Any]:
    """Systolic 130, diastolic 85, and a code of two systems."""

    def part(code: str, value: float, system: str = "http://loinc.org") -> dict[str, Any]:
        quantity = {"value": value, "unit": "毫米汞柱", "system": UCUM, "code": "mm[Hg]"}
        return {"code": {"coding": [{"system": system, "code": code}]}, "valueQuantity": quantity}

    return observation(
        code={"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        component=[
            part("8480-6", 130),
            part("8462-4", 85),
            part("8480-6", 999, "http://other.example"),
            {"code": {"coding": [{"code": "posture"}]},
             "valueCodeableConcept": {"coding": [{"code": "sitting"}]}},
        ],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("component-code-value-quantity=http://loinc.org|8480-6$gt120", True),
        ("component-code-value-quantity=http://loinc.org|8480-6$gt140", False),
        ("component-code-value-quantity=http://loinc.org|8462-4$gt120", False),
        ("component-code-value-quantity=8480-6$gt140", True),
        ("component-code-value-quantity=http://other.example|8480-6$gt140", True),
        ("component-code-value-quantity=|8480-6$gt1", False),
        ("component-code-value-quantity=http://loinc.org|8480-6$130||mm[Hg]", True),
        ("component-code-value-quantity=http://loinc.org|8480-6$130||毫米汞柱", True),
        ("component-code-value-quantity=http://loinc.org|8480-6$gt13||kPa", True),
        ("component-code-value-quantity=http://loinc.org|8480-6$gt18||kPa", False),
        ("component-code-value-quantity=x$1,http://loinc.org|8462-4$lt90", True),
        ("combo-code-value-quantity=http://loinc.org|8480-6$gt120", True),
        ("combo-code-value-quantity=85354-9$gt120", False),
        ("component-code-value-concept=posture$sitting", True),
        ("component-code-value-concept=|posture$|sitting", True),
        ("component-code-value-concept=posture$standing", False),
        ("component-code-value-concept=8480-6$sitting", False),
        ("combo-code=8480-6", True),
        ("combo-code:not=8480-6", False),
        ("combo-code:not=1-1", True),
        ("combo-code:missing=true", False),
        ("combo-value-quantity=gt900", True),
        ("combo-value-quantity:missing=false", True),
        ("combo-value-concept=sitting", True),
        ("value-concept=sitting", False),
        ("combo-data-absent-reason:missing=true", True),
    ],
)
def test_parts_hold_of_the_same_component(query: str, expected: bool) -> None:
    assert both(panel(), query) is expected


@pytest.mark.parametrize(
    ("members", "query", "expected"),
    [
        ({"valueQuantity": {"value": 5}}, "code-value-quantity=718-7$gt4", True),
        ({"valueQuantity": {"value": 5}}, "code-value-quantity=http://loinc.org|718-7$5", True),
        ({"valueQuantity": {"value": 5}}, "code-value-quantity=http://other|718-7$5", False),
        ({"valueQuantity": {"value": 5}}, "code-value-quantity=1-1$5,718-7$6", False),
        ({"valueQuantity": {"value": 5}}, "code-value-quantity=1-1$5,718-7$5", True),
        ({"valueQuantity": {"value": 5}}, "code-value-quantity=718-7$4,718-7$5", True),
        ({"valueQuantity": {"value": 5}}, "combo-code-value-quantity=718-7$5", True),
        ({"valueQuantity": {"value": 5}}, "combo-code-value-quantity=1-1$5", False),
        ({"valueQuantity": {"value": 5}}, "combo-code-value-quantity=1-1$5,718-7$6", False),
        ({"valueString": "Neg"}, "code-value-string=718-7$neg", True),
        ({"valueString": "Neg"}, "code-value-string=718-7$pos", False),
        ({"valueCodeableConcept": {"text": "neg"}}, "code-value-string=718-7$neg", False),
        ({"valueCodeableConcept": {"text": "neg"}}, "value-string=neg", True),
        ({"valueCodeableConcept": {"coding": [{"code": "N"}]}}, "code-value-concept=718-7$N", True),
        ({"valueDateTime": "2024-03-05"}, "code-value-date=718-7$2024-03", True),
        ({"valueDateTime": "2024-03-05"}, "code-value-date=718-7$gt2024-04", False),
    ],
)
def test_code_and_value_of_an_observation(
    members: dict[str, Any], query: str, expected: bool
) -> None:
    assert both(observation(code=CODE, **members), query) is expected


@pytest.mark.parametrize(
    ("resource", "answers"),
    [
        ({"resourceType": "DocumentReference", "id": "x", "relatesTo": [
            {"code": "replaces", "target": {"reference": "DocumentReference/1"}},
            {"code": "appends", "target": {"reference": "DocumentReference/2"}}]},
         {"relationship=replaces$DocumentReference/1": True,
          "relationship=appends$2": True,
          "relationship=replaces$DocumentReference/2": False,
          "relationship=transforms$DocumentReference/1": False}),
        ({"resourceType": "Group", "id": "x", "characteristic": [
            {"code": {"coding": [{"code": "sex"}]},
             "valueCodeableConcept": {"coding": [{"code": "f"}]}},
            {"code": {"coding": [{"code": "smoker"}]}, "valueBoolean": True}]},
         {"characteristic-value=sex$f": True, "characteristic-value=smoker$true": True,
          "characteristic-value=smoker$f": False}),
        ({"resourceType": "ValueSet", "id": "x", "useContext": [
            {"code": {"system": "http://c", "code": "age"},
             "valueRange": {"low": {"value": 18, "system": UCUM, "code": "a"}}},
            {"code": {"system": "http://c", "code": "focus"},
             "valueCodeableConcept": {"coding": [{"code": "lab"}]}}]},
         {"context-type-quantity=age$18": True, "context-type-quantity=age$gt17||a": True,
          "context-type-quantity=focus$18": False,
          "context-type-value=http://c|focus$lab": True,
          "context-type-value=age$lab": False}),
        ({"resourceType": "MolecularSequence", "id": "x", "coordinateSystem": 0,
          "referenceSeq": {"chromosome": {"coding": [{"code": "1"}]},
                           "referenceSeqId": {"coding": [{"code": "NC_1"}]},
                           "windowStart": 100, "windowEnd": 200},
          "variant": [{"start": 10, "end": 20}, {"start": 400, "end": 500}]},
         {"chromosome-window-coordinate=1$lt150$gt150": True,
          "chromosome-window-coordinate=2$lt150$gt150": False,
          "chromosome-window-coordinate=1$lt90$gt150": False,
          "referenceseqid-window-coordinate=NC_1$100$200": True,
          "chromosome-variant-coordinate=1$lt345$gt123": False,
          "chromosome-variant-coordinate=1$lt15$gt15": True,
          "chromosome-variant-coordinate=1$lt10$gt5": False,
          "chromosome-variant-coordinate=1$le10$gt5": True,
          "chromosome-variant-coordinate=1$ge400$le500": True,
          "chromosome-variant-coordinate=1$gt400$le500": False,
          "referenceseqid-variant-coordinate=NC_1$10$20": True,
          "referenceseqid-variant-coordinate=NC_1$10$500": False,
          "chromosome-variant-coordinate=1$lt1$gt1,1$lt15$gt15": True}),
    ],
)  # fmt: skip
def test_the_other_composites(resource: dict[str, Any], answers: dict[str, bool]) -> None:
    for query, expected in answers.items():
        assert both(resource, query) is expected, query


def test_never_missing() -> None:
    assert both(observation(), "_id:missing=false")
    assert both(observation(), "_lastUpdated:missing=false")
    assert not both(observation(), "_id:missing=true")
    assert not both(observation(), "_lastUpdated:missing=true")


@pytest.mark.parametrize(
    ("unit", "same"),
    [
        ("mg/dL", "10.g/m3"), ("L", "l"), ("10*3/uL", "10*9/L"), ("10^9/L", "10*9/L"),
        ("{cells}/uL", "/uL"), ("mL/min/{1.73_m2}", "mL/min"), ("[IU]/L", "[iU]/L"),
        ("m[Hg]", "133322.Pa"), ("g%", "g/dL"), ("(g)/(L)", "g/L"), ("kat", "mol/s"),
        ("%", "10*-2"), ("U/L", "umol/min/L"), ("fL", "um3"), ("J", "N.m"), ("mg/24.h", "mg.h/24"),
    ],
)  # fmt: skip
def test_units_that_are_the_same(unit: str, same: str) -> None:
    """A slash divides by the next one alone, so that mg/24.h is not a dose a day."""
    assert canonical(unit) is not None
    assert canonical(unit) == canonical(same)


@pytest.mark.parametrize(
    "unit",
    ["", "abc", "Cel", "[degF]", "[pH]", "dB", "{INR}", "{a}{b}", "g/", "//g", "g..L", "2mg", "g-0",
     "(" * 40, "g)", "克", "g L", "g\x00", "m" * 60, "g+99", "1e3", "((((Ym20)20)20)20)20"],
)  # fmt: skip
def test_what_cannot_be_converted(unit: str) -> None:
    assert canonical(unit) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [("mol/L", "/L"), ("meq/L", "mmol/L"), ("mosm/L", "mmol/L"), ("/[HPF]", "1"),
     ("[iU]/L", "U/L"), ("[arb'U]", "[iU]"), ("g", "N")],
)  # fmt: skip
def test_what_medicine_tells_apart(one: str, other: str) -> None:
    assert canonical(one).units != canonical(other).units  # type: ignore[union-attr]


@pytest.mark.parametrize("value", ["1e308", "-1e308", "1e-300", "0", "-0"])
@pytest.mark.parametrize("unit", ["Ym2/L", "ym2.L", "U/L", "g/L"])
def test_values_at_the_ends_of_binary64_are_kept_in_order(value: str, unit: str) -> None:
    form = canonical(unit)
    assert form is not None
    found = form.times(Decimal(value))
    assert form.times(float(value)) == found
    assert (found > 0) is (float(value) > 0 and found != 0)
    assert found >= form.times(Decimal("-1e308"))
