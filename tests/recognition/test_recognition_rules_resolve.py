"""Levels: narrowed deterministically, never widened, in whatever order the store gives them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from recognition_cases import (
    CATALOGUE,
    RULE_SET,
    candidate,
    code_of,
    parameter,
    plan_definition,
    query,
    rule_set,
)

from fhir_gateway.recognition.criteria import CRITERIA
from fhir_gateway.recognition.decide import decide
from fhir_gateway.recognition.parameters import WindowRule
from fhir_gateway.recognition.rules import RANK, RuleSet, load_rule_set
from fhir_gateway.recognition.rules_parameters import SEVERITY_URL
from fhir_gateway.recognition.rules_resolve import (
    NARROWER,
    Widened,
    applicable,
    direction,
    in_order,
    resolve,
)
from fhir_gateway.recognition.rules_scope import CONTEXT_TYPE
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.area import AREA_SYSTEM

BASE_URL = f"{CANONICAL}/PlanDefinition/recognition"
DEPTH = {"CN": 1, "JJJL": 2, "JJJ": 3, "110000": 4, "110105": 5}
LATE = 4_102_444_800_000_000  # 2100


#: The versions of the criteria that the shipped rule set names.
VERSIONS = dict(rule.name.split("@") for rule in RULE_SET.rules)


def depth(area: str) -> int:
    return DEPTH.get(area, 0)


def action(name: str, *rows: list[Any], severity: str = "") -> dict[str, Any]:
    """A rule of an overlay."""
    code = name.partition("@")[0]
    version = VERSIONS[code]
    extension = [parameter(*row) for row in rows]
    if severity:
        extension.append({"url": SEVERITY_URL, "valueCode": severity})
    coding = {"system": f"{CANONICAL}/CodeSystem/criterion", "version": version, "code": code}
    return {
        "title": "本地规则",
        "code": [{"coding": [coding]}],
        "documentation": [{"type": "citation", "label": "本地通知"}],
        **({"extension": extension} if extension else {}),
    }


def overlay(*actions: dict[str, Any], area: str = "", venue: str = "", **head: Any) -> RuleSet:
    """A rule set of an area or an institution over the national one."""
    return load_rule_set(overlay_definition(*actions, area=area, venue=venue, **head))


def overlay_definition(
    *actions: dict[str, Any], area: str = "", venue: str = "", **head: Any
) -> dict[str, Any]:
    plan: dict[str, Any] = {
        "resourceType": "PlanDefinition",
        "id": f"over-{area or venue}",
        "url": f"{CANONICAL}/PlanDefinition/over-{area or venue}",
        "version": "1.0.0",
        "status": "active",
        "effectivePeriod": {"start": "2022-03-01"},
        "relatedArtifact": [{"type": "derived-from", "resource": BASE_URL}],
        "action": list(actions),
    }
    if area:
        plan["jurisdiction"] = [{"coding": [{"system": AREA_SYSTEM, "code": area}]}]
    if venue:
        code = {"system": CONTEXT_TYPE, "code": "venue"}
        reference = {"reference": f"Organization/{venue}"}
        plan["useContext"] = [{"code": code, "valueReference": reference}]
    return plan | head


def test_a_base_without_overlays_is_itself() -> None:
    assert resolve(RULE_SET, [], depth) is RULE_SET
    assert RULE_SET.layers == ()


def test_the_nearer_level_overrides_a_window_longer_or_shorter() -> None:
    city = overlay(action("within-window@1", ["override", 3, "K"]), area="110000")
    house = overlay(action("within-window@1", ["override", 9, "K"]), venue="receiver")
    entry = CATALOGUE.items["K"]
    for layers, days in (([city], 3), ([house], 9), ([house, city], 9)):
        assert resolve(RULE_SET, layers, depth).window(entry).days == days
    assert resolve(RULE_SET, [city], depth).window(CATALOGUE.items["CT-HEAD"]).days == 30


def test_an_overridden_window_that_names_no_source_is_not_published() -> None:
    city = overlay(action("within-window@1", ["override", 9, "K"]), area="110000")
    found = [candidate("K")]
    assert decide(query(), found, RULE_SET, CATALOGUE).items[0].suggest
    (item,) = decide(query(), found, resolve(RULE_SET, [city], depth), CATALOGUE).items
    assert (item.outcome, item.suggest, item.window_source) == ("recognize", False, "rule-set")


def test_a_decision_names_every_level_and_one_answer_never_mixes_them() -> None:
    city = overlay(action("item-listed@1", ["negative", "K"]), area="110000")
    rules = resolve(RULE_SET, [city], depth)
    decision = decide(query(), [candidate("K")], rules, CATALOGUE)
    assert decision.rule_set == RULE_SET.canonical
    assert decision.layers == (RULE_SET.canonical, city.canonical)
    assert decision.items[0].reason == "item-not-listed"


@pytest.mark.parametrize(
    ("over", "name", "widened"),
    [
        (action("report-final@1", ["final", "preliminary"]), "final", True),
        (action("report-final@1", ["final", "final"]), "final", False),
        (action("report-final@1", ["void", "cancelled"]), "void", False),
        (action("printed-mark@1", ["printed_mark_required", True]), "printed_mark_required", False),
        (action("reminded-by-default@1", ["remind", "US-THYROID"]), "remind", True),
        (action("window-published@1", ["prefixes", "compiled"]), "prefixes", True),
        (action("within-window@1", ["start", "issued"]), "start", True),
        (action("within-window@1", ["use_catalogue", False]), "use_catalogue", False),
        (action("identity-certain@1", severity="decides"), "", False),
        (action("specimen-comparable@1", severity="informs"), "", True),
        (action("quality-evaluation@1", severity="decides"), "", False),
        (action("newest-first@2", severity="decides"), "", False),
        (action("within-window@2", ["count", "hours"]), "count", False),
        (action("within-window@2", ["start", "issued"]), "start", True),
        (action("identity-certain@2", ["conflict", "refused"]), "conflict", False),
        (action("identity-certain@2", ["own_record", False]), "own_record", False),
        (action("always-repeat@2", ["unless_known", "K"]), "unless_known", False),
        (action("contrast-comparable@2", ["stated", True]), "stated", False),
        (action("region-comparable@1", ["same", "SKULL", "HEAD"]), "same", False),
        (action("region-comparable@1", ["same", "CHEST", "HEAD"]), "same", True),
        (action("wider-examination@1", ["covers", "CT-HEAD", "CT-TRUNK"]), "covers", True),
        (action("newest-first@2", ["percent", "5", "K"]), "percent", False),
        (action("newest-first@2", ["percent", "7", "K"]), "percent", True),
        (action("newest-first@2", ["absolute", "7", "K-FREE"]), "absolute", True),
        (action("images-retrievable@2", ["ground", "N6"]), "ground", True),
    ],
)
def test_what_would_widen_is_said_and_not_followed(
    over: dict[str, Any], name: str, widened: bool
) -> None:
    noted: list[Widened] = []
    rules = resolve(RULE_SET, [overlay(over, venue="receiver")], depth, noted)
    assert [one.parameter for one in noted] == ([name] if widened else [])
    rule = next(one for one in rules.rules if one.name.startswith(f"{code_of(over)}@"))
    before = next(one for one in RULE_SET.rules if one.name == rule.name)
    assert RANK[rule.criterion.effect] <= RANK[before.criterion.effect]


def test_a_severity_of_an_overlay_counts_when_it_is_stricter() -> None:
    strict = overlay(action("quality-evaluation@1", severity="decides"), venue="receiver")
    found = [candidate("K", evaluations=[])]
    (before,) = decide(query(), found, RULE_SET, CATALOGUE).items
    (after,) = decide(query(), found, resolve(RULE_SET, [strict], depth), CATALOGUE).items
    assert (before.outcome, after.outcome) == ("view-only", "not-recognizable")


def test_a_base_that_is_narrowed_keeps_the_narrower_of_both() -> None:
    base = rule_set(
        {
            "wider-examination": [["covers", "CT-HEAD", "CT-TRUNK"]],
            "within-window": [["count", "hours"]],
            "identity-certain": [["conflict", "refused"]],
        }
    )
    over = overlay(
        action("within-window@2", ["count", "days"]),
        action("identity-certain@2", ["conflict", "undecided"]),
        action("wider-examination@1", ["covers", "CT-HEAD", "CT-TRUNK"]),
        venue="receiver",
    )
    noted: list[Widened] = []
    rules = {one.name: one.parameters for one in resolve(base, [over], depth, noted).rules}
    assert {one.parameter for one in noted} == {"count", "conflict"}
    assert rules["within-window@2"].count == "hours"
    assert rules["identity-certain@2"].conflict == "refused"
    assert resolve(base, [over], depth).wider == {"CT-HEAD": ("CT-TRUNK",)}


def test_every_direction_names_a_parameter_that_there_is() -> None:
    known = {
        (model, name)
        for criterion in CRITERIA.values()
        for model in criterion.parameters.__mro__
        for name in criterion.parameters.__struct_fields__
    }
    assert set(NARROWER) <= known
    assert direction(WindowRule, "no-such") is None


def test_an_overlay_for_another_base_leaves_a_gap() -> None:
    pinned = overlay(action("item-listed@1", ["negative", "K"]), area="110000")
    wrong = overlay(
        action("item-listed@1"),
        area="110000",
        relatedArtifact=[{"type": "derived-from", "resource": f"{BASE_URL}|9.9.9"}],
    )
    assert applicable([RULE_SET, pinned], ["110000"], "", LATE, "Asia/Shanghai") is not None
    assert applicable([RULE_SET, wrong], ["110000"], "", LATE, "Asia/Shanghai") is None
    assert applicable([RULE_SET, wrong], ["310000"], "", LATE, "Asia/Shanghai") == (RULE_SET, [])
    assert applicable([pinned], ["110000"], "", LATE, "Asia/Shanghai") is None


# -- laws ------------------------------------------------------------------------------------------

CODES = ("K", "CT-HEAD", "KNEE", "US-THYROID", "L088")
STATES = ("final", "amended", "corrected", "appended", "preliminary")
ROWS = st.one_of(
    st.builds(lambda code: action("item-listed@1", ["negative", code]), st.sampled_from(CODES)),
    st.builds(
        lambda code: action("item-listed@1", ["classes", code]),
        st.sampled_from(("临床化学", "放射")),
    ),
    st.builds(
        lambda states: action("report-final@1", *(["final", one] for one in sorted(states))),
        st.sets(st.sampled_from(STATES), min_size=1),
    ),
    st.builds(lambda yes: action("printed-mark@1", ["printed_mark_required", yes]), st.booleans()),
    st.builds(
        lambda codes: action("reminded-by-default@1", *(["remind", one] for one in sorted(codes))),
        st.sets(st.sampled_from(CODES), min_size=1),
    ),
    st.builds(
        lambda name, severity: action(name, severity=severity),
        st.sampled_from(("quality-evaluation@1", "specimen-comparable@1", "printed-mark@1")),
        st.sampled_from(("decides", "lowers", "informs")),
    ),
)


def _unique(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({code_of(row): row for row in rows}.values())


ACTIONS = st.lists(ROWS, min_size=1, max_size=4).map(_unique)
PLACES = st.lists(
    st.sampled_from([("JJJL", ""), ("JJJ", ""), ("110000", ""), ("110105", ""), ("", "receiver")]),
    min_size=1,
    max_size=4,
    unique=True,
)
STATUS = st.sampled_from((*STATES, "cancelled", "unknown"))
_WORSE = {"recognize": 3, "cannot-decide": 2, "view-only": 1, "not-recognizable": 0}


@st.composite
def overlays(draw: Any) -> list[RuleSet]:
    return [overlay(*draw(ACTIONS), area=area, venue=venue) for area, venue in draw(PLACES)]


def _all(rules: RuleSet, status: str) -> list[Any]:
    found = []
    for code in CODES:
        own = {"report_status": status} if code in ("K", "L088") else {"status": status}
        results = [candidate(code, **own)]
        asked = query({"item": code, "laterality": "R" if code == "KNEE" else ""})
        found += decide(asked, results, rules, CATALOGUE).items
    return found


@settings(max_examples=examples(60), deadline=None)
@given(layers=overlays(), data=st.data())
def test_resolution_does_not_depend_on_the_order_of_storage(
    layers: list[RuleSet], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(layers))
    one, other = (resolve(RULE_SET, order, depth) for order in (layers, shuffled))
    assert (one.digest, one.layers) == (other.digest, other.layers)
    assert [_told(rule) for rule in one.rules] == [_told(rule) for rule in other.rules]
    found = applicable([*shuffled, RULE_SET], list(DEPTH), "receiver", LATE, "Asia/Shanghai")
    assert found is not None
    assert in_order(found[1], depth) == in_order(layers, depth)


def _told(rule: Any) -> tuple[Any, ...]:
    return (rule.name, rule.parameters, rule.criterion.effect, rule.clause)


@settings(max_examples=examples(60), deadline=None)
@given(layers=overlays(), status=STATUS)
def test_what_is_recognised_is_only_ever_narrowed(layers: list[RuleSet], status: str) -> None:
    """No window is overridden here: those alone are the nearer level's own."""
    before = _all(RULE_SET, status)
    after = _all(resolve(RULE_SET, layers, depth), status)
    for old, new in zip(before, after, strict=True):
        assert not (new.outcome == "recognize" and old.outcome != "recognize"), (old, new)
        assert not (new.suggest and not old.suggest)


