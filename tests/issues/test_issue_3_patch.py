"""Patches that are carried out again, that grow without end, that make the loop wait."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from issue_cases import rule_of
from running import Running

from fhir_gateway.errors import TooCostly
from fhir_gateway.fhir.fhirpath_patch import apply_fhirpath_patch, read_fhirpath_patch
from fhir_gateway.fhir.json_patch import apply_json_patch

JSON_PATCH = {"content-type": "application/json-patch+json"}


def operation(kind: str, path: str, **parts: Any) -> dict[str, Any]:
    values = [{"name": name, **value} for name, value in parts.items()]
    return {"name": "operation", "part": [
        {"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}, *values,
    ]}  # fmt: skip


def parameters(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(operations)}


def named(family: str) -> dict[str, Any]:
    """Adds a name, and to that name a given one."""
    return parameters(
        operation("add", "Patient", name={"valueString": "name"},
                  value={"valueHumanName": {"family": family}}),
        operation("add", f"Patient.name.where(family = '{family}')",
                  name={"valueString": "given"}, value={"valueString": "明"}),
    )  # fmt: skip


def test_a_patch_that_is_carried_out_again_adds_nothing_twice(client: Running) -> None:
    client.put("/fhir/Patient/crowd", {"resourceType": "Patient", "id": "crowd"})
    families = [f"n{number}" for number in range(8)]

    async def crowd() -> list[int]:
        answers = await asyncio.gather(*(
            client.http.patch("/fhir/Patient/crowd", json=named(family),
                              headers={"content-type": "application/fhir+json"})
            for family in families
        ))  # fmt: skip
        return [answer.status_code for answer in answers]

    assert client.run(crowd()) == [200] * 8
    names = client.get("/fhir/Patient/crowd").json()["name"]
    assert sorted(name["family"] for name in names) == families
    assert [name["given"] for name in names] == [["明"]] * 8


def test_a_patch_leaves_its_own_values_as_they_are() -> None:
    operations = read_fhirpath_patch(named("王"))
    for _ in range(2):
        patient: dict[str, Any] = {"resourceType": "Patient"}
        apply_fhirpath_patch(patient, operations)
        assert patient["name"] == [{"family": "王", "given": ["明"]}]


def test_copies_of_a_long_text_are_bounded_by_its_length() -> None:
    patient = {"resourceType": "Patient", "text": "x" * 1_000_000}
    copies = [{"op": "copy", "from": "/text", "path": f"/t{n}"} for n in range(1_000)]
    with pytest.raises(TooCostly):
        apply_json_patch(patient, copies)
    named_long = {"resourceType": "Patient", "a": {"n" * 1_000_000: 1}}
    copies = [{"op": "copy", "from": "/a", "path": f"/t{n}"} for n in range(1_000)]
    with pytest.raises(TooCostly):
        apply_json_patch(named_long, copies)


def test_a_long_list_is_not_handled_again_and_again() -> None:
    patient = {"resourceType": "Patient", "name": [{"given": ["a"] * 300_000}]}
    add = operation("add", "Patient.name", name={"valueString": "given"},
                    value={"valueString": "b"})  # fmt: skip
    with pytest.raises(TooCostly) as caught:
        apply_fhirpath_patch(patient, read_fhirpath_patch(parameters(*[add] * 1_000)))
    assert caught.value.issues[0].rule == "patch-limit"
    assert len(patient["name"][0]["given"]) == 300_000
    apply_fhirpath_patch(patient, read_fhirpath_patch(parameters(add)))
    assert len(patient["name"][0]["given"]) == 300_001
    long = operation("add", "Patient", name={"valueString": "name"},
                     value={"valueHumanName": {"given": ["a"] * 300_000}})  # fmt: skip
    with pytest.raises(TooCostly):
        apply_fhirpath_patch({"resourceType": "Patient"},
                             read_fhirpath_patch(parameters(long, *[add] * 999)))  # fmt: skip


def test_a_patch_makes_nothing_that_could_not_be_sent(start: Any) -> None:
    server: Running = start(open_access=True, body_limit=10_000)
    server.put("/fhir/Patient/big", {"resourceType": "Patient", "id": "big"})
    statuses = []
    for number in range(4):
        text = f'[{{"op": "add", "path": "/contact/-", "value": {{"id": "{number}", ' + (
            '"name": {"text": "%s"}}}]' % ("x" * 4_000)
        )
        if not number:
            text = text.replace("/contact/-", "/contact").replace(
                '"value": ', '"value": ['
            ).replace("}}}]", "}}]}]")  # fmt: skip
        answer = server.request(
            "PATCH", "/fhir/Patient/big", content=text.encode(), headers=JSON_PATCH
        )
        statuses.append(answer.status_code)
    assert statuses == [200, 200, 413, 413]
    assert rule_of(answer) == (413, "body-limit")
    assert len(server.get("/fhir/Patient/big").content) < 10_000
