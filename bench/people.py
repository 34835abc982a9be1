"""The people of the bench: what hospitals hold of one person, fifty resources of eight types.

A variant is one such record with its own items and days; every person of the bench is a copy of a
variant under its own ids. `MARK` stands where a person's number goes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from fhir_gateway.terminology.identifier import valid_id_number

MARK = "XXXXXXX"
RESOURCES = 50  # of a person
VARIANTS = 24
ITEMS = tuple(f"L{number:03d}" for number in range(1, 41))
ISSUERS = tuple(f"bench-hospital-{number}" for number in range(20))
RECEIVER = "bench-receiver"
LOCAL = "urn:bench:result"
ORDER = "urn:bench:order"
ACCESSION = "urn:bench:accession"
REPORT = "urn:bench:report"
ID_SYSTEM = "urn:oid:2.16.840.1.113883.2.23.1.19.1"
LOINC = "http://loinc.org"

REPORTS, RESULTS = 4, 9  # laboratory reports, and results of each
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_SECTION = "http://terminology.hl7.org/CodeSystem/v2-0074"
_DIGITS = "零一二三四五六七八九"
_UCUM = "http://unitsofmeasure.org"


def id_number(person: int) -> str:
    """An identity number with a valid check digit under an area code that nobody was born in."""
    body = f"11{person // 1000:04d}1970{1 + person % 12:02d}15{person % 1000:03d}"[:17]
    return next(body + last for last in "0123456789X" if valid_id_number(body + last))


def name(person: int) -> str:
    """A name that one person has."""
    return "测" + "".join(_DIGITS[int(digit)] for digit in f"{person:07d}")


def patient(person: int) -> dict[str, Any]:
    """The Patient of a person."""
    return {
        "resourceType": "Patient",
        "id": f"p{person:07d}",
        "identifier": [{"system": ID_SYSTEM, "value": id_number(person)}],
        "name": [{"text": name(person), "family": "测", "given": [name(person)[1:]]}],
        "gender": "female" if person % 2 else "male",
        "birthDate": f"1970-{1 + person % 12:02d}-15",
    }


def record(variant: int) -> list[dict[str, Any]]:
    """The other resources of a person of this variant, with MARK for the person's number."""
    chance = random.Random(variant)
    resources: list[dict[str, Any]] = []
    for report in range(REPORTS):
        issuer, day = ISSUERS[(variant + report) % 4], _day(chance, report)
        resources += _laboratory(chance, report, issuer, day)
    for study in range(2):
        resources += _imaging(study, ISSUERS[(variant + study) % 4], _day(chance, study))
    resources.append(_pressure(chance, _day(chance, 0)))
    return resources


def _day(chance: random.Random, age: int) -> str:
    """A moment of the month `age` months before the last one of the bench."""
    month, day = 10 - 2 * age, 1 + chance.randrange(28)
    return f"2026-{month:02d}-{day:02d}T08:{chance.randrange(60):02d}:00+08:00"


def _subject() -> dict[str, str]:
    return {"reference": f"Patient/p{MARK}"}


def _laboratory(
    chance: random.Random, report: int, issuer: str, day: str
) -> Iterator[dict[str, Any]]:
    """An order, its report and the results."""
    order, performer = f"s{MARK}{report}", [{"reference": f"Organization/{issuer}"}]
    results = [f"o{MARK}{report}{number}" for number in range(RESULTS)]
    yield {
        "resourceType": "ServiceRequest",
        "id": order,
        "status": "completed",
        "intent": "order",
        "code": {"coding": [{"system": ORDER, "code": "BPANEL"}], "text": "生化"},
        "subject": _subject(),
        "authoredOn": day,
        "performer": performer,
    }
    for id, item in zip(results, chance.sample(ITEMS, RESULTS), strict=True):
        yield {
            "resourceType": "Observation",
            "id": id,
            "basedOn": [{"reference": f"ServiceRequest/{order}"}],
            "status": "final",
            "category": [{"coding": [{"system": _CATEGORY, "code": "laboratory"}]}],
            "code": {"coding": [{"system": LOCAL, "code": f"B{item}", "display": f"项目{item}"}]},
            "subject": _subject(),
            "effectiveDateTime": day,
            "issued": day,
            "performer": performer,
            "valueQuantity": {
                "value": round(chance.uniform(1, 99), 1), "unit": "U/L", "system": _UCUM,
                "code": "U/L",
            },
            "referenceRange": [{"low": {"value": 9, "unit": "U/L"},
                                "high": {"value": 50, "unit": "U/L"}}],
        }  # fmt: skip
    yield {
        "resourceType": "DiagnosticReport",
        "id": f"d{MARK}{report}",
        "identifier": [{"system": REPORT, "value": f"R{MARK}{report}"}],
        "basedOn": [{"reference": f"ServiceRequest/{order}"}],
        "status": "final",
        "category": [{"coding": [{"system": _SECTION, "code": "LAB"}]}],
        "code": {"coding": [{"system": LOCAL, "code": "BPANEL"}], "text": "生化"},
        "subject": _subject(),
        "effectiveDateTime": day,
        "issued": day,
        "performer": performer,
        "result": [{"reference": f"Observation/{id}"} for id in results],
    }


def _imaging(study: int, issuer: str, day: str) -> Iterator[dict[str, Any]]:
    """A study and its report."""
    uid = f"urn:oid:1.2.826.0.1.3680043.9.9999.1{MARK}.{study}"
    yield {
        "resourceType": "ImagingStudy",
        "id": f"i{MARK}{study}",
        "identifier": [
            {"system": "urn:dicom:uid", "value": uid},
            {"system": ACCESSION, "value": f"A{MARK}{study}"},
        ],
        "status": "available",
        "modality": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}],
        "subject": _subject(),
        "started": day,
        "numberOfSeries": 1,
        "numberOfInstances": 64,
        "description": "胸部CT平扫",
    }
    yield {
        "resourceType": "DiagnosticReport",
        "id": f"g{MARK}{study}",
        "identifier": [{"system": REPORT, "value": f"G{MARK}{study}"}],
        "status": "final",
        "category": [{"coding": [{"system": _SECTION, "code": "RAD"}]}],
        "code": {"text": "胸部CT平扫"},
        "subject": _subject(),
        "effectiveDateTime": day,
        "issued": day,
        "performer": [{"reference": f"Organization/{issuer}"}],
        "imagingStudy": [{"reference": f"ImagingStudy/i{MARK}{study}"}],
        "conclusion": "双肺未见明显异常",
    }


def _pressure(chance: random.Random, day: str) -> dict[str, Any]:
    """A blood pressure with its two components."""

    def part(code: str, value: int) -> dict[str, Any]:
        return {
            "code": {"coding": [{"system": LOINC, "code": code}]},
            "valueQuantity": {"value": value, "unit": "mmHg", "system": _UCUM, "code": "mm[Hg]"},
        }

    return {
        "resourceType": "Observation",
        "id": f"b{MARK}",
        "status": "final",
        "category": [{"coding": [{"system": _CATEGORY, "code": "vital-signs"}]}],
        "code": {"coding": [{"system": LOINC, "code": "85354-9"}]},
        "subject": _subject(),
        "effectiveDateTime": day,
        "component": [
            part("8480-6", chance.randrange(100, 150)),
            part("8462-4", chance.randrange(60, 95)),
        ],
    }
