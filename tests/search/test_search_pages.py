"""Order, pages and cursors: every match once, and no link for anybody else."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from search_loader import SECRET, Loader

from fhir_gateway.errors import Expired, Invalid
from fhir_gateway.search.page import Holder, encode_cursor, next_link, resume, self_link
from fhir_gateway.search.plan import SearchPlan

ME = Holder(SECRET, "me")


def walk(loader: Loader, url: str, *, between: Any = None) -> list[str]:
    """All matches, page after page, the way a client follows links."""
    ids: list[str] = []
    plan = loader.plan(url)
    for _ in range(100):
        page = loader.run(plan)
        ids += [match.id for match in page.matches]
        if page.next is None:
            return ids
        cursor = encode_cursor(plan, page.next, ME)
        plan = resume(loader.plan(f"{url}&_cursor={cursor}"), ME)
        if between:
            between()
    raise AssertionError("a walk without an end")


def result(id: str, **members: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": id,
        "status": "final",
        "code": {"coding": [{"code": "c"}]},
        "subject": {"reference": "Patient/p"},
        **members,
    }


def filled(*dates: str | None) -> Loader:
    loader = Loader()
    loader.put({"resourceType": "Patient", "id": "p"})
    for number, date in enumerate(dates):
        when = {"effectiveDateTime": date} if date else {}
        loader.put(result(f"o{number}", **when))
    return loader


DATES = ("2024-03-05", None, "2024-01-01", "2024-03", "2023", None, "2024-03-05", "2022-12-31")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("date", "7 4 2 3 0 6 1 5"),
        ("-date", "3 0 6 2 4 7 1 5"),
        ("_id", "0 1 2 3 4 5 6 7"),
        ("-_id", "7 6 5 4 3 2 1 0"),
        ("-_lastUpdated", "7 6 5 4 3 2 1 0"),
        ("date,-_id", "7 4 2 3 6 0 5 1"),
    ],
)
@pytest.mark.parametrize("scope", ["patient=p", "patient=p&code=c", "status=final"])
def test_sort_orders_and_puts_what_has_no_value_last(sort: str, expected: str, scope: str) -> None:
    loader = filled(*DATES)
    order = [f"o{number}" for number in expected.split()]
    assert loader.ids(f"Observation?{scope}&_sort={sort}") == order
    assert walk(loader, f"Observation?{scope}&_sort={sort}&_count=3") == order
    assert walk(loader, f"Observation?{scope}&_sort={sort}&_count=1") == order


def test_names_sort_by_their_folded_text() -> None:
    loader = Loader()
    for number, name in enumerate(["éva", "Adam", None, "eva b", "ZOE", "张三"]):
        person = {"resourceType": "Patient", "id": f"p{number}"}
        loader.put({**person, "name": [{"text": name}]} if name else person)
    assert loader.ids("Patient?_sort=name") == ["p1", "p0", "p3", "p4", "p5", "p2"]
    assert loader.ids("Patient?_sort=-name") == ["p5", "p4", "p3", "p0", "p1", "p2"]
    assert walk(loader, "Patient?_sort=-name,_id&_count=2") == ["p5", "p4", "p3", "p0", "p1", "p2"]


def test_quantities_sort_by_value() -> None:
    loader = filled()
    for number, value in enumerate([5.4, -1, 1e6, None, 0]):
        quantity = {} if value is None else {"valueQuantity": {"value": value, "unit": "mg"}}
        loader.put(result(f"o{number}", **quantity))
    url = "Observation?patient=p&_sort="
    assert loader.ids(f"{url}value-quantity") == ["o1", "o4", "o0", "o2", "o3"]
    assert loader.ids(f"{url}-value-quantity") == ["o2", "o0", "o4", "o1", "o3"]


def test_home_0_sorts_and_pages() -> None:
    loader = Loader()
    for number, name in enumerate("bacad"):
        loader.put({"resourceType": "Organization", "id": f"o{number}", "name": name})
    assert walk(loader, "Organization?_sort=name&_count=2") == ["o1", "o3", "o0", "o2", "o4"]
    assert walk(loader, "Organization?_count=2") == ["o0", "o1", "o2", "o3", "o4"]


@pytest.mark.parametrize(
    "url",
    [
        "Observation?patient=p&_count=2",
        "Observation?patient=p&_count=2&_sort=-date",
        "Observation?patient=p&code=c&_count=2&_sort=date,_id",
        "Observation?_count=2",
        "Observation?code=c&_count=2&_sort=-date",
    ],
)
def test_a_walk_meets_every_match_once_while_others_are_added(url: str) -> None:
    loader = filled(*DATES)
    added = iter(range(100, 200))

    def add() -> None:
        for date in ("2021-05-05", "2024-02-02", None, "2025-01-01"):
            when = {"effectiveDateTime": date} if date else {}
            loader.put(result(f"o{next(added)}", **when))

    count = iter(range(12))

    def between() -> None:
        if next(count, None) is not None:
            add()

    ids = walk(loader, url, between=between)
    assert len(ids) == len(set(ids))
    assert {id for id in ids if int(id[1:]) < 100} == {f"o{number}" for number in range(8)}


@settings(max_examples=examples(40), deadline=None)
@given(
    st.lists(st.sampled_from([*DATES, "2024-03-05T10:00:00Z"]), max_size=9),
    st.lists(st.sampled_from(["date", "-date", "_id", "-_id", "-_lastUpdated"]), max_size=3),
    st.integers(1, 4),
)
def test_pages_joined_are_the_whole(dates: list[str | None], keys: list[str], count: int) -> None:
    loader = filled(*dates)
    sort = f"&_sort={','.join(keys)}" if keys else ""
    for scope in ("patient=p", "status=final"):
        whole = loader.ids(f"Observation?{scope}{sort}")
        assert walk(loader, f"Observation?{scope}{sort}&_count={count}") == whole
        assert sorted(whole) == [f"o{number}" for number in range(len(dates))]


def test_the_last_page_has_no_next() -> None:
    loader = filled("2024", "2024")
    assert loader.page("Observation?patient=p&_count=2").next is None
    assert loader.page("Observation?patient=p&_count=1").next == (2,)


@pytest.mark.parametrize("scope", ["patient=p", "status=final", "_id=o0,o1,o9"])
def test_totals_are_exact_and_independent_of_the_page(scope: str) -> None:
    loader = filled("2024", "2023")
    page = loader.page(f"Observation?{scope}&_count=1&_total=accurate")
    assert (len(page.matches), page.total) == (1, 2)
    count = loader.page(f"Observation?{scope}&_summary=count")
    assert (count.matches, count.total, count.next) == ([], 2, None)
    assert loader.page(f"Observation?{scope}").total is None


# -- cursors and links --------------------------------------------------------------------------


def plans() -> tuple[SearchPlan, str]:
    plan = Loader().plan("Observation?patient=p&_sort=-date&_count=2")
    return plan, encode_cursor(plan, (17, 42), ME)


def read(url: str, holder: Holder = ME) -> tuple[int | str, ...] | None:
    return resume(Loader().plan(url), holder).after


URL = "Observation?patient=p&_sort=-date&_count=2"


def test_a_cursor_gives_back_its_values() -> None:
    _, cursor = plans()
    assert read(f"{URL}&_cursor={cursor}") == (17, 42)
    assert read(URL) is None


@pytest.mark.parametrize(
    "url",
    [
        "Observation?patient=q&_sort=-date&_count=2",
        "Observation?patient=p&_sort=date&_count=2",
        "Observation?patient=p&_sort=-date&_count=3",
        "Observation?patient=p&_sort=-date&_count=2&code=a",
        "Observation?_sort=-date&patient=p&_count=2",
        "Condition?patient=p&_sort=-onset-date&_count=2",
    ],
)
def test_a_cursor_of_another_query_is_refused(url: str) -> None:
    _, cursor = plans()
    with pytest.raises(Invalid, match="not of this question"):
        read(f"{url}&_cursor={cursor}")


def test_a_cursor_of_another_caller_or_store_is_refused() -> None:
    _, cursor = plans()
    with pytest.raises(Invalid):
        read(f"{URL}&_cursor={cursor}", ME._replace(caller="you"))
    with pytest.raises(Invalid):
        read(f"{URL}&_cursor={cursor}", ME._replace(secret=b"another store's"))


def test_every_edited_cursor_is_refused() -> None:
    _, cursor = plans()
    for place in range(len(cursor)):
        for sign in "A-z":
            edited = cursor[:place] + sign + cursor[place + 1 :]
            if edited != cursor:
                with pytest.raises(Invalid):
                    read(f"{URL}&_cursor={edited}")


@settings(max_examples=examples(60), deadline=None)
@given(st.text(min_size=1, max_size=60).filter(lambda text: "&" not in text))
def test_no_text_is_a_cursor(text: str) -> None:
    with pytest.raises(Invalid):
        read(f"{URL}&_cursor={text}")


def test_055_a_cursor_is_good_for_its_time_and_gone_after_it() -> None:
    plan, _ = plans()
    cursor = encode_cursor(plan, (17, 42), ME._replace(now=0, until=60_000_000))
    assert read(f"{URL}&_cursor={cursor}", ME._replace(now=60_000_000)) == (17, 42)
    with pytest.raises(Expired, match="start from the first page"):
        read(f"{URL}&_cursor={cursor}", ME._replace(now=60_000_001))
    with pytest.raises(Invalid):  # whose it is not never hears how old it is
        read(f"{URL}&_cursor={cursor}", ME._replace(now=60_000_001, caller="you"))


def test_a_cursor_must_fit_its_sort_keys() -> None:
    plan, _ = plans()
    short = encode_cursor(plan, (42,), ME)
    with pytest.raises(Invalid):
        read(f"{URL}&_cursor={short}")
    raw = base64.urlsafe_b64encode(b"0" * 16 + msgspec.msgpack.encode({"a": 1})).decode()
    with pytest.raises(Invalid):
        read(f"{URL}&_cursor={raw}")


def test_links_say_what_was_applied_and_nothing_else() -> None:
    loader = Loader()
    plan = loader.plan(
        "Patient?name=王 小&identifier=http://s|a\\,b&nonsense=1&_count=9999",
        lenient=True,
        page_limit=100,
    )
    expected = (
        "https://gw.example/fhir/Patient?name=%E7%8E%8B%20%E5%B0%8F"
        "&identifier=http://s%7Ca%5C,b&_count=100"
    )
    assert self_link("https://gw.example/fhir", plan) == expected
    link = next_link("https://gw.example/fhir", plan, (5,), ME)
    address, _, cursor = link.rpartition("&_cursor=")
    assert address == expected
    assert cursor == encode_cursor(plan, (5,), ME)
    assert self_link("https://gw.example/fhir", loader.plan("Patient")) == (
        "https://gw.example/fhir/Patient"
    )
