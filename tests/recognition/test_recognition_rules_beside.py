"""What stands beside the rules: other levels, other definitions, other records of a step."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from recognition_cases import CATALOGUE, RULE_SET, candidate, plan_definition, query
from test_recognition_rules_lifecycle import condition, edited, found, plan, with_rule
from test_recognition_rules_resolve import action, depth, overlay, overlay_definition

from fhir_gateway.recognition import rules_condition
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.record import render_item
from fhir_gateway.recognition.rules import load_rule_set
from fhir_gateway.recognition.rules_diff import differences
from fhir_gateway.recognition.rules_proofs import Person, provenance, read_proof
from fhir_gateway.recognition.rules_resolve import resolve

Json = dict[str, Any]


# -- levels ----------------------------------------------------------------------------------------


def test_lint_says_where_an_overlay_would_hold_and_what_it_narrows() -> None:
    over = overlay_definition(action("item-listed@1", ["negative", "L001"]), area="110000")
    assert not {row[1] for row in found(over, [plan("active")])} & {"lint-area", "lint-base"}
    base = ("error", "lint-base", "PlanDefinition.relatedArtifact")
    for others in ([], [plan("retired")], [overlay_definition(area="120000") | over]):
        assert base in found(over, others)
    nowhere = overlay_definition(action("item-listed@1", ["negative", "L001"]), area="999999")
    place = ("error", "lint-area", "PlanDefinition.jurisdiction")
    assert place in found(nowhere, [plan("active")])


def test_lint_says_what_of_an_overlay_is_not_followed() -> None:
    wider = overlay_definition(
        action("report-final@1", ["final", "preliminary"]),
        action("item-listed@1", severity="informs"),
        area="110000",
    )
    rows = found(wider, [plan("active")])
    assert ("error", "lint-widens", "PlanDefinition.action[0].extension[0]") in rows
    assert ("error", "lint-widens", "PlanDefinition.action[1]") in rows


def test_an_overlay_may_repeat_what_the_level_above_decides() -> None:
    noted: list[Any] = []
    window = action("within-window@1", ["start", "clinical"])
    resolve(RULE_SET, [overlay(window, area="110000")], depth, noted)
    assert noted == []
    resolve(RULE_SET, [overlay(action("within-window@1", ["start", "issued"]), area="110000")],
            depth, noted)  # fmt: skip
    assert [one.parameter for one in noted] == ["start"]
    # a ground is no narrower than another: it may be repeated, and stays that of the level above
    repeat = next(one for one in RULE_SET.rules if "ground" in one.parameters.__struct_fields__)
    above: Any = repeat.parameters
    for ground, told in ((above.ground, []), ("N9", ["ground"])):
        noted.clear()
        over = overlay(action(repeat.name, ["ground", ground]), area="110000")
        rules = {one.name: one for one in resolve(RULE_SET, [over], depth, noted).rules}
        resolved: Any = rules[repeat.name].parameters
        assert resolved.ground == above.ground
        assert [one.parameter for one in noted] == told


# -- what is read over -----------------------------------------------------------------------------


def test_parts_and_documents_of_others_change_no_rule() -> None:
    plain = edited("item-listed", ["negative", "L001"])
    more = edited("item-listed", ["negative", "L001"])
    for rule in more["action"]:
        for extension in rule.get("extension", ()):
            extension.get("extension", []).append({"url": "remark", "valueString": "本地"})
        rule["documentation"] = [*rule["documentation"], {"type": "citation", "url": "urn:x"}]
    assert list(differences(load_rule_set(plain), load_rule_set(more))) == []


def test_a_condition_with_another_title_has_the_same_expression() -> None:
    before = with_rule(condition("status = 'final'"))
    after = with_rule(condition("status = 'final'") | {"title": "另一标题"})
    told = list(differences(load_rule_set(before), load_rule_set(after)))
    assert told == ["~ condition@1#extra title: 不在透析 → 另一标题"]


# -- conditions ------------------------------------------------------------------------------------


def test_a_condition_that_looks_at_something_is_no_constant() -> None:
    for expression in ("status = 'final'", "%rootResource.intent = 'order'", "exists()"):
        rows = found(with_rule(condition(expression)) | {"status": "draft"})
        assert "lint-constant" not in {row[1] for row in rows}, expression


def test_a_condition_sees_an_examination_as_a_report() -> None:
    rules = load_rule_set(with_rule(condition("%resource is DiagnosticReport")))
    asked = query({"item": "CT-HEAD"})
    (item,) = decide(asked, [candidate("CT-HEAD")], rules, CATALOGUE).items
    assert item.lines[-1].verdict == "pass"
    (item,) = decide(query(), [candidate("K")], rules, CATALOGUE).items
    assert item.lines[-1].verdict == "fail"


def test_a_condition_has_no_definitions_to_ask() -> None:
    """What a decision sees is its facts alone, whatever profiles are loaded that day."""
    url = "http://hl7.org/fhir/StructureDefinition/Observation"
    library = rules_condition._LIBRARY
    assert (library.find(url), library.profile(url)) == (None, None)


# -- the records of simulation and approval --------------------------------------------------------


def proof(**changes: Any) -> Json:
    record = provenance(
        "approval",
        id="x",
        digest="abc",
        by=Person("乙", "Practitioner/b"),
        recorded="2026-11-20T00:00:00.000Z",
        says="approved",
        version="PlanDefinition/x/_history/1",
    )
    return record | changes


def test_a_proof_names_the_person_by_reference_too() -> None:
    record = proof()
    assert record["agent"][0]["who"] == {"reference": "Practitioner/b", "display": "乙"}
    read = read_proof(record)
    assert read is not None
    assert (read.step, read.digest, read.person) == (
        "approval", "abc", Person("乙", "Practitioner/b")
    )  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [
        {"activity": None},
        {"agent": [{"who": {"reference": "Practitioner/b"}}]},
        {"entity": []},
        {"entity": [{"role": "source", "what": {"identifier": {"value": "urn:uuid:1"}}}]},
    ],
)
def test_a_record_that_lacks_step_person_or_digest_proves_nothing(changes: Json) -> None:
    assert read_proof(proof(**changes)) is None


# -- the record of a decision ----------------------------------------------------------------------


def test_a_record_names_only_the_groups_of_lines_that_there_are() -> None:
    """A result that failed everything has no passed rules, a small set none that do not apply."""
    definition = plan_definition()
    names = ("item-listed", "within-window")
    by_name = {one["code"][0]["coding"][0]["code"]: one for one in definition["action"]}
    passed = load_rule_set(
        definition | {"action": [by_name[name] for name in names], "status": "active"}
    )
    (item,) = decide(query(), [candidate("K")], passed, CATALOGUE).items
    assert '"name":"pass"' in render_item(item)
    assert '"not-applicable"' not in render_item(item)
    failed = msgspec.structs.replace(item.lines[0], verdict="fail", reason="item-not-listed")
    item = msgspec.structs.replace(item, lines=(failed,))
    assert '"name":"pass"' not in render_item(item)
    assert "item-listed@1 fail item-not-listed" in render_item(item)
