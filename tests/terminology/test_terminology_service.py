"""What codes mean and whether they are right: $lookup, $subsumes, $validate-code."""

from __future__ import annotations

import pytest
from service_cases import (
    ANIMALS,
    COLOURS,
    PARTS,
    ROOT,
    code_system,
    concept,
    filtered,
    known,
    listed,
    value_set,
)

from fhir_gateway.errors import NotFound, Unprocessable
from fhir_gateway.terminology.compose import Pins
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.service_library import Canonical, version_key
from fhir_gateway.terminology.service_validate import Checking, Coding

PETS = value_set(f"{ROOT}/pets", listed(ANIMALS, "dog", "cat"))


def verdict(coding, value_set="", *, beside=(), **checking):
    return known(PETS, *beside).validate_code(coding, value_set, Checking(**checking))


def rules(found):
    return [(one.severity, one.code, one.rule) for one in found.issues]


# -- $lookup, $subsumes --------------------------------------------------------------------------


def test_a_code_is_looked_up_in_the_language_that_is_asked_for():
    terminology = known()
    shown = {
        language: terminology.lookup(ANIMALS, "dog", language=language).display
        for language in ("", "en", "en-GB", "zh", "zh-CN", "fr")
    }
    assert shown == {
        "": "狗", "en": "Dog", "en-GB": "Dog", "zh": "狗", "zh-CN": "狗", "fr": "狗",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("system", "code", "version", "rule"),
    [
        (f"{ROOT}/nowhere", "dog", "", "cs-unknown"),
        (ANIMALS, "dog", "9", "cs-unknown"),
        (ANIMALS, "fish", "", "invalid-code"),
        (PARTS, "z", "", "invalid-code"),
    ],
)
def test_what_is_not_here_cannot_be_looked_up(system, code, version, rule):
    with pytest.raises(NotFound) as caught:
        known().lookup(system, code, version=version)
    assert caught.value.issues[0].rule == rule


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("dog", "dog", "equivalent"),
        ("thing", "puppy", "subsumes"),
        ("puppy", "thing", "subsumed-by"),
        ("cat", "dog", "not-subsumed"),
    ],
)
def test_codes_stand_to_one_another_as_the_hierarchy_says(a, b, outcome):
    assert known().subsumes(ANIMALS, a, b) == outcome


def test_a_hierarchy_by_properties_is_one_with_several_parents():
    system = code_system(
        f"{ROOT}/areas",
        concept("nation"),
        concept("region"),
        {"code": "city", "property": [
            {"code": "parent", "valueCode": "nation"}, {"code": "up", "valueCode": "region"},
        ]},
        {"code": "sea", "property": [{"code": "child", "valueCode": "island"}]},
        concept("island"),
        property=[{"code": "up", "uri": "http://hl7.org/fhir/concept-properties#parent",
                   "type": "code"}],
    )  # fmt: skip
    terminology = known(system)
    assert terminology.subsumed(f"{ROOT}/areas", "region") == {"region", "city"}
    assert terminology.subsumed(f"{ROOT}/areas", "nation") == {"nation", "city"}
    assert terminology.subsumed(f"{ROOT}/areas", "sea") == {"sea", "island"}


def test_a_hierarchy_in_a_circle_ends():
    system = code_system(f"{ROOT}/loop", concept("a", parent="b"), concept("b", parent="a"))
    terminology = known(system)
    assert terminology.subsumed(f"{ROOT}/loop", "a") == {"a", "b"}
    expanded = terminology.expand(f"{ROOT}/loop/vs")
    assert [one["code"] for one in expanded["expansion"]["contains"]] == ["a", "b"]


# -- $validate-code ------------------------------------------------------------------------------


def test_a_right_code_is_told_with_its_name_and_version():
    found = verdict(Coding(ANIMALS, "dog", display="Dog"), PETS["url"], language="en")
    assert (found.result, found.message, found.issues) == (True, "", ())
    assert found.coding[:4] == (ANIMALS, "dog", "1.10", "Dog")


@pytest.mark.parametrize(
    ("coding", "in_value_set", "rule"),
    [
        (Coding(ANIMALS, "fish"), "", ("error", "code-invalid", "invalid-code")),
        (Coding(ANIMALS, "bird"), PETS["url"], ("error", "code-invalid", "not-in-vs")),
        (Coding(ANIMALS, "dog", display="猫"), "", ("error", "invalid", "invalid-display")),
        (Coding("", "dog"), PETS["url"], ("error", "invalid", "invalid-data")),
        (Coding(ANIMALS, ""), "", ("error", "invalid", "invalid-data")),
        (Coding(ANIMALS, "dog", "2"), "", ("error", "not-found", "not-found")),
        (Coding(f"{ROOT}/no", "x"), "", ("error", "not-found", "not-found")),
        (Coding(PARTS, "b"), "", ("error", "not-found", "not-found")),
    ],
)
def test_what_is_wrong_with_a_code_is_one_issue(coding, in_value_set, rule):
    found = verdict(coding, in_value_set)
    assert (found.result, rules(found)) == (False, [rule])
    assert found.message == found.issues[0].diagnostics
    assert found.known == (rule[1] != "not-found")


