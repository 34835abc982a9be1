"""Consents as rows: cases as data, an oracle that knows no rows, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from consent_made import WHEN, actor, consent, provision
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.consent import closed, flatten, permitted
from fhir_gateway.security.policy import Policy, load_policy

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = load_policy(ROOT / "profiles" / "access" / "policy.toml")
ZONE = "Asia/Shanghai"
CASES = json.loads((ROOT / "tests/cases/access/consents.json").read_text(encoding="utf-8"))
SAID = {True: "permit", False: "deny", None: "nothing"}


def under(basis: str) -> Policy:
    return replace(SHIPPED, basis=basis)


def key(institution: str) -> int:
    return key64(f"Organization/{institution}")


def at(day: str) -> int:
    return date_range(f"{day}T12:00:00+08:00")[0]


@pytest.mark.parametrize("case", CASES, ids=[one["case"] for one in CASES])
def test_a_consent_says_what_its_case_says(case: dict[str, Any]) -> None:
    flat = flatten(consent(case["provision"]), under(case["basis"]), ZONE)
    assert flat.issues == ()
    for ask in case["asks"]:
        who, whose = key(ask["who"]), key(ask["whose"])
        said = permitted(flat.rows, who, whose, ask["class"], at(str(ask["on"])))
        assert SAID[said] == ask["says"], ask


# -- an oracle that walks the provisions and knows neither rows nor ranks --------------------------

DAYS = ("2026-02-01", "2026-03-01", "2026-04-01")
PEOPLE, CLASSES = ("a", "b", "c"), {"ordinary": 0, "psychiatry": 5, "hiv": 6}


def some(names: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)


def words(depth: int) -> st.SearchStrategy[dict[str, Any]]:
    optional: dict[str, st.SearchStrategy[Any]] = {
        "to": some(PEOPLE),
        "of": some(PEOPLE),
        "classes": some(tuple(CLASSES)),
        "from": st.sampled_from(DAYS),
        "until": st.sampled_from(DAYS),
    }
    if depth:
        optional["but"] = st.lists(words(depth - 1), max_size=2)
    return st.fixed_dictionaries({"type": st.sampled_from(["permit", "deny"])}, optional=optional)


def meets(one: dict[str, Any], who: str, whose: str, number: int, day: str) -> bool:
    return (
        ("to" not in one or who in one["to"])
        and ("of" not in one or whose in one["of"])
        and ("classes" not in one or number in {CLASSES[name] for name in one["classes"]})
        and ("from" not in one or str(one["from"]) <= day)
        and ("until" not in one or day <= str(one["until"]))
    )


def spoken(
    one: dict[str, Any], outer: list[dict[str, Any]], ask: tuple[str, str, int, str]
) -> Iterator[tuple[int, int, bool]]:
    """Every provision that speaks of the question: (how particular, how deep, permits)."""
    chain = [*outer, one]
    if not all(meets(part, *ask) for part in chain):
        return
    permits = one["type"] == "permit"
    if not permits or ask[2] == 0 or any("classes" in part for part in chain):
        yield max(particular(chain[: n + 1]) for n in range(len(chain))), len(chain), permits
    for inner in one.get("but", ()):
        yield from spoken(inner, chain, ask)


def particular(chain: list[dict[str, Any]]) -> int:
    named = {name for part in chain for name in ("to", "of", "classes") if name in part}
    if chain[-1]["type"] == "permit":
        return int("to" in named)
    return 2 if named & {"of", "classes"} else 1


def oracle(root: dict[str, Any], ask: tuple[str, str, int, str]) -> bool | None:
    said = list(spoken(root, [], ask))
    if not said:
        return None
    best = max(one[:2] for one in said)
    return all(permits for *place, permits in said if tuple(place) == best)


@settings(max_examples=examples(150))
@given(words(3))
def test_nested_provisions_agree_with_a_walk_over_them(root: dict[str, Any]) -> None:
    flat = flatten(consent(root), under("standing-opt-in"), ZONE)
    if flat.issues:  # a nested provision outside its parent's: refused, and never guessed
        assert {issue.rule for issue in flat.issues} == {"consent"}
        return
    for who in PEOPLE:
        for whose in PEOPLE:
            for number in CLASSES.values():
                for day in ("2026-01-15", "2026-02-15", "2026-03-15", "2026-04-15"):
                    said = permitted(flat.rows, key(who), key(whose), number, at(day))
                    assert said == oracle(root, (who, whose, number, day))


# -- several consents ------------------------------------------------------------------------------


def both(*given: tuple[dict[str, Any], str]) -> Any:
    rows = [
        row
        for said, when in given
        for row in flatten(consent(said, when=when), under("standing-opt-in"), ZONE).rows
    ]
    return lambda who, whose, number=0: permitted(rows, key(who), key(whose), number, at(DAYS[2]))


EARLIER, LATER = "2026-01-01T08:00:00+08:00", "2026-01-02T08:00:00+08:00"


def test_the_later_word_holds_among_denials_and_permits_of_a_recipient() -> None:
    permit, deny = {"type": "permit", "to": ["a"]}, {"type": "deny"}
    assert both((permit, EARLIER), (deny, LATER))("a", "s") is False
    assert both((deny, EARLIER), (permit, LATER))("a", "s") is True
    assert both((deny, EARLIER), (permit, EARLIER))("a", "s") is False


def test_a_denial_of_a_source_or_a_class_is_not_lifted_by_a_visit() -> None:
    visit = {"type": "permit", "to": ["a"]}
    said = both(({"type": "deny", "of": ["s"]}, EARLIER), (visit, LATER))
    assert (said("a", "s"), said("a", "other")) == (False, True)
    asked = {"type": "permit", "to": ["a"], "classes": ["hiv"]}
    said = both(({"type": "deny", "classes": ["hiv"]}, EARLIER), (asked, LATER))
    assert said("a", "s", 6) is False


def test_a_permit_for_everybody_lifts_no_denial() -> None:
    said = both(({"type": "deny", "to": ["a"]}, EARLIER), ({"type": "permit"}, LATER))
    assert (said("a", "s"), said("b", "s")) == (False, True)


# -- what cannot be said ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "at_element"),
    [
        ({"dataPeriod": {"start": "2026-01-01"}}, "Consent.provision.dataPeriod"),
        ({"modifierExtension": [{"url": "urn:x", "valueCode": "y"}]},
         "Consent.provision.modifierExtension"),
        ({"purpose": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
                       "code": "HRESCH"}]}, "Consent.provision.purpose"),
        ({"action": [{"coding": [{"code": "collect"}]}]}, "Consent.provision.action"),
        ({"class": [{"system": "http://hl7.org/fhir/resource-types", "code": "Observation"}]},
         "Consent.provision.class[0]"),
        ({"code": [{"coding": [{"system": "http://loinc.org", "code": "2823-3"}]}]},
         "Consent.provision.code[0]"),
        ({"actor": [{"role": {"coding": [{"code": "IRCP"}]},
                     "reference": {"reference": "Organization/a"}}]},
         "Consent.provision.actor[0].role"),
        ({"actor": [actor("a", "IRCP") | {"reference": {"reference": "Practitioner/d"}}]},
         "Consent.provision.actor[0].reference"),
        ({"data": [{"meaning": "instance", "reference": {"reference": "Observation/o"}}]},
         "Consent.provision.data"),
        ({"period": {"start": "2026-02-01", "end": "2026-01-01"}}, "Consent.provision.period"),
        ({"provision": [{"actor": [actor("a", "IRCP")]}]}, "Consent.provision.provision[0].type"),
        ({"type": "deny", "data": [{"meaning": "related",
                                    "reference": {"reference": "Encounter/e"}}]},
         "Consent.provision.data"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_named_and_closes_what_was_stored(
    more: dict[str, Any], at_element: str
) -> None:
    resource = consent({"type": "permit"})
    resource["provision"] |= more
    flat = flatten(resource, under("standing-opt-in"), ZONE)
    assert at_element in [issue.expression for issue in flat.issues]
    assert permitted(closed(resource, ZONE), key("a"), key("s"), 0, at(DAYS[0])) is False


def test_a_nested_provision_stays_inside_its_parents() -> None:
    for inner in ({"type": "deny", "to": ["b"]}, {"type": "deny", "classes": ["psychiatry"]}):
        root = {"type": "permit", "to": ["a"], "classes": ["hiv"], "but": [inner]}
        assert flatten(consent(root), under("standing-opt-in"), ZONE).issues


def test_without_a_date_or_a_word_of_permit_or_denial_it_is_refused() -> None:
    resource = consent({"type": "permit"})
    del resource["dateTime"], resource["policyRule"], resource["provision"]["type"]
    flat = flatten(resource, under("standing-opt-in"), ZONE)
    assert [one.expression for one in flat.issues] == ["Consent.dateTime", "Consent.provision.type"]


def test_the_policy_rule_speaks_where_the_root_says_neither() -> None:
    resource = consent({"type": "permit", "to": ["a"]})
    del resource["provision"]["type"]
    flat = flatten(resource, under("standing-opt-in"), ZONE)
    assert permitted(flat.rows, key("a"), key("s"), 0, at(DAYS[0])) is True
    resource["policyRule"]["coding"][0]["code"] = "OPTOUT"
    flat = flatten(resource, under("standing-opt-in"), ZONE)
    assert permitted(flat.rows, key("a"), key("s"), 0, at(DAYS[0])) is False


def test_a_practitioner_stands_for_the_institution_of_a_contained_role() -> None:
    resource = consent({"type": "permit"})
    role = {"resourceType": "PractitionerRole", "id": "d",
            "organization": {"reference": "Organization/a"}}  # fmt: skip
    resource["contained"] = [role]
    resource["provision"]["actor"] = [actor("a", "IRCP") | {"reference": {"reference": "#d"}}]
    flat = flatten(resource, under("standing-opt-in"), ZONE)
    assert {row.recipient for row in flat.rows} == {"a"}


@pytest.mark.parametrize("status", ["inactive", "rejected", "entered-in-error", "draft"])
def test_only_an_active_consent_to_privacy_says_anything(status: str) -> None:
    resource = consent({"type": "deny"}) | {"status": status}
    assert flatten(resource, under("opt-out"), ZONE) == flatten({}, under("opt-out"), ZONE)
    research = consent({"type": "deny"})
    research["scope"]["coding"][0]["code"] = "research"
    assert flatten(research, under("opt-out"), ZONE).rows == ()


def test_too_many_sentences_and_too_deep_ones_are_refused() -> None:
    wide = {"type": "deny", "to": [f"a{n}" for n in range(20)], "of": [f"s{n}" for n in range(20)]}
    issues = flatten(consent(wide), under("opt-out"), ZONE).issues
    assert issues[0].code == "too-costly"
    deep: dict[str, Any] = {"type": "deny"}
    for _ in range(20):
        deep = {"type": "deny", "but": [deep]}
    assert flatten(consent(deep), under("opt-out"), ZONE).issues[0].code == "too-costly"
    assert provision({"type": "deny"}) == {"type": "deny"}
    assert WHEN.startswith("2026")
