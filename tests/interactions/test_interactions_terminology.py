"""The terminology operations as a client calls them, on what is stored and what comes along."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest

from fhir_gateway.fhir.validate import issues
from fhir_gateway.interactions.terminology import terminology
from fhir_gateway.interactions.terminology_definitions import (
    BATCH_VALIDATE_CODE,
    EXPAND,
    LOOKUP,
    SUBSUMES,
    TRANSLATE,
    VALIDATE_CODE,
)
from fhir_gateway.rest.operations import OPERATIONS
from fhir_gateway.settings import CANONICAL

ROOT = "http://tests.example.org"
ANIMALS, LOCAL = f"{ROOT}/animals", f"{ROOT}/local"
GENDER = "http://hl7.org/fhir/administrative-gender"
DEFINITIONS = {
    f"${one.code}": one
    for one in (LOOKUP, VALIDATE_CODE, BATCH_VALIDATE_CODE, EXPAND, SUBSUMES, TRANSLATE)
}

SYSTEM = {
    "resourceType": "CodeSystem", "id": "animals", "url": ANIMALS, "version": "1",
    "status": "active", "content": "complete", "caseSensitive": True, "valueSet": f"{ANIMALS}/all",
    "concept": [{
        "code": "mammal", "display": "哺乳动物", "definition": "What gives milk.", "concept": [
            {"code": "dog", "display": "狗",
             "designation": [{"language": "en", "value": "Dog"}]},
            {"code": "cat", "display": "猫",
             "designation": [{"language": "en", "value": "Cat"}]},
        ]},
    ],
}  # fmt: skip
PETS = {
    "resourceType": "ValueSet", "id": "pets", "url": f"{ROOT}/pets", "status": "active",
    "compose": {"include": [{"system": ANIMALS, "concept": [{"code": "dog"}, {"code": "cat"}]}]},
}  # fmt: skip
MAP = {
    "resourceType": "ConceptMap", "id": "local", "url": f"{ROOT}/map", "status": "active",
    "group": [{"source": LOCAL, "target": ANIMALS, "element": [
        {"code": "W", "target": [{"code": "dog", "equivalence": "equivalent"}]},
        {"code": "M", "target": [{"code": "cat", "equivalence": "wider", "dependsOn": [
            {"property": "http://x/size", "system": f"{ROOT}/sizes", "value": "small"}]}]},
    ]}],
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def stored(client) -> None:
    for resource in (SYSTEM, PETS, MAP):
        path = f"/fhir/{resource['resourceType']}/{resource['id']}"
        assert client.put(path, resource).status_code in (200, 201)


def get(client: Any, path: str, **parameters: str) -> Any:
    return client.get(f"/fhir/{path}?{urlencode(parameters)}")


def parameters(*members: tuple[str, str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": name, element: value} for name, element, value in members],
    }


def told(answer: Any) -> dict[str, Any]:
    """The values of an answer by name, checked against what the operation says that it gives."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert issues(body) == []
    name = answer.request.url.path.rpartition("/")[2]
    rows = {row.name: row for row in DEFINITIONS[name].gives}
    found: dict[str, Any] = {}
    for one in body["parameter"]:
        (element,) = one.keys() - {"name"}
        row = rows[one["name"]]
        assert element in (*row.elements, "part", "resource")
        found[one["name"]] = one[element]
    assert {row.name for row in rows.values() if row.low} <= found.keys()
    return found