def test_an_unknown_system_is_never_a_yes():
    """Law 2: nobody can say, and that is what is said, in a value set of all its codes too."""
    everything = value_set(f"{ROOT}/foreign", {"system": f"{ROOT}/no"})
    found = verdict(Coding(f"{ROOT}/no", "x"), everything["url"], beside=[everything])
    assert (found.result, found.known, found.issues[0].code) == (False, False, "not-found")
    terminology = known(everything)
    assert terminology.is_member(everything["url"], f"{ROOT}/no", "x") is None
    assert terminology.is_member(everything["url"], ANIMALS, "dog") is False
    assert terminology.is_member(f"{ROOT}/unheard", ANIMALS, "dog") is None


def test_a_code_that_a_value_set_lists_is_in_it_though_its_system_is_not_here():
    foreign = value_set(f"{ROOT}/foreign", listed(f"{ROOT}/no", "x"))
    found = verdict(Coding(f"{ROOT}/no", "x", display="anything"), foreign["url"], beside=[foreign])
    assert (found.result, rules(found)) == (True, [("warning", "not-found", "not-found")])
    found = verdict(Coding(f"{ROOT}/no", "y"), foreign["url"], beside=[foreign])
    assert not found.result


@pytest.mark.parametrize(
    ("wrong", "likely"),
    [
        ("https://tests.example.org/animals", ANIMALS),
        ("http://www.tests.example.org/Animals/", ANIMALS),
        (f"{ANIMALS}/all", ANIMALS),
        ("urn:oid:1.2.3.4", f"{ROOT}/numbered"),
        ("1.2.3.4", f"{ROOT}/numbered"),
    ],
)
def test_the_system_that_was_meant_is_named(wrong, likely):
    numbered = code_system(
        f"{ROOT}/numbered", concept("1"), identifier=[{"value": "urn:oid:1.2.3.4"}]
    )
    found = verdict(Coding(wrong, "dog"), beside=[numbered])
    assert (found.result, found.known) == (False, False)
    assert likely in found.message.split("judged")[1]


def test_a_code_of_another_system_of_the_value_set_is_told():
    both = value_set(f"{ROOT}/both", {"system": ANIMALS}, {"system": COLOURS})
    found = verdict(Coding(COLOURS, "dog"), both["url"], beside=[both])
    assert not found.result
    assert f"in the system {ANIMALS}" in found.message
    assert "did you mean 'dog'?" in verdict(Coding(ANIMALS, " DOG ")).message


def test_a_wrong_display_is_told_the_right_one_and_whose_it_is():
    found = verdict(Coding(ANIMALS, "dog", display="Cat"))
    for part in ("'狗' (zh-CN)", "'Dog' (en)", "'Cat' is the name of the code 'cat'"):
        assert part in found.message
    assert found.coding.display == "狗"
    chinese = verdict(Coding(ANIMALS, "dog", display="Cat"), language="zh-CN")
    assert chinese.message.startswith("“Cat”不是")
    assert "'Dog'" not in chinese.message
    lenient = verdict(Coding(ANIMALS, "dog", display="Cat"), lenient_display=True)
    assert (lenient.result, rules(lenient)) == (True, [("warning", "invalid", "invalid-display")])


def test_case_width_and_blanks_do_not_make_another_name():
    for display in ("dog", "ＤＯＧ", " Dog ", "DOG"):
        found = verdict(Coding(ANIMALS, "dog", display=display))
        assert (found.result, found.issues[0].severity) == (True, "information")


def test_names_that_a_value_set_gives_are_names_too():
    renamed = value_set(
        f"{ROOT}/renamed", {"system": ANIMALS, "concept": [{"code": "dog", "display": "Hound"}]}
    )
    for display in ("Hound", "Dog", "狗"):
        assert verdict(
            Coding(ANIMALS, "dog", display=display), renamed["url"], beside=[renamed]
        ).result


def test_a_retired_code_is_right_and_said_to_be_inactive():
    found = verdict(Coding(ANIMALS, "unicorn"))
    assert (found.result, found.inactive) == (True, True)
    assert rules(found) == [("warning", "business-rule", "status-check")]
    refused = verdict(Coding(ANIMALS, "unicorn"), active_only=True)
    assert (refused.result, refused.inactive) == (False, True)


def test_an_abstract_code_is_refused_where_that_is_asked_for():
    assert verdict(Coding(ANIMALS, "thing")).result
    assert not verdict(Coding(ANIMALS, "thing"), abstract=False).result


