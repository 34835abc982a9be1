"""Page links: bound to caller, rights, question and time; authorised anew on each page (55)."""

from __future__ import annotations

from dataclasses import fields, replace
from urllib.parse import urlsplit

import pytest
from rest_samples import observation, patient

from fhir_gateway.fhir.keys import key64
from fhir_gateway.interactions.paging import caller_of, holder_of
from fhir_gateway.security.actor import Access, Actor, Narrow, Sight
from fhir_gateway.security.tokens import Known, hash_token

ME = Actor(
    "open", "Dr", "a", Access(), user="Practitioner/a", client="his",
    scopes=("user/*.rs",),
)  # fmt: skip


def _ask(client, actor, path):
    token = f"page-{abs(hash(actor))}"
    gateway = client.gateway
    until = gateway.clock.now() + 4_000_000
    gateway.tokens[hash_token(token)] = Known(actor, until, 1 << 62, "issued")
    return client.get(path, headers={"authorization": f"Bearer {token}"})


def _next(answer):
    (link,) = (one["url"] for one in answer.json()["link"] if one["relation"] == "next")
    parts = urlsplit(link)
    return f"{parts.path}?{parts.query}"


@pytest.fixture(scope="module")
def record(client):
    """A Patient with six results."""
    id = client.post("/fhir/Patient", patient()).json()["id"]
    for _ in range(6):
        client.post("/fhir/Observation", observation(f"Patient/{id}"))
    return id


PATHS = (
    "/fhir/Observation?patient={}&_count=2", "/fhir/Patient/{}/$everything?_count=2",
    "/fhir/Patient/{}/Observation?_count=2&_sort=-date", "/fhir/Observation/_history?_count=2",
    "/fhir?_type=Observation,Patient&_count=1&_id={}", "/fhir/_history?_count=2",
    "/fhir/Patient/{}/*?_count=2",
)  # fmt: skip


@pytest.fixture(scope="module", params=PATHS)
def link(request, client, record):
    """The link to a second page, of each kind."""
    path = request.param.format(record)
    if "_id=" in path:
        other = client.post("/fhir/Observation", observation(f"Patient/{record}")).json()["id"]
        path += f",{other}"
    answer = _ask(client, ME, path)
    assert answer.status_code == 200, answer.text
    return _next(answer)


OTHERS = {
    "role": replace(ME, role="institution"),
    "institution": replace(ME, institution="b"),
    "user": replace(ME, user="Practitioner/b"),
    "client": replace(ME, client="other"),
    "patient": replace(ME, patient="p"),
    "scopes": replace(ME, scopes=("user/*.rs", "user/*.c")),
    "none": replace(ME, scopes=None),
    "access": replace(ME, access=Access(max_class=3)),
}  # fmt: skip


def test_055_a_page_link_leads_on_for_the_caller_it_was_made_for(client, link):
    answer = _ask(client, ME, link)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("other", OTHERS)
def test_055_the_link_of_another_caller_is_refused_in_the_same_words(client, link, other):
    edited = link[:-3] + ("AAA" if link[-3:] != "AAA" else "BBB")
    refused = [_ask(client, OTHERS[other], link), _ask(client, ME, edited)]
    assert [one.status_code for one in refused] == [400, 400]
    assert refused[0].content == refused[1].content
    assert refused[0].json()["issue"][0]["details"]["text"] == "cursor"


def test_055_a_link_ends_and_says_how_to_go_on(client, link, monkeypatch):
    clock = client.gateway.clock
    now = clock.now()
    later = now + client.settings.page_link_minutes * 60_000_000 + 5_000_000
    monkeypatch.setattr(type(clock), "now", lambda _: later)
    answer = _ask(client, ME, link)
    assert answer.status_code == 410, answer.text
    (issue,) = answer.json()["issue"]
    assert issue["details"]["text"] == "cursor-expired"
    assert "first page" in issue["diagnostics"]


def test_055_the_cursor_shows_no_number_of_the_store(client, link):
    """What is enciphered has one length for small and large numbers."""
    cursor = link.rpartition("_cursor=")[2].rpartition("~")[2]
    assert len(cursor) in (86, 150)


def test_055_scopes_that_are_fewer_end_a_link_and_a_token_that_is_gone_opens_nothing(client, link):
    fewer = replace(ME, scopes=("user/Task.rs",))
    assert _ask(client, fewer, link).status_code in (400, 403)
    answer = client.get(link, headers={"authorization": "Bearer nobody"})
    assert answer.status_code == 401


def test_055_a_link_is_bound_to_its_question(client, record):
    link = _next(_ask(client, ME, f"/fhir/Observation?patient={record}&_count=2"))
    cursor = link.rpartition("_cursor=")[2]
    for path in (
        f"/fhir/Observation?patient={record}&_count=3&_cursor={cursor}",
        f"/fhir/Observation?patient={record}&_count=2&status=final&_cursor={cursor}",
        f"/fhir/Condition?patient={record}&_count=2&_cursor={cursor}",
        f"/fhir/Patient/{record}/Observation?_count=2&_cursor={cursor}",
    ):
        assert _ask(client, ME, path).status_code == 400, path


CHANGED = {
    "max_class": 9, "owners": frozenset({1}), "sight": Sight(1), "homes": frozenset({2}),
    "whole": frozenset({"Task"}), "closed": frozenset({"Task"}),
    "narrow": Narrow(homes=frozenset({3})), "acts": frozenset({1}),
}  # fmt: skip


def test_055_all_of_an_access_is_in_the_name_of_the_holder():
    assert set(CHANGED) == {one.name for one in fields(Access)}
    names = {
        caller_of(replace(ME, access=replace(ME.access, **{k: v}))) for k, v in CHANGED.items()
    }
    assert len(names | {caller_of(ME)}) == len(CHANGED) + 1
    again = replace(ME, access=Access(owners=frozenset({key64("b"), key64("a")})))
    same = replace(ME, access=Access(owners=frozenset({key64("a"), key64("b")})))
    assert caller_of(again) == caller_of(same)


def test_a_link_without_end_is_a_setting(start):
    running = start(open_access=True, page_link_minutes=0)
    assert holder_of(running.gateway, ME).until == 0
