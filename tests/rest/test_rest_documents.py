"""Documents outward: $as-document of reports, $document of Compositions (documents.html)."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from city import Json
from consented import SHIPPED, Town
from databases import Databases
from rest_samples import observation, patient
from running import Running

from fhir_gateway.fhir.walk import issues
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.interactions.document_collect import MOST
from fhir_gateway.security.actor import Access, Actor
from fhir_gateway.security.tokens import Known, hash_token

pytestmark = pytest.mark.drivers("sqlite")

HOSTILE = '<script>alert(1)</script> & "<b>"'


def create(client: Running, resource: Json, **headers: Any) -> str:
    answer = client.post(f"/fhir/{resource['resourceType']}", resource, **headers)
    assert answer.status_code == 201, answer.text
    return f"{resource['resourceType']}/{answer.json()['id']}"


def to(name: str) -> Json:
    return {"reference": name}


class Report:
    """A report with two results, a group of one of them, a specimen, a study and a file."""

    def __init__(self, client: Running) -> None:
        self.patient = create(client, patient())
        self.laboratory = create(client, {"resourceType": "Organization", "name": "检验科"})
        self.doctor = create(client, {"resourceType": "Practitioner"})
        self.file = create(client, {"resourceType": "Binary", "contentType": "text/plain",
                                    "data": "eA=="})  # fmt: skip
        self.specimen = create(client, {"resourceType": "Specimen", "subject": to(self.patient)})
        own = {"performer": [to(self.laboratory)], "specimen": to(self.specimen)}
        self.member = create(client, observation(self.patient, code={"text": "分项"}))
        results = [
            observation(self.patient, code={"text": HOSTILE}, valueQuantity={
                "value": "@value", "unit": "mmol/L"}, referenceRange=[{"text": "<5"}], **own),
            observation(self.patient, code={"text": "组合"}, hasMember=[to(self.member)], **own),
        ]  # fmt: skip
        results[0].pop("valueString", None)
        bodies = [render(one).replace(b'"@value"', b"5.10") for one in results]
        self.results = []
        for body in bodies:
            answer = client.request("POST", "/fhir/Observation", content=body,
                                    headers={"content-type": "application/fhir+json"})  # fmt: skip
            assert answer.status_code == 201, answer.text
            self.results.append(f"Observation/{answer.json()['id']}")
        self.study = create(client, {
            "resourceType": "ImagingStudy", "status": "available", "subject": to(self.patient),
            "series": [{"uid": "1.2.3", "modality": {"code": "CT"}}],
        })  # fmt: skip
        self.report = create(client, {
            "resourceType": "DiagnosticReport", "status": "corrected", "code": {"text": "生化全套"},
            "subject": to(self.patient), "effectiveDateTime": "2026-11-18T08:00:00+08:00",
            "issued": "2026-11-18T11:30:00+08:00", "performer": [to(self.laboratory)],
            "resultsInterpreter": [to(self.doctor)], "specimen": [to(self.specimen)],
            "result": [to(one) for one in self.results], "imagingStudy": [to(self.study)],
            "conclusion": f"未见异常\n{HOSTILE}",
            "presentedForm": [{"contentType": "text/plain", "url": self.file}],
        })  # fmt: skip

    @property
    def all(self) -> set[str]:
        return {self.report, self.patient, self.laboratory, self.doctor, self.file, self.specimen,
                self.member, *self.results, self.study}  # fmt: skip


@pytest.fixture(scope="module")
def report(client: Running) -> Report:
    return Report(client)


def document(client: Running, address: str, **more: Any) -> Json:
    answer = client.get(f"/fhir/{address}", **more)
    assert answer.status_code == 200, answer.text
    found = parse(answer.content)
    check(found)
    return found


def check(found: Json) -> None:
    """The rules of documents: bdl-9 to bdl-11, each resource once, references resolved, valid."""
    assert issues(found) == []
    model = importlib.import_module("fhir.resources.R4B.bundle").Bundle
    model.model_validate_json(render(found))
    assert (found["type"], found["identifier"]["system"]) == ("document", "urn:ietf:rfc:3986")
    assert found["identifier"]["value"].startswith("urn:uuid:") and found["timestamp"]
    composition = found["entry"][0]["resource"]
    assert composition["resourceType"] == "Composition"
    urls = [one["fullUrl"] for one in found["entry"]]
    assert len(set(urls)) == len(urls)
    base = urls[0].rpartition("/Composition/")[0]
    named = [one for name, one in said(composition) if name == "reference"]
    assert named and {f"{base}/{one}" for one in named} <= set(urls)


def said(value: Any) -> Any:
    """Every member of a resource, with its name."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield name, one
            yield from said(one)
    elif isinstance(value, list):
        for one in value:
            yield from said(one)


