"""Patient/[id]/$everything over HTTP (hl7.org/fhir/R4/patient-operation-everything.html)."""

from __future__ import annotations

import base64

import pytest
from rest_samples import bundle, entry, patient
from rest_samples import observation as sample

BASE = "http://127.0.0.1/fhir"


def observation(subject, **members):
    """A result that no catalogue knows, so that nothing is stored beside it."""
    return sample(subject, code={"text": "local test"}, **members)


def _reference(name):
    return {"reference": name}


class Record:
    """A patient with twelve results, what they refer to, and another patient beside."""

    def __init__(self, client):
        self.client = client
        self.patient = self.create(patient())
        self.other = self.create(patient())
        self.doctor = self.create({"resourceType": "Practitioner"})
        self.laboratory = self.create({"resourceType": "Organization", "name": "Laboratory"})
        self.image = self.create(
            {"resourceType": "Binary", "contentType": "text/plain", "data": "eA=="}
        )
        self.unused = self.create({"resourceType": "Practitioner"})
        performers = [_reference(self.doctor), _reference(self.laboratory)]
        self.results = [
            self.create(
                observation(
                    self.patient,
                    effectiveDateTime=f"2026-{month:02}-15T08:00:00+08:00",
                    performer=performers,
                )
            )
            for month in range(1, 13)
        ]
        self.create(observation(self.other))
        self.allergy = self.create(
            {"resourceType": "AllergyIntolerance", "patient": _reference(self.patient)}
        )
        self.condition = self.create(
            {
                "resourceType": "Condition",
                "subject": _reference(self.patient),
                "onsetDateTime": "2020-01-01",
            }
        )
        self.document = self.create(
            {
                "resourceType": "DocumentReference",
                "status": "current",
                "subject": _reference(self.patient),
                "date": "2026-03-01T00:00:00Z",
                "content": [{"attachment": {"url": self.image}}],
            }
        )
        self.provenance = self.create(
            {
                "resourceType": "Provenance",
                "target": [_reference(self.results[0])],
                "recorded": "2026-03-01T00:00:00Z",
                "agent": [{"who": _reference(self.doctor)}],
            }
        )

    def create(self, resource):
        answer = self.client.post(f"/fhir/{resource['resourceType']}", resource)
        assert answer.status_code == 201, answer.text
        return f"{resource['resourceType']}/{answer.json()['id']}"

    @property
    def own(self):
        return {
            self.patient, *self.results, self.allergy, self.condition, self.document,
            self.provenance,
        }  # fmt: skip

    @property
    def shared(self):
        return {self.doctor, self.laboratory, self.image}

    def pages(self, query=""):
        """The pages, and of each the names of its matches and of what it includes."""
        link, found = f"/fhir/{self.patient}/$everything{query}", []
        while link:
            answer = self.client.get(link)
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert (page["resourceType"], page["type"]) == ("Bundle", "searchset")
            links = {one["relation"]: one["url"] for one in page["link"]}
            link = links.get("next")
            found.append(
                {
                    mode: [
                        one["fullUrl"].removeprefix(f"{BASE}/")
                        for one in page.get("entry", ())
                        if one["search"]["mode"] == mode
                    ]
                    for mode in ("match", "include")
                }
            )
        return found

    def names(self, query=""):
        """All names, in order."""
        return [name for page in self.pages(query) for mode in page.values() for name in mode]


@pytest.fixture(scope="module")
def record(client):
    return Record(client)


def test_it_is_the_whole_record_and_what_the_record_refers_to(record):
    (page,) = record.pages()
    assert page["match"][0] == record.patient
    assert sorted(page["match"]) == sorted(record.own)
    assert sorted(page["include"]) == sorted(record.shared)


