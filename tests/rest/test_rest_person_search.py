"""Searches about one Patient mean the person: all records of the person, at every institution."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rest_samples import bundle, entry, observation, patient

PASSPORT = "http://hl7.org/fhir/sid/passport-CHN"
FIRST, SECOND = "hospital-one", "hospital-two"


class City:
    """One person at two hospitals, another person, and results of both."""

    def __init__(self, client):
        self.client = client
        self.tokens = {one: client.institution(one) for one in (FIRST, SECOND)}
        document = {"system": PASSPORT, "value": "E20261122"}
        self.one = self.store(FIRST, patient(identifier=[document]))
        self.two = self.store(SECOND, patient(identifier=[document]))
        self.other = self.store(FIRST, patient())
        self.results = {self.one: [], self.two: [], self.other: []}
        for number in range(12):
            owner = (self.one, self.two, self.one, self.other)[number % 4]
            name = SECOND if owner == self.two else FIRST
            result = observation(
                owner,
                effectiveDateTime=f"2026-10-{number + 1:02}T08:00:00+08:00",
                code={"coding": [{"system": "http://loinc.org", "code": "2951-2"}]},
                valueQuantity={"value": number},
            )
            self.results[owner].append(self.store(name, result))
        self.reports = [
            self.store(
                name,
                {
                    "resourceType": "DiagnosticReport",
                    "status": "final",
                    "code": {"text": "report"},
                    "subject": {"reference": owner},
                    "result": [{"reference": self.results[owner][0]}],
                },
            )
            for name, owner in ((FIRST, self.one), (SECOND, self.two))
        ]

    def store(self, name, resource):
        type = resource["resourceType"]
        answer = self.client.post(f"/fhir/{type}", resource, headers=self.tokens[name])
        assert answer.status_code == 201, answer.text
        return f"{type}/{answer.json()['id']}"

    def page(self, path, name=FIRST):
        answer = self.client.get(f"/fhir/{path}", headers=self.tokens[name])
        assert answer.status_code == 200, answer.text
        return answer.json()

    def names(self, path, name=FIRST):
        """All matches of all pages, in order."""
        found, link = [], f"/fhir/{path}"
        while link:
            answer = self.client.get(link, headers=self.tokens[name])
            assert answer.status_code == 200, answer.text
            found += names(answer.json())
            link = following(answer.json())
        return found


def names(page, mode="match"):
    return [
        f"{one['resource']['resourceType']}/{one['resource']['id']}"
        for one in page.get("entry", ())
        if one["search"]["mode"] == mode
    ]


def following(page):
    return next((one["url"] for one in page["link"] if one["relation"] == "next"), None)


def issues(page):
    """The issues of the outcome entry by rule; none when there is no such entry."""
    return {
        issue["details"]["text"]: issue
        for one in page.get("entry", ())
        if one["search"]["mode"] == "outcome"
        for issue in one["resource"]["issue"]
    }


@pytest.fixture(scope="module")
def city(client):
    return City(client)


def whole(city):
    return {*city.results[city.one], *city.results[city.two]}


@pytest.mark.parametrize(
    "path",
    [
        "Observation?patient={id}",
        "Observation?patient=Patient/{id}",
        "Observation?subject=Patient/{id}",
        "Observation?subject:Patient={id}",
        "Patient/{id}/Observation",
        "Observation?patient={id}&_person=true",
        "Observation?patient={id}&_sort=-date",
        "Observation?patient={id}&_count=1",
        "Observation?patient={id}&_sort=date&_count=2",
        "Observation?patient={id}&patient={other}",
        "Observation?patient={id},{other}",
        "Patient/{id}/*?_type=Observation",
        "?_type=Observation,Condition&patient={id}&_count=4",
    ],
)
def test_a_patient_stands_for_the_person(city, path):
    for id, other in ((city.one, city.two), (city.two, city.one)):
        filled = path.format(id=id.split("/")[1], other=other.split("/")[1])
        for name in (FIRST, SECOND):
            found = city.names(filled, name)
            assert len(found) == len(set(found))
            assert set(found) == whole(city), filled


def test_the_answer_names_its_records_and_sources(city):
    page = city.page(f"Observation?patient={city.one}")
    told = issues(page)
    records = told["person-records"]["diagnostics"]
    assert f"{city.one} of Organization/{FIRST}" in records
    assert f"{city.two} of Organization/{SECOND}" in records
    assert city.other not in records
    assert FIRST in told["sources-included"]["diagnostics"]
    assert set(told) == {"person-records", "sources-included"}
    assert page["total"] == len(whole(city))


def test_a_source_that_is_silent_is_named_as_one(start):
    running = start()
    known = {one: running.institution(one) for one in (FIRST, SECOND)}
    answer = running.post("/fhir/Patient", patient(), headers=known[FIRST])
    path = f"/fhir/Observation?patient={answer.json()['id']}"
    told = issues(running.get(path, headers=known[FIRST]).json())
    assert FIRST in told["sources-included"]["diagnostics"]
    assert told["sources-stale"]["code"] == "incomplete"
    assert told["sources-stale"]["severity"] == "warning"
    assert f"Organization/{SECOND} ({SECOND}), never" in told["sources-stale"]["diagnostics"]


def test_one_record_is_answered_as_ever(city):
    page = city.page(f"Observation?patient={city.other}")
    assert set(names(page)) == set(city.results[city.other])
    assert not issues(page)


def test_nothing_found_names_where_it_was_looked_for(city):
    page = city.page(f"Observation?patient={city.other}&code=nothing")
    assert page["total"] == 0
    assert "sources-included" in issues(page)
    counted = city.page(f"Observation?patient={city.other}&code=nothing&_summary=count")
    assert "entry" not in counted


def test_one_record_alone_is_had_by_saying_so(city):
    page = city.page(f"Observation?patient={city.one}&_person=false&_count=2")
    own = page["link"][0]["url"]
    assert own.endswith("_person=false&_count=2")
    assert "_person=false" in following(page)
    found = city.names(f"Observation?patient={city.one}&_person=false&_count=2")
    assert found == city.results[city.one]
    found = city.names(f"{city.one}/Observation?_person=false")
    assert found == city.results[city.one]
    assert city.names(f"Observation?patient._id={city.one.split('/')[1]}") == found


@pytest.mark.parametrize("value", ["", "no", "FALSE", "0"])
def test_person_is_true_or_false(city, value):
    answer = city.client.get(
        f"/fhir/Observation?patient={city.one}&_person={value}", headers=city.tokens[FIRST]
    )
    assert answer.status_code == 400


def test_ids_and_identifiers_are_never_widened(city):
    id = city.one.split("/")[1]
    assert city.names(f"Patient?_id={id}") == [city.one]
    assert set(city.names(f"{city.one}/Patient")) == {city.one, city.two}
    assert city.names(f"{city.one}/Patient?_id={id}") == [city.one]
    first = city.results[city.one][0]
    assert city.names(f"Observation?patient={city.two}&_id={first.split('/')[1]}") == [first]


def test_conditions_of_writes_mean_the_record_alone(city):
    """A guard that looked at the whole person would update another hospital's resource."""
    code = {"coding": [{"system": "http://x.example", "code": "guarded"}]}
    city.store(SECOND, observation(city.two, code=code))
    condition = f"patient={city.one}&code=http://x.example|guarded"
    answer = city.client.post(
        "/fhir/Observation",
        observation(city.one, code=code),
        headers={**city.tokens[FIRST], "if-none-exist": condition},
    )
    assert answer.status_code == 201
    answer = city.client.put(
        f"/fhir/Observation?{condition}",
        observation(city.one, code=code, status="amended"),
        headers=city.tokens[FIRST],
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["subject"]["reference"] == city.one
    answer = city.client.post(
        "/fhir/Observation",
        observation(city.one),
        headers={**city.tokens[FIRST], "if-none-exist": f"patient={city.one}&_person=true"},
    )
    assert answer.status_code == 400
    for path in (f"Observation?{condition}", f"Observation?{condition}&_person=false"):
        for found in city.names(path):
            city.client.delete(f"/fhir/{found}", headers=city.tokens[SECOND])
            city.client.delete(f"/fhir/{found}", headers=city.tokens[FIRST])


def test_includes_go_with_the_matches_of_every_record(city):
    page = city.page(f"DiagnosticReport?patient={city.two}&_include=DiagnosticReport:result")
    assert set(names(page)) == set(city.reports)
    assert set(names(page, "include")) == {
        city.results[city.one][0],
        city.results[city.two][0],
    }
    page = city.page(f"Observation?patient={city.one}&_revinclude=DiagnosticReport:result")
    assert set(names(page, "include")) == set(city.reports)
    page = city.page(f"Observation?patient={city.one}&_include=Observation:subject")
    assert set(names(page, "include")) == {city.one, city.two}


def test_chains_and_has_see_every_record(city):
    path = f"DiagnosticReport?patient={city.one}&result.code=2951-2"
    assert set(city.names(path)) == set(city.reports)
    path = f"Observation?patient={city.two}&_has:DiagnosticReport:result:status=final"
    assert set(city.names(path)) == {city.results[city.one][0], city.results[city.two][0]}


def test_totals_count_every_record(city):
    many = len(whole(city))
    assert city.page(f"Observation?patient={city.one}&_summary=count")["total"] == many
    page = city.page(f"Observation?patient={city.one}&_total=accurate&_count=1")
    assert page["total"] == many
    page = city.page(f"Observation?patient={city.one}&_person=false&_summary=count")
    assert page["total"] == len(city.results[city.one])


def test_post_and_batch_mean_the_person_too(city):
    answer = city.client.request(
        "POST",
        "/fhir/Observation/_search",
        content=f"patient={city.one}".encode(),
        headers={**city.tokens[FIRST], "content-type": "application/x-www-form-urlencoded"},
    )
    assert set(names(answer.json())) == whole(city)
    request = bundle("batch", entry("GET", f"Observation?patient={city.two}"))
    answer = city.client.post("/fhir", request, headers=city.tokens[SECOND])
    (only,) = answer.json()["entry"]
    assert set(names(only["resource"])) == whole(city)


def test_a_page_link_ends_when_the_person_has_another_record(city):
    page = city.page(f"Observation?patient={city.one}&_count=1")
    document = {"system": PASSPORT, "value": "E20261122"}
    city.store(SECOND, patient(identifier=[document]))
    answer = city.client.get(following(page), headers=city.tokens[FIRST])
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["details"]["text"] == "cursor"


def test_each_record_whose_data_was_told_is_audited(city):
    def events(record):
        path = f"AuditEvent?patient={record}&_summary=count"
        return city.page(path)["total"]

    before = [events(one) for one in (city.one, city.two, city.other)]
    city.page(f"Observation?patient={city.one}")
    after = [events(one) for one in (city.one, city.two, city.other)]
    # what counts the events is an event of its own record
    assert [new - old for new, old in zip(after, before, strict=True)] == [2, 2, 1]


def test_lastn_compares_all_records(city):
    newest = city.names(f"Observation/$lastn?patient={city.one}&code=2951-2")
    assert len(newest) == 1
    assert newest[0] in whole(city)
    both = city.names(f"Observation/$lastn?patient={city.two}&code=2951-2&max=50")
    assert set(both) == whole(city)
    own = city.names(f"Observation/$lastn?patient={city.two}&code=2951-2&max=50&_person=false")
    assert set(own) == set(city.results[city.two])
    page = city.page(f"Observation/$lastn?patient={city.two}&code=2951-2&_person=false")
    assert "_person=false" in page["link"][0]["url"]


def test_everything_is_of_the_person(city):
    path = f"{city.two}/$everything"
    page = city.page(path)
    told = issues(page)["person-records"]["diagnostics"]
    records = {one for one in (city.one, city.two) if one in told}
    assert records == {city.one, city.two}
    whole_record = names(page)
    assert whole_record[0] == city.two
    assert {*whole(city), *city.reports, city.one, city.two} <= set(whole_record)
    assert city.other not in whole_record
    for count in (1, 2, 3, 7):
        assert city.names(f"{path}?_count={count}") == whole_record
    own = city.names(f"{path}?_person=false&_count=2&_type=Patient,Observation,DiagnosticReport")
    assert set(own) == {city.two, *city.results[city.two], city.reports[1]}


SORTS = ("", "&_sort=date", "&_sort=-date", "&_sort=-_lastUpdated", "&_sort=value-quantity,-date")


@settings(max_examples=25)
@given(
    sort=st.sampled_from(SORTS),
    count=st.integers(1, 12),
    filter=st.sampled_from(("", "&code=2951-2", "&date=ge2026-10-05", "&value-quantity=lt7")),
    asked=st.sampled_from(("one", "two")),
)
def test_the_person_is_the_union_of_the_records_on_pages_of_any_size(
    city, sort, count, filter, asked
):
    id = getattr(city, asked)
    found = city.names(f"Observation?patient={id}{filter}{sort}&_count={count}")
    assert found == city.names(f"Observation?patient={id}{filter}{sort}&_count=500")
    each = [
        city.names(f"Observation?patient={one}{filter}&_person=false")
        for one in (city.one, city.two)
    ]
    assert sorted(found) == sorted([*each[0], *each[1]])
