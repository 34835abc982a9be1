"""Laws that hold for whatever code systems and value sets there are."""

from __future__ import annotations

from typing import Any

from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from service_cases import ROOT, code_system, codes, value_set

from fhir_gateway.errors import GatewayError, Unprocessable
from fhir_gateway.terminology.expansion import Expanding
from fhir_gateway.terminology.service import of_resources
from fhir_gateway.terminology.service_validate import Checking, Coding

CODES = [f"c{n}" for n in range(9)]
S1, S2 = f"{ROOT}/s1", f"{ROOT}/s2"

words = st.sampled_from(["血糖", "钾", "Glucose", "potassium", "血 清", "x" * 40, "a+b", ""])


@st.composite
def systems(draw: st.DrawFn, url: str, *, may_loop: bool) -> dict[str, Any]:
    concepts = []
    used = draw(st.lists(st.sampled_from(CODES), unique=True, min_size=1))
    for place, code in enumerate(used):
        above = used if may_loop else used[:place]
        parents = draw(st.lists(st.sampled_from(above), max_size=2)) if above else []
        name = draw(words)
        raw: dict[str, Any] = {"code": code, "property": [
            *({"code": "parent", "valueCode": one} for one in parents),
            {"code": "inactive", "valueBoolean": draw(st.booleans())},
            {"code": "kind", "valueCode": draw(st.sampled_from("ab"))},
        ]}  # fmt: skip
        concepts.append(raw | ({"display": name} if name else {}))
    return code_system(url, *concepts, property=[{"code": "kind", "type": "code"}],
                       caseSensitive=draw(st.booleans()))  # fmt: skip


def _filter() -> st.SearchStrategy[dict[str, str]]:
    return st.one_of(
        st.builds(
            lambda op, value: {"property": "concept", "op": op, "value": value},
            st.sampled_from(["is-a", "descendent-of", "is-not-a", "generalizes"]),
            st.sampled_from([*CODES[:3], "C1"]),
        ),
        st.builds(
            lambda op, value: {"property": "concept", "op": op, "value": value},
            st.sampled_from(["=", "in"]),
            st.sampled_from([*CODES, "C1", "c1,c2", "nothing"]),
        ),
        st.builds(
            lambda op, value: {"property": "kind", "op": op, "value": value},
            st.sampled_from(["=", "in", "not-in", "regex"]),
            st.sampled_from(["a", "a,b", "[ab]", "z"]),
        ),
    )


@st.composite
def parts(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["all", "list", "filter", "import"]))
    if kind == "import":
        return {"valueSet": [f"{ROOT}/v{draw(st.integers(0, 3))}"]}
    part: dict[str, Any] = {"system": draw(st.sampled_from([S1, S2]))}
    if kind == "list":
        listed = draw(st.lists(st.sampled_from([*CODES, "C3", "no"]), min_size=1, max_size=4))
        part["concept"] = [{"code": code} for code in listed]
    if kind == "filter":
        part["filter"] = draw(st.lists(_filter(), min_size=1, max_size=2))
    if draw(st.integers(0, 4)) == 0:
        part["valueSet"] = [f"{ROOT}/v{draw(st.integers(0, 3))}"]
    return part


@st.composite
def worlds(draw: st.DrawFn) -> Any:
    made = [draw(systems(S1, may_loop=True)), draw(systems(S2, may_loop=True))]
    for number in range(4):
        one = value_set(
            f"{ROOT}/v{number}",
            *draw(st.lists(parts(), min_size=1, max_size=3)),
            exclude=draw(st.lists(parts(), max_size=1)),
        )
        if draw(st.booleans()):
            one["compose"]["inactive"] = draw(st.booleans())
        made.append(one)
    return of_resources(made)


@settings(max_examples=examples(80))
@given(worlds())
def test_what_is_expanded_validates_and_what_validates_is_expanded(world):
    """Expansion and validation are two programs over one definition: they must not disagree."""
    for number in range(4):
        url = f"{ROOT}/v{number}"
        try:
            expanded = world.codes_of(url)
        except Unprocessable as error:
            assert error.issues[0].rule in ("vs-circular", "vs-invalid")
            continue
        shown = world.expand(url)
        assert shown["expansion"]["total"] == len(expanded) == len(codes(shown))
        for system in (S1, S2):
            for code in CODES:
                inside = (system, code) in expanded
                assert world.is_member(url, system, code) is inside
                assert world.validate_code(Coding(system, code), url).result is inside


@settings(max_examples=examples(100))
@given(systems(S1, may_loop=False), st.data())
def test_subsumption_is_a_partial_order(system, data):
    world = of_resources([system])
    named = [one["code"] for one in system["concept"]]
    a, b, c = (data.draw(st.sampled_from(named)) for _ in range(3))
    says = world.subsumes
    assert says(S1, a, a) == "equivalent"
    turned = {"subsumes": "subsumed-by", "subsumed-by": "subsumes"}
    assert says(S1, b, a) == turned.get(says(S1, a, b), says(S1, a, b))
    if says(S1, a, b) == "subsumes" and says(S1, b, c) in ("subsumes", "equivalent"):
        assert says(S1, a, c) == "subsumes"
    assert (b in world.subsumed(S1, a)) == (says(S1, a, b) in ("subsumes", "equivalent"))


@settings(max_examples=examples(60))
@given(systems(S1, may_loop=True), st.text(max_size=6) | words, st.integers(1, 4))
def test_pages_put_together_are_the_whole(system, text, size):
    world = of_resources([system])
    url = f"{S1}/vs"
    whole = codes(world.expand(url, Expanding(filter=text, exclude_nested=True)))
    paged: list[str] = []
    for offset in range(0, len(CODES) + size, size):
        paged += codes(world.expand(url, Expanding(filter=text, offset=offset, most=size)))
    assert paged == whole
    assert len(set(whole)) == len(whole)


@settings(max_examples=examples(100))
@given(
    st.text(max_size=30), st.text(max_size=30), st.text(max_size=30),
    st.sampled_from(["", "zh", "en"]),
)  # fmt: skip
def test_any_text_gets_a_verdict(system, code, display, language):
    world = of_resources([code_system(S1, {"code": "c1", "display": "One"})])
    found = world.validate_code(Coding(system, code, display=display), f"{S1}/vs",
                                Checking(language=language))  # fmt: skip
    assert not found.result or (system, code) == (S1, "c1")
    assert found.result or found.message


@settings(max_examples=examples(150))
@given(st.text(alphabet="ab()[]{}|*+?.^$\\0123456789,:=!<>Pdws-", max_size=40))
def test_any_pattern_is_run_or_refused(pattern):
    one = value_set(
        f"{ROOT}/p",
        {"system": S1, "filter": [{"property": "code", "op": "regex", "value": pattern}]},
    )
    world = of_resources([code_system(S1, {"code": "a" * 30 + "!"}), one])
    try:
        world.codes_of(f"{ROOT}/p")
    except GatewayError as error:
        assert (error.status, error.issues[0].rule) == (422, "vs-invalid")