@pytest.mark.parametrize("count", [1, 2, 5, 16, 17, 19, 20])
def test_pages_hold_each_resource_once_and_no_page_is_empty(record, count):
    pages = record.pages(f"?_count={count}")
    assert [len(page["match"] + page["include"]) for page in pages[:-1]] == [count] * (
        len(pages) - 1
    )
    assert 1 <= len(pages[-1]["match"] + pages[-1]["include"]) <= count
    names = [name for page in pages for mode in page.values() for name in mode]
    assert names[0] == record.patient
    assert sorted(names) == sorted(record.own | record.shared)


def test_types_are_honoured_together_and_one_by_one(record):
    assert sorted(record.names("?_type=Observation")) == sorted(record.results)
    assert record.names("?_type=Patient") == [record.patient]
    assert sorted(record.names("?_type=Patient,Provenance&_type=Practitioner")) == sorted(
        [record.patient, record.provenance, record.doctor]
    )
    assert sorted(record.names("?_type=Organization&_count=1")) == [record.laboratory]


def test_care_dates_leave_out_what_lies_outside_and_nothing_else(record):
    undated = {record.patient, record.allergy, record.condition, record.provenance}
    spring = {record.results[2], record.results[3], record.document}
    found = set(record.names("?start=2026-03&end=2026-04"))
    assert found == undated | spring | record.shared
    assert set(record.names("?end=2025")) - undated == {record.doctor}
    assert set(record.names("?start=2026-12-16")) - undated == {record.doctor}
    last = {record.results[11], record.doctor, record.laboratory}
    assert set(record.names("?start=2026-12-15")) - undated == last
    assert set(record.names("?end=2019")) == undated - {record.condition} | {record.doctor}


def test_since_keeps_what_changed_and_the_patient(record, client):
    other = client.post("/fhir/Patient", patient()).json()
    name = f"Patient/{other['id']}"
    before = record.create(observation(name))
    after = client.post("/fhir/Observation", observation(name)).json()
    since = after["meta"]["lastUpdated"]
    found = client.get(f"/fhir/{name}/$everything", params={"_since": since}).json()
    names = [one["fullUrl"].removeprefix(f"{BASE}/") for one in found["entry"]]
    assert names[0] == name
    assert f"Observation/{after['id']}" in names
    earlier = client.get(f"/fhir/{before}").json()["meta"]["lastUpdated"]
    assert (before in names) == (earlier >= since)


def test_a_post_with_parameters_asks_the_same(record, client):
    body = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "_type", "valueCode": "Observation"},
            {"name": "_count", "valueInteger": 3},
            {"name": "start", "valueDate": "2026-11"},
        ],
    }
    page = client.post(f"/fhir/{record.patient}/$everything", body).json()
    assert [one["fullUrl"] for one in page["entry"]] == [
        f"{BASE}/{name}" for name in record.results[10:]
    ]
    assert page["link"] == [
        {
            "relation": "self",
            "url": f"{BASE}/{record.patient}/$everything?start=2026-11&_type=Observation&_count=3",
        }
    ]


