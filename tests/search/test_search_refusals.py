"""What is not understood is refused by name; nothing is ever silently ignored."""

from __future__ import annotations

import pytest
from search_loader import SECRET, Loader

from fhir_gateway.errors import GatewayError, Invalid, NotFound, NotSupported, TooCostly
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.params import Name, parse_name, parts, split, unescape
from fhir_gateway.search.planner import plan_search
from fhir_gateway.search.registry import searchables
from fhir_gateway.search.results import RESULTS

plan = Loader().plan


def refusal(url: str, **options: object) -> tuple[type[GatewayError], str | None, str | None]:
    with pytest.raises(GatewayError) as caught:
        plan(url, **options)
    issue = caught.value.issues[0]
    return type(caught.value), issue.expression, issue.rule


@pytest.mark.parametrize("type", ["Observation", "Patient", "ImagingStudy"])
def test_every_parameter_with_one_wrong_letter_is_refused(type: str) -> None:
    known = {*definitions().search_parameters[type], *RESULTS}
    for name in known:
        for place in range(len(name)):
            wrong = name[:place] + ("x" if name[place] != "x" else "z") + name[place + 1 :]
            if wrong in known:
                continue
            base = wrong.partition(":")[0]
            if base in known:  # the letter was one of the modifier
                assert refusal(f"{type}?{wrong}=a") == (Invalid, wrong, "unknown-modifier")
            else:
                assert refusal(f"{type}?{wrong}=a") == (Invalid, base, "unknown-search-parameter")


def test_a_refusal_names_near_names_and_not_the_value() -> None:
    with pytest.raises(Invalid) as caught:
        plan("Observation?patinet=secret-patient")
    assert caught.value.issues[0].diagnostics == (
        "Search parameter patinet is not known; near names: patient, date, _text"
    )


@pytest.mark.parametrize(
    ("name", "error", "rule"),
    [
        ("code:nto", Invalid, "unknown-modifier"),
        ("code:exact", Invalid, "unknown-modifier"),
        ("status:text", NotSupported, "not-offered"),
        ("code:in", NotSupported, "not-offered"),
        ("code:not-in", NotSupported, "not-offered"),
        ("code:above", NotSupported, "not-offered"),
        ("code:below", NotSupported, "not-offered"),
        ("subject:below", NotSupported, "not-offered"),
        ("code-value-quantity:missing", NotSupported, "not-offered"),
        ("code-value-quantity:not", Invalid, "unknown-modifier"),
        ("code:of-type", NotSupported, "not-offered"),
        ("code:", Invalid, "unknown-modifier"),
        ("date:exact", Invalid, "unknown-modifier"),
        ("_id:not", NotSupported, "not-offered"),
        ("_lastUpdated:not", Invalid, "unknown-modifier"),
        ("_count:exact", Invalid, "unknown-modifier"),
        ("subject:Practitioner", Invalid, "unknown-modifier"),
        ("subject:Patinet", Invalid, "unknown-modifier"),
        ("subject:Patient._filter", NotSupported, "not-offered"),
        ("_filter", NotSupported, "not-offered"),
        ("_text", NotSupported, "not-offered"),
        ("_query", NotSupported, "not-offered"),
        ("_type", NotSupported, "not-offered"),
        ("_score", NotSupported, "not-offered"),
        ("_graph", NotSupported, "not-offered"),
        ("_containedType", NotSupported, "not-offered"),
        ("_content", NotSupported, "not-offered"),
        ("_sort:iterate", Invalid, "unknown-modifier"),
        ("", Invalid, "unknown-search-parameter"),
        ("Code", Invalid, "unknown-search-parameter"),
    ],
)
def test_names_and_modifiers(name: str, error: type[GatewayError], rule: str) -> None:
    found = refusal(f"Observation?{name}=a")
    assert found == (error, name.rpartition(".")[2], rule)


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("code=", "search-value"),
        ("code=a,,b", "search-value"),
        ("code=a\x00", "search-value"),
        ("code=\ud800", "search-value"),
        ("code=|", "search-token"),
        ("code=a|b|c", "search-token"),
        ("date=yesterday", "search-date"),
        ("date=2024-02-30", "search-date"),
        ("date=ge", "search-date"),
        ("date=xx2024", "search-date"),
        ("date=0000", "search-date"),
        ("value-quantity=five", "search-number"),
        ("value-quantity=NaN", "search-number"),
        ("value-quantity=1e999", "search-number"),
        ("value-quantity=" + "9" * 5_000, "search-number"),
        ("value-quantity=5|mg", "search-quantity"),
        ("value-quantity=5||", "search-quantity"),
        ("value-string=   ", "search-string"),
        ("subject=Patient/a/b", "search-reference"),
        ("subject=Patient/", "search-reference"),
        ("subject=../Patient/1", "search-reference"),
        ("subject=Patinet/1", "search-reference"),
        ("subject=Practitioner/1", "search-reference"),
        ("subject:Patient=Group/1", "search-reference"),
        ("focus=1", "search-reference"),
        ("code:missing=yes", "search-missing"),
        ("_id=a/b", "search-id"),
        ("_count=-1", "search-count"),
        ("_count=ten", "search-count"),
        ("_count=٣", "search-count"),
        ("_count=1&_count=2", "search-repeated"),
        ("_sort=date&_sort=-date", "search-repeated"),
        ("_sort=dat", "unknown-search-parameter"),
        ("_sort=identifier", "not-offered"),
        ("_sort=combo-code", "not-offered"),
        ("_sort=code-value-quantity", "not-offered"),
        ("_sort=-", "unknown-search-parameter"),
        ("_total=some", "search-total"),
        ("_summary=short", "search-summary"),
        ("_summary=text&_include=Observation:subject", "search-result"),
        ("_summary=true&_elements=code", "search-result"),
        ("_total=none&_summary=count", "search-result"),
        ("_total=none&_count=0", "search-result"),
        ("_elements=cod", "unknown-search-parameter"),
        ("_elements=component.code", "unknown-search-parameter"),
        ("_elements=code&_elements=status", "search-repeated"),
        ("_contained=true", "not-offered"),
        ("_contained=maybe", "search-contained"),
        ("__explain=yes", "search-explain"),
        ("_include=Observation", "search-include"),
        ("_include=Observation:subjec", "unknown-search-parameter"),
        ("_include=Observation:code", "search-include"),
        ("_include=Patient:organization", "search-include"),
        ("_include=Observation:subject:Patinet", "unknown-search-parameter"),
        ("_include=Observation:subject:Practitioner", "search-include"),
        ("_include=Patient:*", "search-include"),
        ("_include:iterate=Observation:*", "search-include"),
        ("_include:iterate=*", "search-include"),
        ("_revinclude=*", "not-offered"),
        ("_revinclude:iterate=Observation:*", "search-include"),
        ("_list=$current-problems", "not-offered"),
        ("_list=a/b", "search-id"),
        ("code:text=   ", "search-string"),
        ("identifier:of-type=a|b", "search-token"),
        ("identifier:of-type=a||c", "search-token"),
        ("code-value-quantity=a", "search-composite"),
        ("code-value-quantity=a$", "search-composite"),
        ("code-value-quantity=a$1$2", "search-composite"),
        ("code-value-quantity=a$five", "search-number"),
        ("component-code-value-quantity=http://loinc.org|$5", "not-offered"),
        ("_revinclude=Provenance:target:Patient", "search-include"),
        ("_revinclude=Encounter:subject", "search-include"),
    ],
)
def test_values(query: str, rule: str) -> None:
    error, _, found = refusal(f"Observation?{query}")
    assert (found, error.status) == (rule, 400)