def held(found: Json) -> set[str]:
    return {"/".join(one["fullUrl"].split("/")[-2:]) for one in found["entry"][1:]}


def test_a_report_is_a_document_of_all_it_refers_to(client: Running, report: Report) -> None:
    found = document(client, f"{report.report}/$as-document")
    assert held(found) == report.all
    made = found["entry"][0]["resource"]
    assert (made["status"], made["title"], made["date"]) == (
        "amended", "生化全套", "2026-11-18T11:30:00+08:00")  # fmt: skip
    assert (made["subject"], made["author"], made["custodian"]) == (
        to(report.patient), [to(report.doctor)], to(report.laboratory))  # fmt: skip
    sections = {one["title"]: one for one in made["section"]}
    assert list(sections) == ["报告", "结果", "影像检查", "结论", "报告文件"]
    assert sections["结果"]["entry"] == [to(one) for one in report.results]
    assert sections["影像检查"]["entry"] == [to(report.study)]
    assert "security" not in found.get("meta", {})


def test_resources_stand_in_it_byte_by_byte(client: Running, report: Report) -> None:
    raw = client.get(f"/fhir/{report.report}/$as-document").content
    for name in sorted(report.all):
        assert client.get(f"/fhir/{name}").content in raw
    assert b'"value":5.10' in raw


def test_the_narrative_tells_the_results_and_runs_nothing(client: Running, report: Report) -> None:
    made = document(client, f"{report.report}/$as-document")["entry"][0]["resource"]
    text = "".join(one["text"]["div"] for one in made["section"])
    assert "5.10 mmol/L" in text and "未见异常<br/>" in text and "&lt;5" in text
    assert "<script" not in text and "&lt;script&gt;" in text


def test_it_is_told_in_xml_too(client: Running, report: Report) -> None:
    headers = {"accept": "application/fhir+xml"}
    answer = client.get(f"/fhir/{report.report}/$as-document", headers=headers)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (
        200, "application/fhir+xml")  # fmt: skip
    stored = client.request(
        "POST", "/fhir/Bundle", content=answer.content,
        headers={"content-type": "application/fhir+xml"},
    )  # fmt: skip
    assert stored.status_code == 201, stored.text
    again = parse(client.get(f"/fhir/Bundle/{stored.json()['id']}").content)
    check(again)
    assert held(again) == report.all


def test_it_is_audited_as_a_disclosure_of_the_patient(client: Running, report: Report) -> None:
    found = document(client, f"{report.report}/$as-document")
    (event,) = [one for one in _events(client, report)
                if found["identifier"]["value"] in str(one["entity"])]  # fmt: skip
    assert event["subtype"][0]["code"] == "disclose"
    assert event["subtype"][1]["display"] == "$as-document"
    assert report.patient in str(event["entity"]) and report.report in str(event["entity"])


def _events(client: Running, report: Report) -> list[Json]:
    path = f"/fhir/AuditEvent?patient={report.patient}&entity={report.report}&_count=100"
    return [one["resource"] for one in client.get(path).json().get("entry", ())]


def persist(name: str = "persist", value: Any = True) -> Json:
    element = "valueUri" if name == "graph" else "valueBoolean"
    return {"resourceType": "Parameters", "parameter": [{"name": name, element: value}]}


