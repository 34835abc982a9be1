"""SMART scopes: what is one, and what it grants."""

from __future__ import annotations

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.security.actor import Actor
from fhir_gateway.security.scopes import (
    LAUNCH,
    Narrowed,
    Refused,
    Scope,
    Unknown,
    Way,
    Whole,
    allowed,
    granted,
    levels_of,
    parse,
    unknown,
)

LABORATORY = (("category", "laboratory"),)


@pytest.mark.parametrize(
    ("text", "scope"),
    [
        ("patient/Observation.read", Scope("patient", "Observation", "rs")),
        ("user/*.write", Scope("user", "*", "cud")),
        ("system/*.*", Scope("system", "*", "cruds")),
        ("system/DiagnosticReport.cruds", Scope("system", "DiagnosticReport", "cruds")),
        ("user/Patient.rs", Scope("user", "Patient", "rs")),
        (
            "patient/Observation.rs?category=laboratory",
            Scope("patient", "Observation", "rs", LABORATORY),
        ),
        (
            "patient/Observation.rs?category=http%3A%2F%2Fa%7Cb&status=final",
            Scope(
                "patient", "Observation", "rs", (("category", "http://a|b"), ("status", "final"))
            ),
        ),
    ],
)
def test_scopes_of_both_versions_are_read(text, scope):
    assert parse(text) == scope


@pytest.mark.parametrize(
    "text",
    [
        "", "patient", "patient/Observation", "patient/Observation.", "patient/observation.read",
        "patient/Nonsense.read", "patient/Observation.sr", "patient/Observation.rr",
        "patient/Observation.readwrite", "patient/Observation.READ", "Patient/Observation.read",
        "patient/*.rs?category=laboratory", "patient/Observation.read?category=laboratory",
        "patient/Observation.rs?", "patient/Observation.rs?category", "patient/Observation.rs?=x",
        "patient/Observation.rs?category=", "patient/Observation.rs?category=%ff",
        'patient/Observation.rs?code="1"', "patient/Observation.rs?code=a\\b",
        "user/Observation.rs ",
        "admin/*.rs", "patient/Observation.rs\n", "system/*.cruds" + "?" * 1_000,
    ],
)  # fmt: skip
def test_what_is_no_scope_is_named_and_grants_nothing(text):
    found = parse(text)
    assert isinstance(found, Unknown)
    assert found.why
    assert unknown([text]) == [found]
    assert isinstance(allowed((text,), "Observation", "r"), Refused)


def test_what_launches_is_known_and_grants_nothing():
    assert unknown(LAUNCH) == []
    assert isinstance(allowed(tuple(sorted(LAUNCH)), "Patient", "r"), Refused)


def test_more_scopes_than_a_token_has_are_named():
    texts = [f"user/Observation.rs?code={number}" for number in range(201)]
    assert [one.text for one in unknown(texts)] == [texts[200]]


@pytest.mark.parametrize(
    ("scopes", "type", "interaction", "grant"),
    [
        (None, "Observation", "create", Whole()),
        ((), "Observation", "read", Refused("patient/Observation.r")),
        (("user/Observation.rs",), "Observation", "read", Whole()),
        (("user/Observation.r",), "Observation", "search-type", Refused("patient/Observation.s")),
        (("user/Observation.s",), "Observation", "history-instance",
         Refused("patient/Observation.r")),
        (("user/Observation.s",), "Observation", "history-type", Whole()),
        (("user/Observation.u",), "Observation", "update", Whole()),
        (("user/Observation.u",), "Observation", "patch", Whole()),
        (("user/Observation.u",), "Observation", "create", Refused("patient/Observation.c")),
        (("user/Observation.write",), "Observation", "delete", Whole()),
        (("user/Observation.write",), "Observation", "read", Refused("patient/Observation.r")),
        (("user/*.rs",), "Patient", "read", Whole()),
        (("user/Observation.rs",), "*", "search-system", Refused("patient/*.s")),
        (("patient/*.rs",), "Patient", "read", Narrowed(((Way("patient"),),))),
    ],
)  # fmt: skip
def test_039_each_interaction_needs_its_letter(scopes, type, interaction, grant):
    assert granted(scopes, type, interaction) == grant


