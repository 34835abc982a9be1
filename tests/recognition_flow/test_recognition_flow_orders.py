"""Orders as workstations write them: what is asked, in which words, and for whom."""

from __future__ import annotations

import pytest
from city import DOCUMENT, POTASSIUM, SODIUM, City, Json, id_number, order, outcomes, parts, said

from fhir_gateway.recognition import operation
from fhir_gateway.recognition.order import CONTEXT_SYSTEM

pytestmark = pytest.mark.drivers("sqlite")


def ask(city: City, *orders: Json, **more: object) -> Json:
    given = [{"name": "order", "resource": one} for one in orders]
    return city.recognize(str(more["patient"]), parameters=given)


def refused(city: City, path: str, *parameters: Json) -> tuple[int, str]:
    answer = city.operate(path, parameters)
    return answer.status_code, answer.json()["issue"][0]["details"]["text"]


def item(code: str) -> Json:
    return {"name": "item", "valueCode": code}


def test_a_stored_order_is_asked_about_alone_and_must_be_there(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = city.patient()
    stored = city.create(order(patient, status="active"))
    asked = f"ServiceRequest/{stored}/$recognize"
    assert refused(city, asked, item(POTASSIUM)) == (400, "parameter")
    assert refused(city, "ServiceRequest/nothing/$recognize") == (404, "unknown-id")
    city.running.delete(f"/fhir/ServiceRequest/{stored}", headers=city.sender)
    assert refused(city, asked) == (410, "deleted")
    about = {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}}
    monkeypatch.setattr(operation, "MAX_LINES", 2)
    many = [item(code) for code in (POTASSIUM, SODIUM, "L003")]
    assert refused(city, "ServiceRequest/$recognize", about, *many) == (400, "too-many-items")
    context = {"name": "context", "valueCode": "on-holiday"}
    assert refused(city, "ServiceRequest/$recognize", about, item(POTASSIUM), context) == (
        400,
        "context",
    )


def test_what_shall_not_be_done_is_not_asked_about(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    not_this = order(patient, SODIUM, id="draft-2", doNotPerform=True)
    answer = ask(city, order(patient), not_this, patient=patient)
    assert [said(one, "item")["code"] for one in parts(answer, "item")] == [POTASSIUM]


def test_the_reason_of_an_order_tells_the_situation(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    code = {"coding": [{"system": CONTEXT_SYSTEM, "code": "emergency"}]}
    other = {"coding": [{"system": "urn:his", "code": "7", "display": "复查"}]}
    word = {"coding": [{"system": "urn:his", "code": "8", "display": "急诊"}]}
    plain = ask(city, order(patient, reasonCode=[other]), patient=patient)
    coded = ask(city, order(patient, reasonCode=[other, code]), patient=patient)
    spoken = ask(city, order(patient, reasonCode=[word]), patient=patient)
    lowered = [("view-only", "patient-context")]
    found = [outcomes(one) for one in (plain, coded, spoken)]
    assert found == [[("recognize", "usable")], lowered, lowered]


def test_a_detail_that_no_map_knows_stays_beside_what_is_known(city: City) -> None:
    patient = city.patient()
    city.result(patient)
    local = {"coding": [{"system": "urn:his:orders", "code": "Z-unmapped", "display": "某项"}]}
    charged = order(patient)
    charged |= {"orderDetail": [charged["code"], local], "code": {"text": "检验"}}
    answer = ask(city, charged, patient=patient)
    assert outcomes(answer) == [("recognize", "usable"), ("cannot-decide", "order-not-mapped")]


# -- who is meant ----------------------------------------------------------------------------------


def document(value: str) -> Json:
    return {"system": DOCUMENT, "value": value}


def known(city: City, sequence: int, name: str) -> str:
    return city.create({
        "resourceType": "Patient",
        "name": [{"text": name}],
        "identifier": [document(id_number(sequence))],
    })  # fmt: skip


def test_identifiers_of_two_persons_name_nobody_for_certain(city: City) -> None:
    """The workstation's own id is not known here, so its identifiers say who it is."""
    mine = known(city, 881, "测试丙")
    known(city, 882, "测试丁")
    city.result(mine)

    def hook(*identifiers: Json) -> str:
        patient = {"resourceType": "Patient", "id": "his-1", "identifier": list(identifiers)}
        return city.hook("his-1", order("his-1"), prefetch={"patient": patient}).text

    one, other = document(id_number(881)), document(id_number(882))
    alone = hook({"value": "no system"}, {"system": DOCUMENT, "value": " "}, one)
    assert "3.95" in alone
    assert "3.95" not in hook(one, other)


def test_a_result_without_issuer_or_time_is_told_without_them(city: City) -> None:
    patient = city.patient()
    bare = city.result(patient, report="", effectiveDateTime=..., issued=..., performer=...)
    (found,) = parts(city.recognize(patient, POTASSIUM), "item")
    (result,) = parts(found, "result")
    assert said(result, "reference") == {"reference": f"{bare}/_history/1"}
    assert {one["name"] for one in result["part"]}.isdisjoint({"time", "issued", "issuer"})