@pytest.fixture(scope="module")
def composition(client: Running, report: Report) -> str:
    return create(client, {
        "resourceType": "Composition", "status": "final", "type": {"text": "小结"}, "title": "小结",
        "subject": to(report.patient), "author": [to(report.doctor)],
        "date": "2026-11-19T08:00:00+08:00", "section": [{"entry": [to(report.report)]}],
    })  # fmt: skip


def test_a_composition_is_a_document_with_what_it_refers_to(
    client: Running, report: Report, composition: str
) -> None:
    found = document(client, f"{composition}/$document")
    assert held(found) == report.all
    stored = client.get(f"/fhir/{composition}").content
    assert stored in client.get(f"/fhir/{composition}/$document").content


@pytest.mark.parametrize("which", ["report", "composition"])
def test_persist_stores_the_bundle_as_the_callers_own(
    client: Running, report: Report, composition: str, which: str
) -> None:
    address = f"{report.report}/$as-document" if which == "report" else f"{composition}/$document"
    answer = client.post(f"/fhir/{address}", persist())
    assert answer.status_code == 200, answer.text
    found = parse(answer.content)
    check(found)
    assert client.get(f"/fhir/Bundle/{found['id']}").content == answer.content
    assert "id" not in parse(client.post(f"/fhir/{address}", persist(value=False)).content)


def test_what_is_not_supported_is_refused_clearly(
    client: Running, report: Report, composition: str
) -> None:
    for method, address, body, status in (
        ("GET", f"{composition}/$document?graph=http://x.example/g", None, 400),
        ("POST", f"{composition}/$document", persist("graph", "http://x.example/g"), 400),
        ("GET", f"{composition}/$document?persist=true", None, 400),
        ("GET", f"{report.report}/$as-document?persist=true", None, 400),
        ("GET", f"{report.report}/$as-document?graph=http://x.example/g", None, 400),
        ("GET", f"{report.report}/$document", None, 404),
        ("GET", "DiagnosticReport/nobody/$as-document", None, 404),
        ("GET", "Composition/nobody/$document", None, 404),
        ("GET", "Task/nobody/$document?persist=true", None, 400),
    ):
        answer = client.request(method, f"/fhir/{address}", json=body)
        assert answer.status_code == status, (address, answer.text)


def test_each_type_has_its_own_definition_of_the_code(client: Running) -> None:
    (rest,) = client.get("/fhir/metadata").json()["rest"]
    named = {
        one["type"]: [two["definition"] for two in one.get("operation", ())
                      if two["name"] == "document"]
        for one in rest["resource"]
    }  # fmt: skip
    assert named["Composition"] == ["http://hl7.org/fhir/OperationDefinition/Composition-document"]
    assert len(named["Task"]) == 1 and named["Task"] != named["Composition"]
    assert named["DiagnosticReport"] == []


def test_what_was_deleted_is_named_and_not_silently_missing(client: Running) -> None:
    report = Report(client)
    made = create(client, {
        "resourceType": "Composition", "status": "final", "type": {"text": "x"}, "title": "x",
        "subject": to(report.patient), "author": [{"display": "某医生"}],
        "date": "2026-11-19", "section": [{"entry": [to(report.results[0])]}],
    })  # fmt: skip
    resource = client.get(f"/fhir/{report.results[0]}").json()
    assert client.delete(f"/fhir/{report.results[0]}").status_code in (200, 204), resource
    found = document(client, f"{report.report}/$as-document")
    (section,) = [one for one in found["entry"][0]["resource"]["section"]
                  if one["title"] == "未包含的内容"]  # fmt: skip
    assert report.results[0] in section["text"]["div"]
    assert section["emptyReason"]["coding"][0]["code"] == "unavailable"
    assert found["meta"]["security"][0]["code"] == "REDACTED"
    answer = client.get(f"/fhir/{made}/$document")
    assert (answer.status_code, report.results[0] in answer.text) == (422, True)