@pytest.mark.parametrize(
    ("query", "expression", "rule"),
    [
        ("start=yesterday", "start", "parameter-type"),
        ("start=2026-02-30", "start", "parameter-type"),
        ("start=2026&end=2025", "start", "range"),
        ("start=2025&start=2026", "start", "parameter-repeated"),
        ("_since=2026", "_since", "parameter-type"),
        ("_type=Observation,Result", "_type", "type"),
        ("_type=", "_type", "parameter-type"),
        ("_type=AuditEvent", "_type", "type"),
        ("_count=0", "_count", "search-count"),
        ("_count=many", "_count", "parameter-type"),
        ("_count=99999999999", "_count", "parameter-type"),
        ("_cursor=AAAA", "_cursor", "cursor"),
        ("code=x", "code", "unknown-parameter"),
        ("_summary=true", "_summary", "unknown-parameter"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(record, client, query, expression, rule):
    answer = client.get(f"/fhir/{record.patient}/$everything?{query}")
    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["expression"], issue["details"]["text"]) == (
        400, [expression], rule,
    )  # fmt: skip


def test_a_link_belongs_to_its_question_and_its_patient(record, client):
    page = client.get(f"/fhir/{record.patient}/$everything?_count=2").json()
    link = page["link"][1]["url"]
    for changed in (
        link.replace("_count=2", "_count=3"),
        link.replace(record.patient, record.other),
        link[:-2] + ("AA" if link[-2:] != "AA" else "BB"),
    ):
        answer = client.get(changed)
        assert answer.json()["issue"][0]["details"]["text"] == "cursor"
        assert answer.status_code == 400


def test_unknown_and_deleted_patients(client):
    assert client.get("/fhir/Patient/nobody/$everything").status_code == 404
    id = client.post("/fhir/Patient", patient()).json()["id"]
    client.delete(f"/fhir/Patient/{id}")
    assert client.get(f"/fhir/Patient/{id}/$everything").status_code == 410


def test_deleted_resources_are_not_part(record, client):
    id = client.post("/fhir/Patient", patient()).json()["id"]
    gone = record.create(observation(f"Patient/{id}"))
    client.delete(f"/fhir/{gone}")
    page = client.get(f"/fhir/Patient/{id}/$everything").json()
    assert [one["fullUrl"] for one in page["entry"]] == [f"{BASE}/Patient/{id}"]


def test_a_record_is_one_hospitals_where_the_person_is_not_meant(client):
    """The same person at two hospitals has one home and two Patients: each record is its own."""
    document = {"system": "http://hl7.org/fhir/sid/passport-CHN", "value": "E12345678"}
    numbers = []
    for _ in range(2):
        answer = client.post("/fhir/Patient", patient(identifier=[document]))
        numbers.append(f"Patient/{answer.json()['id']}")
    own = client.post("/fhir/Observation", observation(numbers[0])).json()["id"]
    page = client.get(f"/fhir/{numbers[0]}/$everything?_person=false").json()
    assert [one["fullUrl"] for one in page["entry"]] == [
        f"{BASE}/{numbers[0]}", f"{BASE}/Observation/{own}",
    ]  # fmt: skip
    page = client.get(f"/fhir/{numbers[1]}/$everything?_person=false").json()
    assert [one["fullUrl"] for one in page["entry"]] == [f"{BASE}/{numbers[1]}"]


def test_each_page_is_audited_once_in_the_patients_home(record, client):
    def events():
        found = client.get(f"/fhir/AuditEvent?patient={record.patient}&_count=500").json()
        return [
            one["resource"]
            for one in found.get("entry", ())
            if one["resource"]["subtype"][0]["code"] == "operation"
        ]

    before = len(events())
    record.pages("?_count=10&_type=Observation")
    new = events()[before:]
    queries = [
        base64.b64decode(part["query"]).decode()
        for event in new
        for part in event["entity"]
        if "query" in part
    ]
    assert queries == [f"{record.patient}/$everything?_type=Observation&_count=10"] * 2
    assert [event["outcomeDesc"] for event in new] == [
        "10 resources in the answer", "2 resources in the answer",
    ]  # fmt: skip


def test_a_long_record_is_read_in_pieces_for_what_it_refers_to(client):
    """More resources than one piece: what the last of them refers to is there all the same."""
    id = client.post("/fhir/Patient", patient()).json()["id"]
    doctors = [client.post("/fhir/Practitioner", {"resourceType": "Practitioner"}).json()["id"]
               for _ in range(2)]  # fmt: skip
    entries = [
        entry(
            "POST",
            "Observation",
            observation(
                f"Patient/{id}",
                performer=[_reference(f"Practitioner/{doctors[number // 300]}")],
            ),
        )
        for number in range(600)
    ]
    assert client.post("/fhir", bundle("transaction", *entries)).status_code == 200
    link, names = f"/fhir/Patient/{id}/$everything?_type=Practitioner&_count=1", []
    while link:
        page = client.get(link).json()
        names += [one["fullUrl"].rpartition("/")[2] for one in page["entry"]]
        link = {one["relation"]: one["url"] for one in page["link"]}.get("next")
    assert names == sorted(doctors)
