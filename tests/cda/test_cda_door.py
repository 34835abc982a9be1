"""POST /cda on both stores: credentials, media, versions, repeats, corrections, pages."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterator
from hashlib import sha1
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cda_cases import (
    FAULTS,
    document,
    exam,
    form,
    item,
    lab,
    panel,
    replaces,
    results_document,
    section,
    soap,
)

from fhir_gateway.security.actor import SYSTEM_ACCESS, Access

XML = {"content-type": "application/xml"}
#: A document that leaves it to the credential whose it is.
OWN = {"custodian": "", "custodian_name": ""}
_NUMBERS = count(1)


class Hospital:
    """A hospital that submits documents to a gateway."""

    def __init__(self, running: Any) -> None:
        self.running = running
        self.id = f"hospital-{next(_NUMBERS)}"
        self.headers = running.institution(self.id, f"示范医院 {self.id}")

    def post(self, raw: bytes, **headers: str) -> Any:
        return self.running.request(
            "POST", "/cda", content=raw, headers=self.headers | XML | headers
        )

    def rule(self, raw: bytes) -> tuple[int, str]:
        answer = self.post(raw)
        return answer.status_code, answer.json()["issue"][0].get("details", {}).get("text", "")

    def all(self, query: str) -> list[dict[str, Any]]:
        """Its own resources: the policy of these tests shows everybody everything."""
        more = "&" if "?" in query else "?"
        address = f"/fhir/{query}{more}_count=500"
        found = self.running.get(address, headers=self.headers).json().get("entry", [])
        own = f"'Organization/{self.id}'"
        return [one["resource"] for one in found if own in str(one["resource"])]

    def values(self) -> dict[str, tuple[str, Any]]:
        return {
            one["code"]["text"]: (one["status"], one.get("valueQuantity", {}).get("value"))
            for one in self.all("Observation")
        }


@pytest.fixture(scope="module")
def served(shared_database: Any) -> Iterator[Any]:
    """One gateway for all tests, each of which is a hospital of its own."""
    running = shared_database.running("gateway")
    yield running
    running.close()


@pytest.fixture
def hospital(served: Any) -> Hospital:
    return Hospital(served)


def own(raw: Callable[..., bytes], *args: Any, **more: Any) -> bytes:
    return raw(*args, **(OWN | more))


def value(number: str, **more: str) -> str:
    return item(quantity=f'<value xsi:type="REAL" value="{number}"/>', **more)


def test_a_document_is_stored_with_its_bytes_and_its_report(hospital: Hospital) -> None:
    raw = own(lab)
    answer = hospital.post(raw)
    assert answer.status_code == 200
    assert answer.json()["issue"][0]["severity"] == "information"
    (reference,) = hospital.all("DocumentReference")
    assert answer.headers["location"] == f"/fhir/DocumentReference/{reference['id']}"
    attachment = reference["content"][0]["attachment"]
    assert (attachment["size"], reference["type"]["coding"][0]["code"]) == (len(raw), "C0007")
    assert b64decode(attachment["hash"]) == sha1(raw, usedforsecurity=False).digest()
    (binary,) = [hospital.running.get(f"/fhir/{attachment['url']}", headers=hospital.headers |
                                      {"accept": "application/fhir+json"}).json()]  # fmt: skip
    assert b64decode(binary["data"]) == raw
    (report,) = hospital.all("DiagnosticReport")
    assert reference["context"]["related"] == [{"reference": f"DiagnosticReport/{report['id']}"}]
    sources = [one["entity"][0]["what"] for one in hospital.all("Provenance") if "entity" in one]
    assert sources == [{"reference": attachment["url"]}]
    (alt,) = hospital.all("Observation")
    assert alt["meta"]["source"].endswith("/door/cda")


def test_the_same_document_again_gets_the_same_answer_and_stores_nothing(
    hospital: Hospital,
) -> None:
    first, again = hospital.post(own(lab)), hospital.post(own(lab))
    assert (again.status_code, again.content) == (200, first.content)
    assert [one["meta"]["versionId"] for one in hospital.all("DocumentReference")] == ["1"]


def test_other_content_under_the_same_id_is_refused(hospital: Hospital) -> None:
    hospital.post(own(lab))
    assert hospital.rule(own(lab, value("99"))) == (409, "cda-document-id")
    assert hospital.values() == {"丙氨酸氨基转移酶": ("final", 32)}


def test_a_new_version_corrects_and_keeps_the_old_one(hospital: Hospital) -> None:
    hospital.post(own(lab, value("32"), item("GLU", "葡萄糖"), set="S"))
    second = own(lab, value("33"), id="D2", set="S", version=2, issued="202611181230")
    assert hospital.post(second).status_code == 200
    assert hospital.values() == {
        "丙氨酸氨基转移酶": ("corrected", 33),
        "葡萄糖": ("entered-in-error", 32),
    }
    documents = {one["status"]: one for one in hospital.all("DocumentReference")}
    older = documents["superseded"]
    assert older["masterIdentifier"]["value"] == "D1"
    replaced = documents["current"]["relatesTo"][0]
    assert replaced["target"]["reference"] == f"DocumentReference/{older['id']}"
    (report,) = hospital.all("DiagnosticReport")
    history = hospital.running.get(
        f"/fhir/DiagnosticReport/{report['id']}/_history", headers=hospital.headers
    ).json()
    assert [one["resource"]["status"] for one in history["entry"]] == ["corrected", "final"]


@pytest.mark.parametrize("by", ["set", "replaces"])
def test_an_older_version_that_comes_late_changes_nothing(hospital: Hospital, by: str) -> None:
    """Faults 23: messages overtake each other."""
    new: dict[str, Any] = {"id": "D2", "issued": "202611181230"}
    new |= {"set": "S", "version": 2} if by == "set" else {"related": replaces("D1")}
    hospital.post(own(lab, value("33"), **new))
    old = {"id": "D1"} | ({"set": "S", "version": 1} if by == "set" else {})
    answer = hospital.post(own(lab, value("32"), **old))
    assert answer.status_code == 200
    assert [one["details"]["text"] for one in answer.json()["issue"][1:]] == ["cda-older-version"]
    assert hospital.values() == {"丙氨酸氨基转移酶": ("corrected", 33)}
    assert [one["status"] for one in hospital.all("DocumentReference")] == ["current"]
    assert hospital.post(own(lab, value("32"), **old)).content == answer.content


def test_a_chain_of_replacements_is_one_document(hospital: Hospital) -> None:
    for n, number in enumerate(("31", "32", "33"), start=1):
        related = replaces(f"D{n - 1}") if n > 1 else ""
        raw = own(lab, value(number), id=f"D{n}", related=related, issued=f"20261118113{n}")
        assert hospital.post(raw).status_code == 200
    documents = hospital.all("DocumentReference")
    assert sorted(one["status"] for one in documents) == ["current", "superseded", "superseded"]
    (head,) = [one for one in documents if one["status"] == "current"]
    named = [one["target"]["identifier"]["value"] for one in head["relatesTo"]]
    assert named == ["D2", "D1"]
    assert hospital.values() == {"丙氨酸氨基转移酶": ("corrected", 33)}


def test_a_report_that_a_new_version_leaves_out_is_withdrawn(hospital: Hospital) -> None:
    other = panel(item("WBC", "白细胞"), code="XCG", name="血常规")
    both = document(section("30954-2", panel(item()), other), **OWN, set="S")
    hospital.post(both)
    hospital.post(own(lab, value("33"), id="D2", set="S", version=2, issued="202611181230"))
    assert {one["code"]["text"]: one["status"] for one in hospital.all("DiagnosticReport")} == {
        "生化全套": "corrected", "血常规": "entered-in-error",
    }  # fmt: skip
    assert hospital.values()["白细胞"][0] == "entered-in-error"


def test_an_addendum_adds_and_takes_nothing_back(hospital: Hospital) -> None:
    hospital.post(own(lab))
    addendum = own(lab, item("GLU", "葡萄糖"), id="A1", related=replaces("D1", "APND"),
                   issued="202611181330")  # fmt: skip
    assert hospital.post(addendum).status_code == 200
    assert {status for status, _ in hospital.values().values()} == {"final"}
    assert len(hospital.values()) == 2
    assert [one["status"] for one in hospital.all("DocumentReference")] == ["current", "current"]


def test_a_document_about_another_patient_under_the_same_set_is_refused(
    hospital: Hospital,
) -> None:
    hospital.post(own(lab, set="S"))
    other = own(lab, id="D2", set="S", version=2, issued="202611181230", name="示例乙",
                patient='<id root="2.16.156.10011.1.13" extension="700999"/>',
                report='<id root="2.16.156.10011.1.33" extension="R9"/>')  # fmt: skip
    assert hospital.rule(other) == (409, "cda-document-patient")
    assert len(hospital.all("Patient")) == 1


def test_what_is_refused_leaves_nothing(hospital: Hospital) -> None:
    assert hospital.rule(own(exam, report="")) == (422, "cda-report-number")
    assert hospital.all("Patient") == []
    assert hospital.all("DocumentReference") == []


def test_another_document_is_kept_whole_and_said_to_be_unstructured(hospital: Hospital) -> None:
    answer = hospital.post(own(lab, template="2.999.5", code="C0099", title="出院小结"))
    assert answer.json()["issue"][1]["details"]["text"] == "cda-not-structured"
    (reference,) = hospital.all("DocumentReference")
    assert reference["meta"]["tag"][0]["code"] == "not-structured"
    assert hospital.all("Observation") == []


def test_the_page_of_a_document_is_safe_and_whole(hospital: Hospital) -> None:
    text = (
        "<text><paragraph>标本合格<content>&lt;b&gt;</content></paragraph><script>alert(1)</script>"
        '<linkHtml href="javascript:alert(1)">链接</linkHtml><renderMultiMedia/>'
        '<table onclick="x()"><tr><td colspan="2" style="x:y">单元</td></tr></table></text>'
    )
    prolog = '<?xml-stylesheet type="text/xsl" href="http://example.org/evil.xsl"?>'
    raw = document(section("29545-1", text=text), section("30954-2", panel(item())), **OWN,
                   prolog=prolog)  # fmt: skip
    place = hospital.post(raw).headers["location"]
    headers = hospital.headers | {"accept": "text/html"}
    page = hospital.running.get(f"{place}/$render", headers=headers)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in page.headers["content-security-policy"]
    assert "'unsafe" not in page.headers["content-security-policy"]
    for bad in ("<script", "javascript:", "onclick", "evil.xsl", "<b>"):
        assert bad not in page.text
    for good in ("&lt;b&gt;", "示例甲", "审核员乙", "单元", 'colspan="2"', "32 U/L", "血清"):
        assert good in page.text


def test_the_page_says_when_a_newer_version_stands(hospital: Hospital) -> None:
    hospital.post(own(lab, set="S"))
    hospital.post(own(lab, value("33"), id="D2", set="S", version=2, issued="202611181230"))
    (older,) = hospital.all("DocumentReference?status=superseded")
    page = hospital.running.get(
        f"/fhir/DocumentReference/{older['id']}/$render", headers=hospital.headers
    )
    assert "已被新版本替代" in page.text


def test_a_document_of_another_that_names_the_binary_opens_nothing(hospital: Hospital) -> None:
    hospital.post(own(lab))
    (reference,) = hospital.all("DocumentReference")
    url = reference["content"][0]["attachment"]["url"]
    thief = Hospital(hospital.running).headers
    forged = {
        "resourceType": "DocumentReference", "status": "current",
        "content": [{"attachment": {"url": url, "contentType": "text/xml"}}],
    }  # fmt: skip
    made = hospital.running.post("/fhir/DocumentReference", forged, headers=thief)
    place = made.headers["location"].partition("/_history")[0]
    place = place[place.index("/fhir") :]
    page = hospital.running.get(f"{place}/$render", headers=thief)
    assert (page.status_code, page.json()["issue"][0]["details"]["text"]) == (400, "render")


# -- the door --------------------------------------------------------------------------------------


@pytest.mark.drivers("sqlite")
def test_who_may_come_in_and_with_what(hospital: Hospital) -> None:
    send = hospital.running.request
    nobody = send("POST", "/cda", content=own(lab), headers=XML)
    assert (nobody.status_code, nobody.headers["www-authenticate"][:6]) == (401, "Bearer")
    json = hospital.post(own(lab), **{"content-type": "application/json"})
    assert (json.status_code, json.json()["issue"][0]["details"]["text"]) == (415, "media-type")
    packed = hospital.post(own(lab), **{"content-encoding": "gzip"})
    assert packed.status_code == 415
    named = lab(custodian="", custodian_name=f"示范医院 {hospital.id}")
    other = send("POST", "/cda", content=named, headers=XML | Hospital(hospital.running).headers)
    assert (other.status_code, other.json()["issue"][0]["details"]["text"]) == (403, "sender")
    xml = hospital.post(b"<x/>", accept="application/xml")
    assert xml.headers["content-type"].startswith("application/fhir+xml")
    assert b"cda-root" in xml.content


@pytest.mark.drivers("sqlite")
def test_a_document_over_the_limit_is_refused(start: Callable[..., Any]) -> None:
    hospital = Hospital(start(body_limit=1_000))
    assert hospital.rule(own(lab)) == (413, "body-limit")


@pytest.mark.drivers("sqlite")
def test_a_long_document_is_read_beside_the_others(hospital: Hospital) -> None:
    items = [item(f"X{n}", f"项目{n}") for n in range(130)]
    raw = own(lab, *items)
    assert len(raw) > 100_000
    assert hospital.post(raw).status_code == 200
    assert len(hospital.all("Observation")) == 130


@pytest.mark.drivers("sqlite")
def test_with_open_access_the_custodian_says_whose_it_is(start: Callable[..., Any]) -> None:
    running = start(open_access=True)
    running.institution("second", "示范市第二医院")
    named = lab(custodian="", custodian_name="示范市第二医院")
    assert running.request("POST", "/cda", content=named, headers=XML).status_code == 200
    lost = running.request("POST", "/cda", content=lab(custodian_name="无"), headers=XML)
    assert (lost.status_code, lost.json()["issue"][0]["details"]["text"]) == (403, "sender")


@pytest.mark.drivers("sqlite")
def test_refusals_and_documents_are_in_the_register_of_messages(hospital: Hospital) -> None:
    hospital.post(own(lab))
    hospital.post(own(exam, id="E1", report=""))
    place = f"/fhir/Organization/{hospital.id}/$messages"
    found = hospital.running.get(place, headers=hospital.headers)
    assert found.status_code == 200
    for word in ("D1", "E1", "cda-report-number"):
        assert f'"{word}"' in found.text


@pytest.mark.drivers("sqlite")
def test_a_sensitive_result_makes_its_document_sensitive(start: Callable[..., Any]) -> None:
    policy = Path(__file__).parents[2] / "profiles/access/policy.toml"
    hospital = Hospital(start(policy=str(policy)))
    plain = '<value xsi:type="CD" code="ALT" displayName="丙氨酸氨基转移酶"/>'
    coded = '<value xsi:type="CD" code="56888-1" codeSystem="2.16.840.1.113883.6.1"/>'
    raw = own(lab).decode().replace(plain, coded).encode()
    assert hospital.post(raw).status_code == 200
    rows = hospital.running.run(_shown(hospital))
    assert rows == {"DocumentReference": 0, "Binary": 0, "Provenance": 0, "DiagnosticReport": 0,
                    "Patient": 1}  # fmt: skip


async def _shown(hospital: Hospital) -> dict[str, int]:
    """Of each type how many somebody sees who sees no sensitive class."""
    found = dict.fromkeys(
        ("DocumentReference", "Binary", "Provenance", "DiagnosticReport", "Patient"), 0
    )
    store = hospital.running.gateway.store
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        pages = {
            type: await reader.scan(type, until_t=reader.t, after_rid=0, limit=9) for type in found
        }
    async with store.snapshot(Access(max_class=0)) as reader:
        for type, page in pages.items():
            for one in page:
                found[type] += await reader.read(type, one.id) is not None
    return found


def test_results_of_c_cda_come_in_as_well(hospital: Hospital) -> None:
    fragment = (
        '<section><templateId root="2.16.840.1.113883.10.20.22.2.3.1"/><entry><organizer>'
        '<id root="2.999.20"/><code code="51990-0" codeSystem="2.16.840.1.113883.6.1"/><component>'
        '<observation><code code="6298-4" codeSystem="2.16.840.1.113883.6.1" displayName="K"/>'
        '<value xsi:type="PQ" value="4.2" unit="mmol/L"/></observation></component></organizer>'
        "</entry></section>"
    )
    raw = results_document(fragment).replace(b"123456789PDY00001A", b"")
    raw = raw.replace("示范市第二医院".encode(), b"")
    assert hospital.post(raw).status_code == 200
    assert hospital.values() == {"K": ("final", 4.2)}


@pytest.mark.drivers("sqlite")
@pytest.mark.parametrize("kind", ["element", "text", "base64"])
def test_a_document_in_an_envelope_is_stored(hospital: Hospital, kind: str) -> None:
    headers = hospital.headers | {"content-type": "text/xml"}
    answer = hospital.running.request(
        "POST", "/cda/soap", content=soap(form(kind)), headers=headers
    )
    assert (answer.status_code, answer.headers["content-type"][:8]) == (200, "text/xml")
    assert "<code>AA</code>" in answer.text
    (reference,) = hospital.all("DocumentReference")
    assert f"<document>DocumentReference/{reference['id']}</document>" in answer.text
    page = hospital.running.get(
        f"/fhir/DocumentReference/{reference['id']}/$render", headers=hospital.headers
    )
    assert "示例甲" in page.text


@pytest.mark.drivers("sqlite")
def test_an_envelope_that_is_refused_gets_a_fault(hospital: Hospital) -> None:
    headers = hospital.headers | {"content-type": "text/xml"}
    for name, (raw, status, rule) in FAULTS.items():
        answer = hospital.running.request("POST", "/cda/soap", content=raw, headers=headers)
        assert (answer.status_code, f'rule="{rule}"' in answer.text) == (status, True), name
        assert "<faultcode>soap:Client</faultcode>" in answer.text
    new = soap("", version="http://www.w3.org/2003/05/soap-envelope")
    answer = hospital.running.request("POST", "/cda/soap", content=new, headers=headers)
    assert "<soap:Value>soap:Sender</soap:Value>" in answer.text
    assert answer.headers["content-type"].startswith("application/soap+xml")
    nobody = hospital.running.request("POST", "/cda/soap", content=new)
    assert (nobody.status_code, "<faultcode>" in nobody.text) == (401, True)
    assert hospital.all("DocumentReference") == []