def test_039_mixed_scopes_add_up_and_a_narrowed_one_never_widens():
    narrow = "user/Observation.rs?category=laboratory"
    way = Way("user", LABORATORY)
    assert allowed((narrow,), "Observation", "r") == Narrowed(((way,),))
    assert allowed((narrow, "user/Observation.c"), "Observation", "r") == Narrowed(((way,),))
    assert allowed((narrow, "user/Observation.read"), "Observation", "r") == Whole()
    assert allowed((narrow, "user/Observation.r"), "Observation", "rs") == Narrowed(((way,),))
    both = allowed((narrow, "patient/*.read"), "Observation", "rs")
    assert both == Narrowed(((way, Way("patient")),))
    assert allowed((narrow, "patient/*.read"), "Patient", "rs") == Narrowed(((Way("patient"),),))


@pytest.mark.parametrize(
    ("actor", "levels"),
    [
        (Actor("institution", "a"), {"system"}),
        (Actor("clinician", "a", user="Practitioner/a"), {"user"}),
        (Actor("clinician", "a", user="Practitioner/a", patient="p"), {"user", "patient"}),
        (Actor("institution", "a", patient="p"), {"system", "patient"}),
    ],
)
def test_a_level_says_something_to_those_it_is_for_alone(actor, levels):
    assert levels_of(actor) == levels
    for level in ("patient", "user", "system"):
        grant = granted((f"{level}/*.cruds",), "Patient", "read", levels_of(actor))
        assert isinstance(grant, Refused) == (level not in levels)


_TYPES = st.sampled_from(["*", "Patient", "Observation", "DiagnosticReport"])
_QUERIES = st.sampled_from(["", "?category=laboratory", "?status=final", "?code=1&status=final"])


@st.composite
def _texts(draw):
    level = draw(st.sampled_from(["patient", "user", "system"]))
    type = draw(_TYPES)
    letters = draw(st.sampled_from(["read", "write", "*", "c", "rs", "cruds", "u", "ds", "sr"]))
    return f"{level}/{type}.{letters}{draw(_QUERIES)}"


_BY_VERSION_1 = {"read": "rs", "write": "cud", "*": "cruds"}


def _model(texts, type, letter, levels):
    """The ways of a letter, by plain cutting of texts: what the standard says, written again."""
    ways = set()
    for text in texts:
        level, _, rest = text.partition("/")
        name, _, after = rest.partition(".")
        letters, mark, query = after.partition("?")
        first = letters in _BY_VERSION_1
        if mark and (first or name == "*"):
            continue
        letters = _BY_VERSION_1.get(letters, letters)
        if sorted(letters, key="cruds".index) != list(letters):
            continue
        if level in levels and name in ("*", type) and letter in letters:
            ways.add((level, query))
    return ways


@given(st.lists(_texts(), max_size=5), _TYPES, st.sampled_from(["c", "r", "u", "d", "s", "rs"]),
       st.sets(st.sampled_from(["patient", "user", "system"])))  # fmt: skip
@settings(max_examples=examples(200))
def test_039_scopes_grant_what_an_independent_reading_grants(texts, type, letters, levels):
    grant = allowed(tuple(texts), type, letters, frozenset(levels))
    models = [_model(texts, type, letter, levels) for letter in letters]
    if not all(models):
        assert isinstance(grant, Refused)
        return
    whole = [any(level != "patient" and not query for level, query in one) for one in models]
    if all(whole):
        assert grant == Whole()
        return
    assert isinstance(grant, Narrowed)
    wanted = {frozenset(one) for one, all_of_it in zip(models, whole, strict=True) if not all_of_it}
    found = {
        frozenset((way.level, "&".join(f"{name}={value}" for name, value in way.query))
                  for way in ways)
        for ways in grant.ways
    }  # fmt: skip
    assert found == wanted