def expanded(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    assert issues(answer.json()) == []
    return [one["code"] for one in answer.json()["expansion"].get("contains", ())]


# -- what is answered ----------------------------------------------------------------------------


def test_lookup_by_get_and_by_post(client):
    asked = told(get(client, "CodeSystem/$lookup", system=ANIMALS, code="dog",
                     displayLanguage="en"))  # fmt: skip
    assert (asked["display"], asked["version"], asked["name"]) == ("Dog", "1", ANIMALS)
    coding = {"system": ANIMALS, "code": "mammal"}
    body = parameters(("coding", "valueCoding", coding), ("property", "valueCode", "child"))
    posted = client.post("/fhir/CodeSystem/$lookup", body)
    children = [
        {part["name"]: part for part in one["part"]}
        for one in posted.json()["parameter"]
        if one["name"] == "property"
    ]
    assert [one["value"]["valueCode"] for one in children] == ["dog", "cat"]
    assert children[0]["description"]["valueString"] == "狗"
    assert "definition" not in told(posted)


@pytest.mark.parametrize(
    ("path", "asked", "result"),
    [
        ("CodeSystem/$validate-code", {"url": ANIMALS, "code": "dog"}, True),
        ("CodeSystem/$validate-code", {"url": ANIMALS, "code": "fish"}, False),
        ("CodeSystem/$validate-code", {"url": ANIMALS, "code": "dog", "version": "9"}, False),
        ("CodeSystem/animals/$validate-code", {"code": "dog", "display": "Cat"}, False),
        ("ValueSet/$validate-code", {"url": PETS["url"], "system": ANIMALS, "code": "dog"}, True),
        ("ValueSet/$validate-code", {"url": PETS["url"], "system": GENDER, "code": "male"}, False),
        ("ValueSet/pets/$validate-code", {"system": ANIMALS, "code": "mammal"}, False),
        ("ValueSet/pets/$validate-code", {"code": "cat", "inferSystem": "true"}, True),
        ("ValueSet/$validate-code", {"url": "http://hl7.org/fhir/ValueSet/administrative-gender",
                                     "system": GENDER, "code": "male"}, True),
    ],
)  # fmt: skip
def test_validate_code(client, path, asked, result):
    found = told(get(client, path, **asked))
    assert (found["result"], "message" in found) == (result, not result)
    posted = parameters(
        *(
            (name, {"url": "valueUri", "system": "valueUri", "code": "valueCode",
                    "inferSystem": "valueBoolean"}.get(name, "valueString"),
             True if value == "true" else value)
            for name, value in asked.items()
        )
    )  # fmt: skip
    assert told(client.post(f"/fhir/{path}", posted)) == found


def test_a_wrong_display_is_answered_in_chinese_with_the_right_one(client):
    found = told(get(client, "CodeSystem/$validate-code", url=ANIMALS, code="dog", display="猫",
                     displayLanguage="zh-CN"))  # fmt: skip
    assert (found["result"], found["display"]) == (False, "狗")
    assert "“猫”是编码“cat”的名称" in found["message"]
    (issue,) = found["issues"]["issue"]
    assert (issue["details"]["text"], issue["expression"]) == ("invalid-display", ["display"])


def test_a_concept_with_several_codings(client):
    concept = {"coding": [{"system": LOCAL, "code": "W"}, {"system": ANIMALS, "code": "dog"}]}
    body = parameters(
        ("url", "valueUri", PETS["url"]), ("codeableConcept", "valueCodeableConcept", concept)
    )
    found = told(client.post("/fhir/ValueSet/$validate-code", body))
    assert (found["result"], found["code"]) == (True, "dog")
    where = [one["expression"][0] for one in found["issues"]["issue"]]
    assert where == ["CodeableConcept.coding[0].system"]


def test_many_codes_at_once(client):
    good = parameters(("url", "valueUri", ANIMALS), ("code", "valueCode", "dog"))
    wrong = parameters(("url", "valueUri", ANIMALS), ("code", "valueCode", "fish"))
    broken = parameters(("nonsense", "valueCode", "dog"))
    body = parameters(*(("validation", "resource", one) for one in (good, wrong, broken)))
    answer = client.post("/fhir/CodeSystem/$batch-validate-code", body)
    assert issues(answer.json()) == []
    first, second, third = [one["resource"] for one in answer.json()["parameter"]]
    assert [one["parameter"][0]["valueBoolean"] for one in (first, second)] == [True, False]
    assert third["issue"][0]["details"]["text"] == "unknown-parameter"


def test_expand_by_url_by_instance_and_inline(client):
    assert expanded(get(client, "ValueSet/$expand", url=PETS["url"])) == ["dog", "cat"]
    assert expanded(client.get("/fhir/ValueSet/pets/$expand")) == ["dog", "cat"]
    inline = {**PETS, "url": f"{ROOT}/inline"}
    assert expanded(client.post("/fhir/ValueSet/$expand?filter=gou", inline)) == ["dog"]
    body = parameters(("valueSet", "resource", inline), ("count", "valueInteger", 1))
    assert expanded(client.post("/fhir/ValueSet/$expand", body)) == ["dog"]
    whole = get(client, "ValueSet/$expand", url=f"{ANIMALS}/all").json()["expansion"]
    assert whole["total"] == 3
    assert [one["code"] for one in whole["contains"][0]["contains"]] == ["dog", "cat"]
    assert whole["identifier"].startswith("urn:uuid:")


def test_the_catalogue_is_found_in_chinese_english_and_pinyin(client):
    url = f"{CANONICAL}/ValueSet/catalogue-lab"
    found = {
        text: set(expanded(get(client, "ValueSet/$expand", url=url, filter=text, count="50")))
        for text in ("白蛋白", "baidanbai", "bdb", "albumin")
    }
    assert found["白蛋白"]
    assert found["白蛋白"] <= found["baidanbai"] & found["bdb"]
    assert found["albumin"] & found["白蛋白"]


def test_subsumes(client):
    asked = {"system": ANIMALS, "codeA": "mammal", "codeB": "dog"}
    assert told(get(client, "CodeSystem/$subsumes", **asked))["outcome"] == "subsumes"
    found = get(client, "CodeSystem/animals/$subsumes", codeA="dog", codeB="mammal")
    assert told(found)["outcome"] == "subsumed-by"
    body = parameters(
        ("codingA", "valueCoding", {"system": ANIMALS, "code": "dog"}),
        ("codingB", "valueCoding", {"system": ANIMALS, "code": "cat"}),
    )
    assert told(client.post("/fhir/CodeSystem/$subsumes", body))["outcome"] == "not-subsumed"


def test_translate_both_ways(client):
    asked = told(get(client, "ConceptMap/$translate", url=MAP["url"], system=LOCAL, code="W"))
    assert asked["result"] is True
    match = {part["name"]: part for part in asked["match"]}
    assert match["concept"]["valueCoding"] == {"system": ANIMALS, "code": "dog", "display": "狗"}
    back = told(get(client, "ConceptMap/local/$translate", system=ANIMALS, code="dog",
                    reverse="true"))  # fmt: skip
    assert back["match"][1]["valueCoding"]["code"] == "W"
    nothing = told(get(client, "ConceptMap/$translate", system=LOCAL, code="X",
                       targetsystem=ANIMALS))  # fmt: skip
    assert (nothing["result"], "match" in nothing) == (False, False)


def test_translate_with_what_a_mapping_depends_on(client):
    code = (("system", "valueUri", LOCAL), ("code", "valueCode", "M"),
            ("url", "valueUri", MAP["url"]))  # fmt: skip
    silent = told(client.post("/fhir/ConceptMap/$translate", parameters(*code)))
    assert "depend on http://x/size" in silent["message"]
    size = {"coding": [{"system": f"{ROOT}/sizes", "code": "small"}]}
    dependency = [
        {"name": "element", "valueUri": "http://x/size"},
        {"name": "concept", "valueCodeableConcept": size},
    ]
    body = parameters(*code, ("dependency", "part", dependency))
    assert told(client.post("/fhir/ConceptMap/$translate", body))["result"] is True
    body = parameters(*code, ("dependency", "part", dependency[:1]))
    assert client.post("/fhir/ConceptMap/$translate", body).status_code == 400


def test_resources_that_come_along_count_for_one_call(client):
    extra = {
        "resourceType": "CodeSystem", "url": f"{ROOT}/extra", "status": "draft",
        "content": "complete", "concept": [{"code": "x"}],
    }  # fmt: skip
    asked = (("url", "valueUri", f"{ROOT}/extra"), ("code", "valueCode", "x"))
    body = parameters(*asked, ("tx-resource", "resource", extra))
    assert told(client.post("/fhir/CodeSystem/$validate-code", body))["result"] is True
    body = parameters(asked[1], ("codeSystem", "resource", extra))
    assert told(client.post("/fhir/CodeSystem/$validate-code", body))["result"] is True
    body = parameters(*asked)
    assert told(client.post("/fhir/CodeSystem/$validate-code", body))["result"] is False


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "rule"),
    [
        ("CodeSystem/$lookup?code=dog", 400, "required"),
        (f"CodeSystem/$lookup?system={ANIMALS}", 400, "required"),
        (f"CodeSystem/$lookup?system={ANIMALS}&code=fish", 404, "invalid-code"),
        ("CodeSystem/$lookup?system=http://nowhere.example.org&code=a", 404, "cs-unknown"),
        ("CodeSystem/animals/$lookup?code=dog", 404, "unknown-operation"),
        ("CodeSystem/$validate-code?code=dog", 400, "required"),
        (f"CodeSystem/$validate-code?url={ANIMALS}", 400, "required"),
        (f"CodeSystem/$validate-code?url={ANIMALS}&code=dog&system=x", 400, "unknown-parameter"),
        (f"ValueSet/$validate-code?url={ROOT}/pets&code=dog&codeSystem=x", 400,
         "unknown-parameter"),
        (f"ValueSet/$validate-code?system={ANIMALS}&code=dog", 400, "required"),
        (f"ValueSet/$validate-code?url={ROOT}/no&system={ANIMALS}&code=dog", 404, "vs-unknown"),
        (f"ValueSet/pets/$validate-code?url={ROOT}/pets&code=dog", 400, "parameter"),
        ("ValueSet/nobody/$validate-code?code=dog", 404, "unknown-id"),
        ("ValueSet/$expand", 400, "required"),
        (f"ValueSet/$expand?url={ROOT}/no", 404, "vs-unknown"),
        (f"ValueSet/$expand?url={ROOT}/pets&count=-1", 400, "parameter"),
        (f"ValueSet/$expand?url={ROOT}/pets&count=many", 400, "parameter-type"),
        (f"ValueSet/$expand?url={ROOT}/pets&filter={'x' * 201}", 400, "parameter"),
        (f"ValueSet/$expand?url={ROOT}/pets&system-version={ANIMALS}", 400, "parameter"),
        (f"ValueSet/$expand?url={ROOT}/pets&check-system-version={ANIMALS}|7", 404, "cs-unknown"),
        (f"CodeSystem/$subsumes?system={ANIMALS}&codeA=dog", 400, "required"),
        ("CodeSystem/$subsumes?codeA=dog&codeB=cat", 400, "required"),
        (f"CodeSystem/$subsumes?system={ANIMALS}&codeA=dog&codeB=fish", 404, "invalid-code"),
        (f"ConceptMap/$translate?system={LOCAL}&code=W", 400, "required"),
        ("ConceptMap/$translate?code=W&targetsystem=x", 400, "required"),
        (f"ConceptMap/$translate?url={ROOT}/no&system={LOCAL}&code=W", 404, "map-unknown"),
    ],
)  # fmt: skip
def test_a_question_without_meaning_is_refused(client, path, status, rule):
    answer = client.get(f"/fhir/{path}")
    assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (status, rule)