def test_a_report_without_anything_else_is_a_document(client: Running) -> None:
    person = create(client, patient())
    bare = create(client, {"resourceType": "DiagnosticReport", "status": "registered",
                           "code": {"coding": [{"code": "x"}]}, "subject": to(person)})  # fmt: skip
    made = document(client, f"{bare}/$as-document")["entry"][0]["resource"]
    assert (made["status"], made["author"]) == ("preliminary", [{"display": "未说明"}])


def test_a_document_without_end_is_refused_and_not_cut(
    client: Running, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    assert MOST > 100
    monkeypatch.setattr("fhir_gateway.interactions.document_collect.MOST", 3)
    answer = client.get(f"/fhir/{report.report}/$as-document")
    assert (answer.status_code, answer.json()["issue"][0]["code"]) == (400, "too-costly")


# -- under the policy ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town(shared_database: Databases) -> Any:
    running = shared_database.running("documents", policy=SHIPPED)
    yield Town(running)
    running.close()


def test_whoever_may_not_see_the_report_gets_no_document(town: Town) -> None:
    patient = town.patient()
    result = town.result(patient)
    found = parse(town.running.get(f"/fhir/DiagnosticReport?result={result}",
                                   headers=town.sender).content)  # fmt: skip
    report = f"DiagnosticReport/{found['entry'][0]['resource']['id']}"
    address = f"/fhir/{report}/$as-document"
    assert town.running.get(address, headers=town.receiver).status_code == 404
    own = town.own(patient)
    town.permit(own, town.visit(own))
    assert town.running.get(f"/fhir/{report}", headers=town.receiver).status_code == 200
    answer = town.running.get(address, headers=town.receiver)
    assert answer.status_code == 200, answer.text
    assert result in held(parse(answer.content))
    kept = town.running.post(address, persist(), headers=town.receiver)
    assert kept.status_code == 200, kept.text
    stored = f"/fhir/Bundle/{kept.json()['id']}"
    assert town.running.get(stored, headers=town.receiver).content == kept.content
    assert town.running.get(stored, headers=town.sender).status_code == 404


def asking(client: Running, method: str, path: str, *scopes: str, **more: Any) -> Any:
    """A request by somebody with scopes."""
    gateway, token = client.gateway, f"token-{len(scopes)}-{hash(scopes)}"
    actor = Actor("open", "scoped", scopes=scopes, access=Access())
    until = gateway.clock.now() + 4_000_000
    gateway.tokens[hash_token(token)] = Known(actor, until, 1 << 62, "issued")
    return client.request(method, f"/fhir/{path}", headers={"authorization": f"Bearer {token}"},
                          **more)  # fmt: skip


def test_what_scopes_do_not_grant_is_named_and_not_silently_missing(
    client: Running, report: Report, composition: str
) -> None:
    scopes = ["system/DiagnosticReport.r", "system/Patient.r", "system/Observation.r",
              "system/Composition.r"]  # fmt: skip
    answer = asking(client, "GET", f"{report.report}/$as-document", *scopes)
    assert answer.status_code == 200, answer.text
    found = parse(answer.content)
    check(found)
    assert held(found) == {report.report, report.patient, report.member, *report.results}
    text = found["entry"][0]["resource"]["section"][-1]["text"]["div"]
    hidden = report.all - held(found)
    assert all(name in text for name in hidden)
    assert found["meta"]["security"][0]["code"] == "REDACTED"
    whole = asking(client, "GET", f"{composition}/$document", *scopes)
    assert (whole.status_code, report.doctor in whole.text) == (422, True)
    less = asking(client, "GET", f"{report.report}/$as-document", "system/Observation.r")
    assert less.status_code == 403


def test_storing_the_bundle_needs_the_scope_of_a_bundle(client: Running, report: Report) -> None:
    address = f"{report.report}/$as-document"
    scopes = ("system/*.r",)
    assert asking(client, "GET", address, *scopes).status_code == 200
    assert asking(client, "POST", address, *scopes, json=persist()).status_code == 403
    scopes = ("system/*.r", "system/Bundle.c")
    assert asking(client, "POST", address, *scopes, json=persist()).status_code == 200
