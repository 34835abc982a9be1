"""Scopes with queries against an independent reading of them: whatever is asked, and however.

The model judges plain dicts by the words of the scopes (tests/search/search_matcher.py is another
implementation of search than the product's); the server must show what it lets through, and never
more. faults.md 39
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import pytest
from effort import examples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_samples import observation, patient

from fhir_gateway.security.actor import Access, Actor
from fhir_gateway.security.tokens import Known, hash_token

sys.path.append(str(Path(__file__).parents[1] / "search"))
from search_matcher import holds

_number = count(1)
CODES, STATUSES = ("2951-2", "2823-3", "718-7"), ("final", "amended", "preliminary")


@pytest.fixture(scope="module")
def held(client):
    """Two Patients with results of all kinds: the resources as they are stored."""
    found = []
    for _ in range(2):
        of = client.post("/fhir/Patient", patient()).json()["id"]
        for code in CODES:
            for status in STATUSES:
                one = observation(
                    f"Patient/{of}", status=status,
                    code={"coding": [{"system": "http://loinc.org", "code": code}]},
                )  # fmt: skip
                found.append(client.post("/fhir/Observation", one).json())
    return found


_QUERY = st.sampled_from([
    (), (("code", "2951-2"),), (("status", "final"),), (("status", "final,amended"),),
    (("code", "2823-3"), ("status", "amended")), (("code:not", "718-7"),),
    (("date", "ge2026-11-01"),), (("date", "gt2027"),),
])  # fmt: skip


@st.composite
def _scopes(draw):
    level = draw(st.sampled_from(["system", "system", "patient"]))
    letters = draw(st.sampled_from(["rs", "r", "s", "cruds", "read", "c"]))
    query = draw(_QUERY) if letters not in ("read",) else ()
    return level, letters, query


def _text(scope):
    level, letters, query = scope
    asked = "&".join(f"{name}={value}" for name, value in query)
    return f"{level}/Observation.{letters}" + (f"?{asked}" if asked else "")


def _lets(scopes, resource, letter, mine):
    """Whether the scopes let a resource through, by their words."""
    for level, letters, query in scopes:
        if letter not in {"read": "rs"}.get(letters, letters):
            continue
        if level == "patient" and resource["subject"]["reference"] != f"Patient/{mine}":
            continue
        if all(holds(resource, name, value) for name, value in query):
            return True
    return False


@settings(max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_scopes(), min_size=1, max_size=3), _QUERY)
def test_039_the_server_shows_what_the_model_lets_through_and_no_more(client, held, scopes, asked):
    mine = held[0]["subject"]["reference"].removeprefix("Patient/")
    actor = Actor(
        "open", "modelled", access=Access(), patient=mine,
        scopes=tuple(_text(one) for one in scopes),
    )  # fmt: skip
    gateway, token = client.gateway, f"model-{next(_number)}"
    until = gateway.clock.now() + 4_000_000
    gateway.tokens[hash_token(token)] = Known(actor, until, 1 << 62, "issued")
    headers = {"authorization": f"Bearer {token}"}
    query = "&".join(f"{name}={value}" for name, value in asked)
    ids = ",".join(one["id"] for one in held)
    path = f"/fhir/Observation?_id={ids}&_total=accurate&_count=100&{query}".rstrip("&")
    answer = client.get(path, headers=headers)
    expected = {
        one["id"] for one in held
        if _lets(scopes, one, "s", mine) and all(holds(one, *pair) for pair in asked)
    }  # fmt: skip
    granted = any("s" in {"read": "rs"}.get(letters, letters) for _, letters, _ in scopes)
    assert answer.status_code == (200 if granted else 403), answer.text
    if granted:
        shown = {one["resource"]["id"] for one in answer.json().get("entry", ())}
        assert shown == expected
        assert answer.json()["total"] == len(expected)
    for one in held[:: len(held) // 3]:
        read = client.get(f"/fhir/Observation/{one['id']}", headers=headers).status_code
        assert (read == 200) == _lets(scopes, one, "r", mine)