def test_resources_that_are_broken_or_of_another_type_are_refused(client):
    broken = {**PETS, "status": "nearly", "compose": {"include": "x"}}
    answer = client.post("/fhir/ValueSet/$expand", broken)
    assert (answer.status_code, len(answer.json()["issue"])) == (422, 2)
    person = {"resourceType": "Patient"}
    assert client.post("/fhir/ValueSet/$expand", person).status_code == 400
    body = parameters(("url", "valueUri", PETS["url"]), ("tx-resource", "resource", person))
    assert client.post("/fhir/ValueSet/$expand", body).status_code == 400
    hostile = {
        **PETS,
        "compose": {
            "include": [
                {"system": ANIMALS, "filter": [{"property": "code", "op": "regex", "value": "(a"}]}
            ]
        },
    }
    answer = client.post("/fhir/ValueSet/$expand", hostile)
    assert answer.status_code == 422
    assert answer.json()["issue"][0]["expression"] == ["ValueSet.compose.include[0].filter[0]"]


def test_too_much_is_too_costly(client):
    for url in ("http://hl7.org/fhir/ValueSet/all-languages", "http://unitsofmeasure.org/vs"):
        answer = get(client, "ValueSet/$expand", url=url)
        assert answer.status_code == 400, url
        assert answer.json()["issue"][0]["code"] == "too-costly"


