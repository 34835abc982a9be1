"""What was judged sound is not judged again by the same context, and by no other."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context, Finding
from fhir_gateway.fhir.wire import parse

SAMPLES = sorted((Path(__file__).parent / "samples").glob("*.json"))
URL = "urn:example:codes"
OBSERVATION: dict[str, Any] = {
    "resourceType": "Observation", "status": "final",
    "code": {"coding": [{"system": URL, "code": "a"}]},
    "category": [{"text": "laboratory"}],
}  # fmt: skip


class Codes:
    """A look at codes that counts, and that somebody may change."""

    def __init__(self, wrong: set[str]) -> None:
        self.wrong, self.asked = wrong, 0
        self.context = Context(coding=self.look)

    def look(self, coding: Any) -> tuple[Finding, ...]:
        self.asked += 1
        bad = coding.get("code") in self.wrong
        return (Finding("code", "code-invalid", "error", "is wrong", ".code"),) if bad else ()


def rules(resource: dict[str, Any], context: Context, *, hints: bool = False) -> list[str]:
    return [str(one.expression) for one in judge(resource, context, hints=hints)]


def test_a_sound_member_is_asked_about_once() -> None:
    codes = Codes(set())
    for _ in range(3):
        assert rules(OBSERVATION, codes.context) == []
    assert codes.asked == 1
    other = {**OBSERVATION, "code": {"coding": [{"system": URL, "code": "b"}]}}
    rules(other, codes.context)
    assert codes.asked == 2


def test_what_is_wrong_is_told_each_time() -> None:
    codes = Codes({"a"})
    for _ in range(3):
        assert rules(OBSERVATION, codes.context) == ["Observation.code.coding[0].code"]
    assert codes.asked == 3


def test_another_context_has_forgotten_what_was_sound() -> None:
    before = Codes(set())
    assert rules(OBSERVATION, before.context) == []
    after = Codes({"a"})
    assert rules(OBSERVATION, after.context) == ["Observation.code.coding[0].code"]
    changed = replace(before.context, coding=after.look, sound=set())
    assert rules(OBSERVATION, changed) == ["Observation.code.coding[0].code"]


def test_the_same_bytes_in_another_element_are_judged_there() -> None:
    codes = Codes(set())
    same = {"coding": [{"system": URL, "code": "a"}]}
    for _ in range(2):
        assert rules({**OBSERVATION, "code": same, "method": same}, codes.context) == []
    assert codes.asked == 2
    assert {name for _, name, _ in codes.context.sound} == {"code", "category", "method"}


def test_hints_and_extensions_are_never_remembered() -> None:
    context = Context()
    rules(OBSERVATION, context, hints=True)
    assert not context.sound
    said = {"extension": [{"url": "urn:x", "valueString": "y"}], "text": "laboratory"}
    rules({**OBSERVATION, "category": [said]}, context)
    assert {name for _, name, _ in context.sound} == {"code"}


def test_a_context_that_has_seen_all_says_what_a_new_one_says() -> None:
    warm = Context()
    resources = [parse(json.dumps(one).encode()) for path in SAMPLES
                 for one in [json.loads(path.read_text(encoding="utf-8"))]
                 if isinstance(one, dict) and "resourceType" in one]  # fmt: skip
    for _ in range(2):
        for one in resources:
            assert judge(one, warm, hints=False) == judge(one, Context(), hints=False)


def test_contained_resources_are_judged_as_before() -> None:
    inside = {"resourceType": "Specimen", "id": "s", "meta": {"versionId": "1"}}
    wrong = {**OBSERVATION, "contained": [inside]}
    found = {one.rule for one in judge(wrong, Context(), hints=False)}
    assert {"dom-3", "dom-4"} <= found