def test_too_much_is_too_costly() -> None:
    with pytest.raises(TooCostly):
        plan("Observation?code=" + ",".join("a" * 201))
    with pytest.raises(TooCostly):
        plan_search("Observation", [("code", "a")] * 51, secret=SECRET)
    with pytest.raises(TooCostly):
        plan("Observation?_sort=date,-date,date,-date,date")
    with pytest.raises(TooCostly):
        codes = [code for code, one in searchables("Observation").items()
                 if one.kind == "reference" and one.targets]  # fmt: skip
        plan("Observation?" + "&".join(f"_include=Observation:{code}" for code in codes))
    assert len(plan("Observation?" + "&".join(["_include=Observation:subject"] * 11)).includes) == 1


def test_an_unknown_type_is_not_found() -> None:
    with pytest.raises(NotFound):
        plan("Observatoin?code=a")


def test_lenient_drops_what_is_not_known_and_says_so() -> None:
    url = "Observation?patinet=x&code:in=a&subject.nam=x&_sort=dat&status=final&_has:A:b:c=d"
    understood = plan(url, lenient=True)
    assert understood.dropped == ("patinet", "code:in", "subject.nam", "_sort", "_has:A:b:c")
    assert understood.applied == (("status", "final"),)
    assert len(understood.conditions) == 1
    assert understood.sort == ()


def test_lenient_still_refuses_a_bad_value() -> None:
    assert refusal("Observation?date=yesterday", lenient=True)[2] == "search-date"


def test_what_the_rest_layer_shapes_is_passed_on() -> None:
    understood = plan("Observation?_format=json&_pretty=true&_summary=false")
    assert understood.applied == (("_format", "json"), ("_pretty", "true"), ("_summary", "false"))
    assert not understood.only_count


def test_count_is_clamped_and_the_applied_value_says_it() -> None:
    understood = plan("Observation?_count=1000", page_limit=100)
    assert (understood.count, understood.applied) == (100, (("_count", "100"),))
    assert plan("Observation", page_limit=20).count == 20
    assert plan("Observation?_count=0").only_count
    assert plan("Observation?_summary=count").only_count


def test_names() -> None:
    assert parse_name("code") == Name("code")
    assert parse_name("code:not") == Name("code", "not")
    assert parse_name("subject:Patient.name") == Name("subject", "Patient", "name")
    assert parse_name("subject.name:exact") == Name("subject", None, "name:exact")
    assert parse_name("_has:A:b:c") == Name("_has", None, "A:b:c")


def test_escapes() -> None:
    assert split(r"a\,b,c", ",") == [r"a\,b", "c"]
    assert split(r"a\\,b", ",") == [r"a\\", "b"]
    assert parts(r"http://s|a\|b") == ["http://s", "a|b"]
    assert unescape(r"\,\|\$\\") == ",|$\\"
    assert unescape(r"a\b") == r"a\b"
    assert split("a\\", ",") == ["a\\"]