# -- what is in force ----------------------------------------------------------------------------


def test_what_is_stored_counts_from_the_next_question_on(start):
    running = start(open_access=True)

    def known(code: str) -> bool:
        return told(get(running, "CodeSystem/$validate-code", url=ANIMALS, code=code))["result"]

    assert not known("dog")
    assert running.put("/fhir/CodeSystem/animals", SYSTEM).status_code == 201
    assert known("dog")
    assert not known("fish")
    changed = {**SYSTEM, "concept": [{"code": "fish"}]}
    assert running.put("/fhir/CodeSystem/animals", changed).status_code == 200
    assert known("fish")
    assert not known("dog")
    assert running.delete("/fhir/CodeSystem/animals").status_code == 204
    assert not known("fish")
    assert running.put("/fhir/CodeSystem/animals", SYSTEM).status_code in (200, 201)
    assert known("dog")


def test_more_changes_than_a_page_are_read_all(start):
    running = start(open_access=True)
    running.run(terminology(running.gateway))
    entries = [
        {"resource": {**SYSTEM, "id": f"s{n}", "url": f"{ANIMALS}{n}"},
         "request": {"method": "PUT", "url": f"CodeSystem/s{n}"}}
        for n in range(120)
    ]  # fmt: skip
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert running.post("/fhir", bundle).status_code == 200
    known = running.run(terminology(running.gateway))
    assert all(known.library.system(f"{ANIMALS}{n}") is not None for n in range(120))


