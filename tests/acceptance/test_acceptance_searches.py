"""Searches through a whole gateway, on both stores, as peers' users would have wanted them."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import pytest
from running import Running

SYSTEM = "http://loinc.org"
CODES = [f"c{number}" for number in range(7)]
ROWS = 203


def observation(number: int) -> dict:
    """One of many results of a patient; some without a date, some on the same day."""
    day = f"2026-{1 + number % 11:02}-{1 + number % 5:02}"
    return {
        "resourceType": "Observation",
        "id": f"o{number}",
        "status": ("final", "amended", "preliminary")[number % 3],
        "code": {"coding": [{"system": SYSTEM, "code": CODES[number % 7]}]},
        "subject": {"reference": "Patient/p"},
        "performer": [{"reference": f"Practitioner/d{number % 3}"}],
        **({} if number % 10 == 9 else {"effectiveDateTime": day}),
    }


def bundle(*resources: dict) -> dict:
    """A transaction that puts these resources."""
    entries = []
    for one in resources:
        request = {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}
        entries.append({"resource": one, "request": request})
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def fill(server):
    """A patient with 203 results of seven kinds, by three practitioners."""
    answer = server.post("/fhir", bundle(
        {"resourceType": "Patient", "id": "p"},
        *({"resourceType": "Practitioner", "id": f"d{number}"} for number in range(3)),
        *map(observation, range(ROWS)),
    ))  # fmt: skip
    assert answer.status_code == 200
    return server


@pytest.fixture(scope="module")
def filled(client):
    return fill(client)


def found(server, url: str) -> list[str]:
    """The ids of all matches, page by page."""
    ids = []
    while url:
        body = server.get(url).json()
        ids += [one["resource"]["id"] for one in body.get("entry", ()) if is_match(one)]
        url = next_of(body)
    return ids


def is_match(entry: dict) -> bool:
    return entry["search"]["mode"] == "match"


def next_of(body: dict) -> str:
    links = {one["relation"]: one["url"] for one in body["link"]}
    parts = urlsplit(links.get("next", ""))
    return f"{parts.path}?{parts.query}" if parts.path else ""


def test_3_pages_outlive_the_server_and_lose_nothing(database):
    """No list of results is kept anywhere: another process goes on where the first one was."""
    url = "/fhir/Observation?patient=p&_count=20&_sort=-date"
    ids: list[str] = []
    with closing(Running(database.url(), open_access=True)) as server:
        fill(server)
        for _ in range(5):
            body = server.get(url).json()
            ids += [one["resource"]["id"] for one in body["entry"]]
            url = next_of(body)
    with closing(Running(database.url(), open_access=True)) as server:
        server.put(
            "/fhir/Observation/new", {**observation(1), "id": "new", "effectiveDateTime": "2027"}
        )
        rest = found(server, url)
    assert len(ids) == 100
    assert sorted([*ids, *rest]) == sorted(f"o{number}" for number in range(ROWS))


def test_4_an_include_is_whole_or_a_refusal(filled, monkeypatch):
    monkeypatch.setattr("fhir_gateway.store.search_includes.MAX_INCLUDED", 3)
    url = "/fhir/Observation?patient=p&code=c1&_include=Observation:performer&_count=5"
    entries = filled.get(url).json()["entry"]
    assert sorted(one["resource"]["id"] for one in entries if not is_match(one)) == [
        "d0",
        "d1",
        "d2",
    ]
    answer = filled.get(f"{url}&_include=Observation:subject")
    assert answer.status_code == 400
    (issue,) = answer.json()["issue"]
    assert issue["code"] == "too-costly"
    assert issue["diagnostics"]


def test_5_a_list_of_113_codes_is_the_sum_of_its_codes(filled):
    many = ",".join(f"{SYSTEM}|{code}" for code in (*CODES[:2], *(f"x{n}" for n in range(111))))
    both = found(filled, f"/fhir/Observation?patient=p&code={many}&_count=500")
    assert sorted(both) == sorted(
        found(filled, "/fhir/Observation?patient=p&code=c0&_count=500")
        + found(filled, "/fhir/Observation?patient=p&code=c1&_count=500")
    )
    assert len(both) == 58


@pytest.mark.parametrize("count", [7, 500])
def test_6_three_keys_sort_what_python_sorts(filled, count):
    """By status, the newest day first and what has none last, then by id downwards."""
    resources = [observation(number) for number in range(ROWS)]
    resources.sort(key=lambda one: one["id"], reverse=True)
    resources.sort(key=lambda one: one.get("effectiveDateTime", ""), reverse=True)
    resources.sort(key=lambda one: one["status"])
    url = f"/fhir/Observation?patient=p&_sort=status,-date,-_id&_count={count}"
    assert found(filled, url) == [one["id"] for one in resources]


def test_7_a_total_is_exact_or_not_told(filled):
    def total(query):
        return filled.get(f"/fhir/Observation?patient=p&{query}").json().get("total")

    assert total("_total=accurate&_count=2") == ROWS
    assert total("_total=estimate&_count=2") in (None, ROWS)
    assert total("_total=none&_count=2") is None
    assert total("_count=2") is None
    assert total("_count=500") == ROWS  # all stands on this page
    assert total("_summary=count") == ROWS
    assert total("_count=0") == ROWS
    assert total("code=nothing") == 0
    assert total("code=nothing&_total=accurate") == 0


#: Times near midnight, as they are written.
WRITTEN = [
    "2026-03-01", "2026-03", "2026", "2026-03-01T00:30:00+08:00", "2026-02-28T16:30:00Z",
    "2026-03-01T23:59:59.999+08:00", "2026-03-01T16:00:00Z", "2026-02-28T23:30:00-05:00",
    "1988-07-01", "1988-07-01T00:30:00+09:00", "1988-06-30T23:30:00+08:00",
]  # fmt: skip
ASKED = [
    "2026-03-01", "2026-02-28", "2026-03", "2026-03-01T00:30:00+08:00", "2026-02-28T16:30:00Z",
    "2026-03-01T00:30", "1988-07-01", "1988-06-30", "1988",
]  # fmt: skip
PREFIXES = {
    "eq": lambda mine, asked: asked[0] <= mine[0] and mine[1] <= asked[1],
    "ne": lambda mine, asked: not (asked[0] <= mine[0] and mine[1] <= asked[1]),
    "gt": lambda mine, asked: mine[1] > asked[1],
    "lt": lambda mine, asked: mine[0] < asked[0],
    "ge": lambda mine, asked: mine[1] > asked[1] or PREFIXES["eq"](mine, asked),
    "le": lambda mine, asked: mine[0] < asked[0] or PREFIXES["eq"](mine, asked),
    "sa": lambda mine, asked: mine[0] >= asked[1],
    "eb": lambda mine, asked: mine[1] <= asked[0],
}


def spanned(text: str, zone: ZoneInfo) -> tuple[float, float]:
    """From the first moment of a written time up to the first moment after it."""
    date, _, time = text.partition("T")
    if not time:
        year, month, day = (*map(int, date.split("-")), 1, 1)[:3]
        start = datetime(year, month, day, tzinfo=zone)
        after = {
            4: datetime(year + 1, 1, 1, tzinfo=zone),
            7: datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone),
            10: (start.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone),
        }[len(date)]
        return start.timestamp(), after.timestamp()
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=zone)
    length = {5: 60, 8: 1, 12: 0.001}[len(time.removesuffix("Z").split("+")[0].split("-")[0])]
    return moment.timestamp(), moment.timestamp() + length


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "UTC"])
def test_17_days_are_those_of_the_zone_that_wrote_them(start, zone):
    """A day is one of the gateway's zone, summer times too; a time is where its offset says."""
    server = start(open_access=True, zone=zone)
    server.post("/fhir", bundle(
        {"resourceType": "Patient", "id": "p"},
        *({"resourceType": "Observation", "id": f"o{number}", "status": "final",
           "code": {"text": "x"}, "subject": {"reference": "Patient/p"}, "effectiveDateTime": text}
          for number, text in enumerate(WRITTEN)),
    ))  # fmt: skip
    there = ZoneInfo(zone)
    for asked in ASKED:
        for prefix, holds in PREFIXES.items():
            expected = [
                f"o{number}"
                for number, text in enumerate(WRITTEN)
                if holds(spanned(text, there), spanned(asked, there))
            ]
            answer = server.get(
                "/fhir/Observation", params={"patient": "p", "date": prefix + asked}
            )
            found = answer.json().get("entry", ())
            ids = [one["resource"]["id"] for one in found if one["search"]["mode"] == "match"]
            assert sorted(ids) == sorted(expected), (zone, prefix, asked)
