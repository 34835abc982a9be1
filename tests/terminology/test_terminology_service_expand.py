"""The codes of value sets: what is in them, what they look like, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from service_cases import (
    ANIMALS,
    COLOURS,
    PARTS,
    ROOT,
    code_system,
    codes,
    concept,
    filtered,
    known,
    listed,
    value_set,
)

from fhir_gateway.errors import GatewayError, NotFound, TooCostly, Unprocessable
from fhir_gateway.fhir.validate import issues
from fhir_gateway.terminology import compose_budget
from fhir_gateway.terminology.compose import Pins
from fhir_gateway.terminology.expansion import MOST_ANSWERED, Expanding
from fhir_gateway.terminology.service_library import Canonical

VS = f"{ROOT}/vs"


def expand(*includes: Any, exclude: Any = (), beside: Any = (), more: Any = None, **asked: Any):
    one = value_set(VS, *includes, exclude=exclude, **(more or {}))
    expanded = known(one, *beside).expand(VS, Expanding(timestamp="2026-11-22T00:00:00Z", **asked))
    assert issues(expanded) == []
    return expanded


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ({"system": COLOURS}, ["Red", "Blue"]),
        (listed(ANIMALS, "dog", "fish", "cat"), ["dog", "cat"]),
        (filtered(ANIMALS, "concept", "is-a", "mammal"), ["mammal", "dog", "puppy", "cat"]),
        (filtered(ANIMALS, "concept", "descendent-of", "mammal"), ["dog", "puppy", "cat"]),
        (filtered(ANIMALS, "concept", "is-not-a", "mammal"), ["thing", "bird", "unicorn"]),
        (filtered(ANIMALS, "concept", "generalizes", "puppy"), ["thing", "mammal", "dog", "puppy"]),
        (filtered(ANIMALS, "concept", "in", "dog, bird"), ["dog", "bird"]),
        (filtered(COLOURS, "concept", "in", "RED"), ["Red"]),
        (filtered(ANIMALS, "legs", "not-in", "4"), ["thing", "mammal", "bird", "unicorn"]),
        (filtered(ANIMALS, "legs", "=", "2"), ["bird"]),
        (filtered(ANIMALS, "legs", "exists", "false"), ["thing", "mammal", "unicorn"]),
        (filtered(ANIMALS, "legs", "exists", "true"), ["dog", "puppy", "cat", "bird"]),
        (filtered(ANIMALS, "parent", "=", "mammal"), ["dog", "cat"]),
        (filtered(ANIMALS, "child", "=", "puppy"), ["dog"]),
        (filtered(ANIMALS, "inactive", "=", "true"), ["unicorn"]),
        (filtered(ANIMALS, "notSelectable", "=", "true"), ["thing"]),
        (filtered(ANIMALS, "code", "regex", "[a-d].*"), ["dog", "cat", "bird"]),
        (filtered(ANIMALS, "code", "regex", "og"), []),
        (filtered(ANIMALS, "display", "regex", ".*狗"), ["dog", "puppy"]),
        ({"valueSet": [f"{ANIMALS}/all"]},
         ["thing", "mammal", "dog", "puppy", "cat", "bird", "unicorn"]),
        (filtered(ANIMALS, "concept", "is-a", "dog") | {"valueSet": [f"{ROOT}/legged"]},
         ["dog", "puppy"]),
        ({"valueSet": [f"{ROOT}/legged", f"{ROOT}/feathered"]}, ["bird"]),
    ],
)  # fmt: skip
def test_a_value_set_has_the_codes_that_it_says(include, expected):
    beside = [
        value_set(f"{ROOT}/legged", filtered(ANIMALS, "legs", "exists", "true")),
        value_set(f"{ROOT}/feathered", listed(ANIMALS, "bird")),
    ]
    assert sorted(codes(expand(include, beside=beside))) == sorted(expected)


def test_several_parts_are_joined_and_what_is_excluded_is_not_there():
    expanded = expand(
        listed(ANIMALS, "dog", "cat"), {"system": ANIMALS}, {"system": COLOURS},
        exclude=[listed(ANIMALS, "cat"), filtered(ANIMALS, "concept", "is-a", "bird"),
                 listed(COLOURS, "BLUE")],
        exclude_nested=True,
    )  # fmt: skip
    assert codes(expanded) == ["dog", "thing", "mammal", "puppy", "unicorn", "Red"]
    assert expanded["expansion"]["total"] == 6


def test_retired_codes_are_left_out_where_that_is_asked_for():
    assert "unicorn" in codes(expand({"system": ANIMALS}))
    assert "unicorn" not in codes(expand({"system": ANIMALS}, active_only=True))
    strict = value_set(VS, {"system": ANIMALS})
    strict["compose"]["inactive"] = False
    terminology = known(strict)
    assert "unicorn" not in codes(terminology.expand(VS))
    assert terminology.is_member(VS, ANIMALS, "unicorn") is False


def test_codes_are_nested_as_their_system_nests_them():
    def shape(contains: Any) -> Any:
        return {one["code"]: shape(one.get("contains", ())) for one in contains}

    nested = expand({"system": ANIMALS})["expansion"]["contains"]
    assert shape(nested) == {
        "thing": {"mammal": {"dog": {"puppy": {}}, "cat": {}}, "bird": {}, "unicorn": {}}
    }
    assert nested[0]["abstract"] is True
    gap = expand(listed(ANIMALS, "puppy", "mammal"))["expansion"]["contains"]
    assert shape(gap) == {"mammal": {"puppy": {}}}
    for flat in ({"exclude_nested": True}, {"offset": 0, "most": 100}, {"filter": "狗"}):
        told = expand({"system": ANIMALS}, **flat)["expansion"]["contains"]
        assert all("contains" not in one for one in told)


def test_pages_neither_repeat_a_code_nor_drop_one():
    system = code_system(f"{ROOT}/many", *(concept(f"c{n}", en=f"Name {n % 7}") for n in range(95)))
    for asked in ({}, {"filter": "name 3"}):
        whole = codes(expand({"system": f"{ROOT}/many"}, beside=[system], **asked))
        paged: list[str] = []
        for offset in range(0, 120, 10):
            page = expand(
                {"system": f"{ROOT}/many"}, beside=[system], offset=offset, most=10, **asked
            )
            assert page["expansion"]["total"] == len(whole)
            assert page["expansion"]["offset"] == offset
            paged += codes(page)
        assert paged == whole
    counted = expand({"system": f"{ROOT}/many"}, beside=[system], most=0)["expansion"]
    assert (counted["total"], "contains" in counted) == (95, False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("谷丙", ["ALT"]),
        ("转氨", ["ALT", "AST"]),
        ("zhuanan", ["ALT", "AST"]),
        ("gbza", ["ALT"]),
        ("gb 转", ["ALT"]),
        ("GUBING", ["ALT"]),
        ("alanine", ["ALT"]),
        ("AMINO trans", ["ALT", "AST"]),
        ("alt", ["ALT"]),
        ("ＡＬＴ", ["ALT"]),
        ("xuetang", ["GLU"]),
        ("xietang", ["GLU"]),
        ("nothing", []),
        ("   ", ["ALT", "AST", "GLU"]),
        (".*", []),
    ],
)
def test_a_filter_finds_what_people_type(text, expected):
    system = code_system(
        f"{ROOT}/lab",
        concept("ALT", "谷丙转氨酶", "Alanine aminotransferase"),
        concept("AST", "谷草转氨酶", "Aspartate aminotransferase"),
        concept("GLU", "血糖", "Glucose"),
    )
    assert codes(expand({"system": f"{ROOT}/lab"}, beside=[system], filter=text)) == expected


def test_what_fits_best_comes_first():
    system = code_system(
        f"{ROOT}/lab", concept("1", "空腹血糖"), concept("2", "血糖仪"), concept("3", "血糖")
    )
    assert codes(expand({"system": f"{ROOT}/lab"}, beside=[system], filter="血糖")) == [
        "3", "2", "1",
    ]  # fmt: skip


def test_names_are_told_as_they_are_asked_for():
    def dog(**asked: Any) -> Any:
        return expand(listed(ANIMALS, "dog"), **asked)["expansion"]["contains"][0]

    assert dog()["display"] == "狗"
    assert dog(display_language="en")["display"] == "Dog"
    assert "designation" not in dog()
    both = [{"language": "zh-CN", "value": "狗"}, {"language": "en", "value": "Dog"}]
    assert dog(include_designations=True)["designation"] == both
    assert dog(designations=("urn:ietf:bcp:47|en",))["designation"] == both[1:]


def test_properties_are_told_in_the_extension_of_r5():
    told = expand(listed(ANIMALS, "puppy"), properties=("legs", "parent"))["expansion"]
    inner = [one["extension"] for one in told["contains"][0]["extension"]]
    assert inner == [
        [{"url": "code", "valueCode": "legs"}, {"url": "value", "valueInteger": 4}],
        [{"url": "code", "valueCode": "parent"}, {"url": "value", "valueCode": "dog"}],
    ]


def test_an_expansion_says_what_made_it():
    expanded = expand(
        {"system": ANIMALS, "version": "1.10"}, filter="狗", most=1, offset=1, active_only=True,
        identifier="urn:uuid:x", display_language="zh-CN",
        pins=Pins(excluded=(Canonical(COLOURS),)),
    )  # fmt: skip
    told = expanded["expansion"]
    assert (told["identifier"], told["timestamp"]) == ("urn:uuid:x", "2026-11-22T00:00:00Z")
    parameters = {
        one["name"]: next(value for name, value in one.items() if name != "name")
        for one in told["parameter"]
    }
    assert parameters == {
        "filter": "狗", "activeOnly": True, "displayLanguage": "zh-CN", "offset": 1, "count": 1,
        "exclude-system": COLOURS, "used-codesystem": f"{ANIMALS}|1.10",
        "version": f"{ANIMALS}|1.10",
    }  # fmt: skip
    assert "compose" not in expanded
    assert "compose" in expand({"system": ANIMALS}, include_definition=True)


def test_notices_of_systems_go_with_their_codes():
    system = code_system(f"{ROOT}/owned", concept("1"), copyright="Owned by its owner")
    expanded = expand({"system": f"{ROOT}/owned"}, {"system": ANIMALS}, beside=[system])
    assert expanded["copyright"] == "Owned by its owner"


def test_systems_can_be_left_out():
    pins = Pins(excluded=(Canonical(COLOURS),))
    assert codes(expand({"system": COLOURS}, listed(ANIMALS, "dog"), pins=pins)) == ["dog"]


def test_a_fragment_says_that_there_may_be_more():
    told = expand({"system": PARTS})["expansion"]["extension"]
    assert [one["url"].rpartition("/")[2] for one in told] == ["valueset-unclosed"]


def test_value_sets_within_a_value_set():
    inner = value_set(f"{ROOT}/inner", listed(ANIMALS, "dog"), id="inner")
    expanded = expand({"valueSet": ["#inner"]}, more={"contained": [inner]})
    assert codes(expanded) == ["dog"]


def test_a_value_set_may_be_an_expansion_alone():
    stored = {
        "resourceType": "ValueSet", "url": f"{ROOT}/done", "status": "active",
        "expansion": {"timestamp": "2026-01-01", "contains": [
            {"abstract": True, "display": "group",
             "contains": [{"system": ANIMALS, "code": "dog"}, {"system": ANIMALS, "code": "fish"}]},
            {"system": f"{ROOT}/no", "code": "x", "display": "X"},
        ]},
    }  # fmt: skip
    terminology = known(stored)
    assert terminology.codes_of(f"{ROOT}/done") == {(ANIMALS, "dog"), (f"{ROOT}/no", "x")}


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("include", "error", "rule"),
    [
        ({"system": f"{ROOT}/no"}, NotFound, "cs-unknown"),
        ({"system": ANIMALS, "version": "7"}, NotFound, "cs-unknown"),
        ({"valueSet": [f"{ROOT}/no"]}, NotFound, "vs-unknown"),
        ({"valueSet": ["#nowhere"]}, NotFound, "vs-unknown"),
        (filtered(ANIMALS, "concept", "near", "dog"), Unprocessable, "vs-invalid"),
        (filtered(ANIMALS, "wings", "=", "2"), Unprocessable, "vs-invalid"),
        (filtered(ANIMALS, "legs", "exists", "perhaps"), Unprocessable, "vs-invalid"),
        ({"concept": [{"code": "dog"}]}, Unprocessable, "vs-invalid"),
        (filtered(ANIMALS, "code", "=", "dog") | listed(ANIMALS, "dog"), Unprocessable,
         "vs-invalid"),
        (filtered(ANIMALS, "code", "regex", "("), Unprocessable, "vs-invalid"),
        (filtered(ANIMALS, "code", "regex", r"(a)\1"), Unprocessable, "vs-invalid"),
        (filtered(ANIMALS, "code", "regex", "(?=a)"), Unprocessable, "vs-invalid"),
        (filtered(ANIMALS, "code", "regex", "x" * 501), Unprocessable, "vs-invalid"),
        (filtered(ANIMALS, "code", "regex", "((a{99}){99}){99}"), Unprocessable, "vs-invalid"),
    ],
)  # fmt: skip
def test_what_cannot_be_expanded_is_refused_with_its_place(include, error, rule):
    with pytest.raises(error) as caught:
        expand(include)
    (issue,) = caught.value.issues
    assert issue.rule == rule
    assert issue.expression.startswith("ValueSet.compose.include[0]")


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*b", "(.*)*x", "(a?){50}a{50}"])
def test_a_hostile_pattern_ends_as_soon_as_any(pattern):
    system = code_system(f"{ROOT}/evil", concept("a" * 40 + "!"))
    include = filtered(f"{ROOT}/evil", "code", "regex", pattern)
    assert codes(expand(include, beside=[system])) == []


def test_value_sets_in_a_circle_are_told_so():
    ring = [
        value_set(f"{ROOT}/ring{n}", {"valueSet": [f"{ROOT}/ring{(n + 1) % 3}"]}) for n in range(3)
    ]
    myself = value_set(f"{ROOT}/me", {"valueSet": [f"{ROOT}/me"]})
    out = value_set(f"{ROOT}/out", {"system": COLOURS}, exclude=[{"valueSet": [f"{ROOT}/out"]}])
    terminology = known(*ring, myself, out)
    for url in (f"{ROOT}/ring1", f"{ROOT}/me", f"{ROOT}/out"):
        for ask in (
            terminology.expand,
            lambda url: terminology.is_member(url, ANIMALS, "dog"),
        ):
            with pytest.raises(Unprocessable) as caught:
                ask(url)
            assert caught.value.issues[0].rule == "vs-circular"
            assert url in caught.value.issues[0].diagnostics


def test_imports_that_double_in_each_row_are_too_costly():
    rows = [
        value_set(
            f"{ROOT}/row{n}", {"valueSet": [f"{ROOT}/row{n + 1}"]},
            {"valueSet": [f"{ROOT}/row{n + 1}"]},
        )
        for n in range(40)
    ]  # fmt: skip
    last = value_set(f"{ROOT}/row40", {"system": COLOURS})
    with pytest.raises(TooCostly):
        known(*rows, last).expand(f"{ROOT}/row0")


class Grammar:
    """Every text of the letter a is a code; nobody can list them."""

    url, version, title, content = f"{ROOT}/grammar", "", "Grammar", "complete"
    case_sensitive, language, notice = True, "", ""

    def find(self, code: str) -> Any:
        from fhir_gateway.terminology.system import Concept

        return Concept(code, f"{len(code)} times") if set(code) == {"a"} else None

    def concepts(self) -> None:
        return None

    def parents(self, code: str) -> Any:
        return ()

    def children(self, code: str) -> Any:
        return ()


def test_a_grammar_is_asked_about_codes_and_never_listed():
    from fhir_gateway.terminology.service import Terminology

    named = value_set(f"{ROOT}/named", filtered(Grammar.url, "concept", "in", "a,aa,b"))
    whole = value_set(f"{ROOT}/whole", {"system": Grammar.url})
    pattern = value_set(f"{ROOT}/pattern", filtered(Grammar.url, "code", "regex", "a{2}"))
    terminology = Terminology([Grammar()], [named, whole, pattern])
    assert terminology.codes_of(named["url"]) == {(Grammar.url, "a"), (Grammar.url, "aa")}
    for one in (whole, pattern):
        with pytest.raises(TooCostly) as caught:
            terminology.expand(one["url"])
        assert caught.value.issues[0].code == "too-costly"
    assert terminology.is_member(whole["url"], Grammar.url, "aaa") is True
    assert terminology.is_member(whole["url"], Grammar.url, "b") is False
    assert terminology.is_member(pattern["url"], Grammar.url, "aa") is True
    assert terminology.is_member(pattern["url"], Grammar.url, "aaa") is False


def test_a_hundred_thousand_codes_are_answered_in_pages():
    system = code_system(
        f"{ROOT}/huge",
        *({"code": f"c{n}", "display": f"Concept number {n}"} for n in range(100_000)),
    )
    terminology = known(system)
    url = f"{ROOT}/huge/vs"
    with pytest.raises(TooCostly) as caught:
        terminology.expand(url)
    assert str(MOST_ANSWERED) in caught.value.issues[0].diagnostics
    last = terminology.expand(url, Expanding(offset=99_995, most=100))
    assert (codes(last)[-1], len(codes(last)), last["expansion"]["total"]) == ("c99999", 5, 100_000)
    found = terminology.expand(url, Expanding(filter="number 99999"))
    assert codes(found) == ["c99999"]
    assert len(terminology.codes_of(url)) == 100_000


def test_more_than_the_bound_is_not_even_listed(monkeypatch):
    monkeypatch.setattr(compose_budget, "MOST_SEEN", 1_000)
    system = code_system(f"{ROOT}/endless", *({"code": f"{n}"} for n in range(1_001)))
    terminology = known(system)
    with pytest.raises(TooCostly):
        terminology.codes_of(f"{ROOT}/endless/vs")
    assert terminology.is_member(f"{ROOT}/endless/vs", f"{ROOT}/endless", "1000") is True
    few = known(code_system(f"{ROOT}/endless", *({"code": f"{n}"} for n in range(1_000))))
    assert len(few.codes_of(f"{ROOT}/endless/vs")) == 1_000


def test_a_value_set_that_is_not_here_cannot_be_expanded():
    with pytest.raises(GatewayError) as caught:
        known().expand(f"{ROOT}/no")
    assert (caught.value.status, caught.value.issues[0].rule) == (404, "vs-unknown")