def test_it_is_made_once_for_all_who_ask_at_once(gateway, client):
    async def all_at_once() -> list[Any]:
        return await asyncio.gather(*(terminology(gateway) for _ in range(20)))

    client.put("/fhir/ValueSet/pets", {**PETS, "title": "Changed"})
    made = client.run(all_at_once())
    assert all(one is made[0] for one in made)


def test_a_large_code_system_is_answered_in_pages(client):
    large = {
        **SYSTEM, "id": "large", "url": f"{ROOT}/large", "valueSet": f"{ROOT}/large/all",
        "concept": [{"code": f"c{n}", "display": f"Number {n}"} for n in range(12_000)],
    }  # fmt: skip
    assert client.put("/fhir/CodeSystem/large", large).status_code == 201
    url = f"{ROOT}/large/all"
    answer = get(client, "ValueSet/$expand", url=url)
    assert answer.json()["issue"][0]["code"] == "too-costly"
    pages = [
        expanded(get(client, "ValueSet/$expand", url=url, offset=str(offset), count="5000"))
        for offset in range(0, 15_000, 5_000)
    ]
    assert [code for page in pages for code in page] == [f"c{n}" for n in range(12_000)]
    assert client.delete("/fhir/CodeSystem/large").status_code == 204


def test_an_institution_may_ask_and_not_publish(start):
    running = start()
    headers = running.institution("org-a")
    asked = f"/fhir/CodeSystem/$lookup?system={GENDER}&code=male"
    assert running.get(asked, headers=headers).status_code == 200
    assert running.get(asked).status_code == 401
    assert running.put("/fhir/CodeSystem/animals", SYSTEM, headers=headers).status_code == 403


def test_answers_about_nobody_leave_no_event_and_refusals_do(client):
    def events() -> int:
        return client.get("/fhir/AuditEvent?_summary=count").json()["total"]

    before = events()
    get(client, "CodeSystem/$lookup", system=ANIMALS, code="dog")
    after = events()
    assert after - before == 1  # the first count itself
    get(client, "CodeSystem/$lookup", system=ANIMALS, code="fish")
    assert events() - after == 2


def test_capabilities_name_what_is_here(client):
    capabilities = client.get("/fhir/metadata?mode=terminology").json()
    assert issues(capabilities) == []
    systems = {one["uri"]: one for one in capabilities["codeSystem"]}
    assert systems[ANIMALS]["version"][0]["code"] == "1"
    assert {GENDER, f"{CANONICAL}/CodeSystem/catalogue-lab"} <= systems.keys()
    names = {one["name"] for one in capabilities["expansion"]["parameter"]}
    assert {"filter", "offset", "count", "activeOnly", "displayLanguage"} <= names
    statement = client.get("/fhir/metadata").json()
    claimed = "http://hl7.org/fhir/CapabilityStatement/terminology-server"
    assert (claimed in statement["instantiates"]) == ("$expand" in OPERATIONS)