@settings(max_examples=examples(40), deadline=None)
@given(layers=overlays(), more=overlays())
def test_one_more_level_narrows_further(layers: list[RuleSet], more: list[RuleSet]) -> None:
    fewer = resolve(RULE_SET, layers, depth)
    taken = {one.scope[:2] for one in layers}
    added = [*layers, *(one for one in more if one.scope[:2] not in taken)]
    for old, new in zip(
        _all(fewer, "final"), _all(resolve(RULE_SET, added, depth), "final"), strict=True
    ):
        assert not (new.outcome == "recognize" and old.outcome != "recognize")


def test_every_order_of_four_levels_is_one_digest() -> None:
    layers = [
        overlay(action("item-listed@1", ["negative", "K"]), area=area, venue=venue)
        for area, venue in (("JJJ", ""), ("110000", ""), ("110105", ""), ("", "receiver"))
    ]
    orders: list[Sequence[RuleSet]] = list(itertools.permutations(layers))
    assert len({resolve(RULE_SET, order, depth).digest for order in orders}) == 1
    assert resolve(RULE_SET, layers, depth).digest != RULE_SET.digest


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"relatedArtifact": []}, "rule-set-base"),
        ({"jurisdiction": [{"coding": [{"system": "urn:x", "code": "1"}]}]}, "rule-set-scope"),
        (
            {"relatedArtifact": [
                {"type": "derived-from", "resource": BASE_URL},
                {"type": "depends-on", "resource": f"{CANONICAL}/CodeSystem/x"},
            ]},
            "rule-set-base",
        ),
    ],
)  # fmt: skip
def test_an_overlay_that_says_too_little_or_too_much_is_refused(
    change: dict[str, Any], rule: str
) -> None:
    with pytest.raises(Exception) as caught:
        overlay(action("item-listed@1"), area="110000", **change)
    assert rule in {issue.rule for issue in caught.value.issues}  # type: ignore[attr-defined]


def test_the_digest_of_a_national_set_is_what_it_was() -> None:
    plan = plan_definition()
    same = json.loads(json.dumps(plan)) | {"jurisdiction": [{"coding": [
        {"system": "urn:iso:std:iso:3166", "code": "CN"}]}]}  # fmt: skip
    assert load_rule_set(same).digest == load_rule_set(plan).digest