def test_one_right_coding_of_a_concept_is_enough():
    several = [Coding(f"{ROOT}/local", "4711"), Coding(ANIMALS, "cat"), Coding(ANIMALS, "bird")]
    found = verdict(several, PETS["url"])
    assert (found.result, found.coding.code) == (True, "cat")
    assert {one.severity for one in found.issues} == {"warning"}
    found = verdict([several[0], several[2]], PETS["url"])
    assert (found.result, found.known, len(found.issues)) == (False, False, 2)
    assert not verdict([], PETS["url"]).result


def test_the_system_of_a_bare_code_is_found_where_that_is_asked_for():
    found = verdict(Coding("", "dog"), PETS["url"], infer=True)
    assert (found.result, found.coding.system) == (True, ANIMALS)
    assert not verdict(Coding("", "bird"), PETS["url"], infer=True).result
    twice = value_set(f"{ROOT}/twice", listed(ANIMALS, "dog"), listed(f"{ROOT}/no", "dog"))
    found = verdict(Coding("", "dog"), twice["url"], beside=[twice], infer=True)
    assert (found.result, found.issues[0].rule) == (False, "cannot-infer")
    assert known(PETS).is_member(PETS["url"], "", "dog") is True
    assert known(PETS).is_member(PETS["url"], "", "bird") is False


def test_codes_without_case_are_told_as_their_system_spells_them():
    reds = value_set(f"{ROOT}/reds", listed(COLOURS, "RED"))
    found = verdict(Coding(COLOURS, "rED"), reds["url"], beside=[reds])
    assert (found.result, found.coding.code) == (True, "Red")


def test_versions_are_ordered_as_people_write_them():
    assert version_key("1.9") < version_key("1.10") < version_key("2026-11")
    old = code_system(ANIMALS, concept("dodo"), version="1.9")
    terminology = known(old)
    assert terminology.system(ANIMALS).version == "1.10"
    assert terminology.lookup(ANIMALS, "dodo", version="1.9").system.version == "1.9"
    pinned = value_set(f"{ROOT}/old", {"system": ANIMALS, "version": "1.9"})
    found = verdict(Coding(ANIMALS, "dodo"), pinned["url"], beside=[old, pinned])
    assert (found.result, found.coding.version) == (True, "1.9")
    found = verdict(Coding(ANIMALS, "dog", "1.10"), pinned["url"], beside=[old, pinned])
    assert not found.result


def test_an_edition_counts_on_the_days_on_which_it_holds():
    def edition(version: str, code: str, start: str, end: str = "") -> dict:
        period = {"start": start} | ({"end": end} if end else {})
        url = "http://hl7.org/fhir/StructureDefinition/resource-effectivePeriod"
        return code_system(f"{ROOT}/list", concept(code), version=version,
                           extension=[{"url": url, "valuePeriod": period}])  # fmt: skip

    editions = [edition("1", "old", "2025-01-01", "2025-12-31"), edition("2", "new", "2026-01-01")]
    for day, version in (("2025-06-01", "1"), ("2025-12-31", "1"), ("2026-01-01", "2"), ("", "2")):
        assert known(*editions, today=day).system(f"{ROOT}/list").version == version
    terminology = known(*editions, today="2026-11-22")
    assert terminology.lookup(f"{ROOT}/list", "old", date="2025-06-01T08:00:00Z")
    found = terminology.validate_code(
        Coding(f"{ROOT}/list", "old"), checking=Checking(date="2025-06-01")
    )
    assert found.result


def test_pins_say_which_version_counts():
    old = code_system(ANIMALS, concept("dodo"), version="1.9")
    open_set = value_set(f"{ROOT}/open", {"system": ANIMALS})
    pinned = value_set(f"{ROOT}/fixed", {"system": ANIMALS, "version": "1.9"})
    terminology = known(old, open_set, pinned)

    def has(value_set: dict, code: str, **pins: str) -> bool:
        made = Pins(**{name: (Canonical(ANIMALS, text),) for name, text in pins.items()})
        checking = Checking(pins=made)
        return terminology.validate_code(Coding(ANIMALS, code), value_set["url"], checking).result

    assert has(open_set, "dog") and not has(open_set, "dodo")
    assert has(open_set, "dodo", default="1.9")
    assert not has(pinned, "dog", default="1.10")
    assert has(pinned, "dog", force="1.10")
    with pytest.raises(Unprocessable) as caught:
        has(pinned, "dodo", check="1.10")
    assert caught.value.issues[0].rule == "version-error"


def test_value_sets_of_filters_are_asked_code_by_code():
    legs = value_set(f"{ROOT}/legs", filtered(ANIMALS, "legs", "=", "4"))
    terminology = known(legs)
    assert terminology.is_member(legs["url"], ANIMALS, "cat") is True
    assert terminology.is_member(legs["url"], ANIMALS, "bird") is False


def test_an_empty_terminology_knows_nothing():
    nothing = Terminology()
    assert nothing.is_member("http://x", "http://y", "z") is None
    assert not nothing.validate_code(Coding("http://y", "z")).known
    with pytest.raises(NotFound):
        nothing.codes_of("http://x")
