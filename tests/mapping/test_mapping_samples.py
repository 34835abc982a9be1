"""Sample messages of others (microsoft/FHIR-Converter, MIT): what each says, fact by fact.

The samples lie beside the project, not in it; without them these tests are skipped. Where they use
what the standard does not allow, or what is not taken in here, it is said below.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from mapping_cases import TABLES

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.v2 import Message, parse
from fhir_gateway.mapping.v2_adt import Statement
from fhir_gateway.mapping.v2_messages import map_message
from fhir_gateway.security.institution import Institution

SHARED = Path(__file__).resolve().parents[3] / "shared"
FOLDER = Path(os.environ.get("GATEWAY_SHARED", SHARED)) / "data/samples/hl7v2/messages"
SAMPLES = sorted(FOLDER.glob("*.hl7"))

pytestmark = pytest.mark.skipif(not SAMPLES, reason=f"no sample messages in {FOLDER}")

#: A processing id of training must not reach a record; its content is of v2.8.2, whatever MSH-12.
AS_PRODUCTION = (b"|T|2.5.1|", b"|P|2.8.2|")

#: Types that are not taken in (table 0357: 200), and events of taken types (201).
TYPES = ("BAR", "DFT", "MDM", "OMG", "RDE", "RDS", "REF", "VXU")
EVENTS = ("A02", "A05", "A06", "A07", "A09", "A10", "A14", "A15", "A16", "A25", "A26", "A27", "A29",
          "A41", "A45", "A47", "A60", "R23", "R24", "S16")  # fmt: skip

PERSON = {"number": "PATID1234", "family": "EVERYMAN", "born": "1988-08-18", "gender": "male"}


def read(name: str, *change: tuple[bytes, bytes]) -> Message:
    raw = (FOLDER / f"{name}.hl7").read_bytes()
    for old, new in change:
        assert old in raw
        raw = raw.replace(old, new)
    return parse(raw, default_charset="UTF-8", folder=TABLES)


def mapped(message: Message) -> Any:
    sender = Institution(id="sample", name="Sample", facilities=(message.header.text(4),))
    return map_message(message, sender, folder=TABLES)


def all_of(found: Any, type: str) -> list[dict[str, Any]]:
    return [one for one in found.resources if one["resourceType"] == type]


def person(found: Any) -> dict[str, str]:
    (patient,) = all_of(found, "Patient")
    name = patient["name"][0]
    return {
        "number": patient["identifier"][0]["value"],
        "family": name.get("family", name["text"]),
        "born": patient.get("birthDate", ""),
        "gender": patient.get("gender", ""),
    }


def test_all_samples_are_told_of() -> None:
    kinds = {path.stem: path.stem.split("-") for path in SAMPLES}
    refused = {name for name, kind in kinds.items() if kind[0] in TYPES or kind[1] in EVENTS}
    assert set(kinds) - refused == {*VISITS, *PERSONS, *ORDERS, *BOOKINGS, "ADT-A40-01",
                                    "ORU-R01-01", "OUL-R22-01"}  # fmt: skip


@pytest.mark.parametrize("name", [path.stem for path in SAMPLES])
def test_what_is_not_taken_in_is_refused_by_its_condition(name: str) -> None:
    kind, event, _ = name.split("-")
    expected = "200" if kind in TYPES else "201" if event in EVENTS else ""
    if name == "ORU-R01-01":
        expected = "202"
    try:
        mapped(read(name))
    except GatewayError as error:
        assert (error.condition, error.acknowledgement) == (expected, "AR")
    else:
        assert expected == ""


VISITS = {"ADT-A01-01": "in-progress", "ADT-A03-01": "finished", "ADT-A04-01": "in-progress",
          "ADT-A08-01": None, "ADT-A11-01": "cancelled", "ADT-A13-01": "in-progress"}  # fmt: skip


@pytest.mark.parametrize("name", VISITS)
def test_visits(name: str) -> None:
    message = read(name)
    found = mapped(message)
    (visit,) = all_of(found, "Encounter")
    pv1 = message.first("PV1")
    assert pv1 is not None
    assert visit.get("status") == VISITS[name]
    assert visit["identifier"][0]["value"] == pv1.text(19)
    classes = {"I": "IMP", "O": "AMB", "E": "EMER", "P": "PRENC"}
    assert visit["class"]["code"] == classes[pv1.text(2)]
    assert person(found)["number"] == PERSON["number"]
    assert person(found)["family"].startswith(PERSON["family"])


PERSONS = ("ADT-A28-01", "ADT-A31-01")


@pytest.mark.parametrize("name", PERSONS)
def test_persons(name: str) -> None:
    found = mapped(read(name))
    assert len(found.resources) == 1
    assert person(found) == PERSON


def test_a_merge() -> None:
    found = mapped(read("ADT-A40-01"))
    assert isinstance(found, Statement)
    assert found.verb == "merge"
    assert [(pair.stays.place, pair.goes.place) for pair in found.pairs] == [
        ("PID[1]-3", "MRG[1]-1")]  # fmt: skip


ORDERS = {"ORM-O01-01": ("24725-4", "CT Head"),
          "OML-O21-01": ("57698-3", "Lipid panel with direct LDL - Serum or Plasma")}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_orders(name: str) -> None:
    found = mapped(read(name))
    code, text = ORDERS[name]
    (order,) = all_of(found, "ServiceRequest")
    coding = order["code"]["coding"][0]
    assert (coding["system"], coding["code"]) == ("http://loinc.org", code)
    assert order["code"]["text"] == text
    assert (order["status"], order["intent"]) == ("active", "order")
    assert order["identifier"][0]["value"] == "1101"
    assert found.orders == (("1101", "1201"),)
    assert person(found) == PERSON
    assert order["requester"]["display"].startswith(("RAD", "LAB"))


BOOKINGS = {"SIU-S12-01": "booked", "SIU-S13-01": "booked", "SIU-S14-01": "booked",
            "SIU-S15-01": "cancelled", "SIU-S17-01": "entered-in-error",
            "SIU-S26-01": "noshow"}  # fmt: skip


@pytest.mark.parametrize("name", BOOKINGS)
def test_bookings(name: str) -> None:
    found = mapped(read(name))
    (booking,) = all_of(found, "Appointment")
    assert booking["status"] == BOOKINGS[name]
    assert booking["identifier"][0]["value"] == "36996"
    assert booking["start"] == "2020-10-01T11:26:00+02:15"
    assert booking["end"] == "2020-10-09T11:26:00+02:15"
    assert booking["serviceType"][0]["coding"][0]["code"] == "76164006"
    assert person(found)["number"] == PERSON["number"]


def test_results_of_microbiology() -> None:
    with pytest.raises(GatewayError):
        mapped(read("ORU-R01-01"))
    found = mapped(read("ORU-R01-01", AS_PRODUCTION))
    assert person(found) == {"number": "14", "family": "Finn", "born": "1963-08-15",
                             "gender": "male"}  # fmt: skip
    (report,) = all_of(found, "DiagnosticReport")
    (result, oxygen) = all_of(found, "Observation")
    (specimen,) = all_of(found, "Specimen")
    assert report["status"] == "final"
    assert report["code"]["coding"][0]["code"] == "625-4"
    assert report["identifier"][0]["value"] == "986"
    assert report["issued"] == "2002-03-15T07:30:00+02:15"
    assert report["effectiveDateTime"] == "2002-02-15T07:30:00+02:15"
    assert result["status"] == "preliminary"
    salmonella = {"system": "http://snomed.info/sct", "code": "27268008", "display": "Salmonella"}
    assert result["valueCodeableConcept"]["coding"] == [salmonella]
    assert result["referenceRange"][0]["text"] == "70-80"
    assert result["interpretation"][0]["coding"][0]["code"] == "A"
    assert result["performer"][0] == {"display": "State Hygienic Laboratory"}
    assert result["note"][0]["text"] == "Submission of serum"
    assert (oxygen["status"], oxygen["code"]["coding"][0]["code"]) == ("registered", "8867-4")
    assert specimen["type"] == {"coding": [
        {"system": specimen["type"]["coding"][0]["system"], "code": "ASERU", "display": "Serum"}],
        "text": "Serum"}  # fmt: skip
    assert [one.expression for one in found.warnings if one.rule == "v2-passed-over"] == [
        "OBX[1]", "OBX[2]"]  # fmt: skip


def test_a_scanned_slide() -> None:
    found = mapped(read("OUL-R22-01"))
    assert person(found) == {"number": "00000-0000000", "family": "AAAAAAAA",
                             "born": "2019-04-11", "gender": "male"}  # fmt: skip
    (report,) = all_of(found, "DiagnosticReport")
    (specimen,) = all_of(found, "Specimen")
    assert report["status"] == "final"
    assert report["code"]["coding"][0]["code"] == "SCAN"
    assert specimen["type"]["text"] == "Biopsy, Skin"
    slide, *pictures = report["presentedForm"]
    assert slide["url"].startswith(
        "http://172.16.237.4/CaseCenter/index.php?ContainerType=CaseView&"
    )
    assert [one["contentType"] for one in pictures] == ["image/jpeg"] * 3
    assert [one.expression for one in found.warnings if one.rule == "v2-passed-over"] == [
        "OBX[1]", "OBX[3]", "OBX[2]"]  # fmt: skip
