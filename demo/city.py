"""The city: institutions, patients, evaluations, and what its hospitals send.

Messages and bundles are templates: `{p1.name}` is a patient's, `{T-3@0812}` a v2 time three days
ago, `{D-3@08:12}` the same as a FHIR dateTime. All names and numbers are made up by rule; the area
code 119900 in the identity numbers belongs to nobody.
"""

from __future__ import annotations

import csv
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from pydicom import dcmread
from pydicom.data import get_testdata_file

CITY = Path(__file__).with_name("city")
ZONE = ZoneInfo("Asia/Shanghai")
_SEX = {"male": "M", "female": "F"}
_TOKEN = re.compile(r"\{(?:(p\w+)\.([\w-]+)|T-(\d+)@(\d{4})|D-(\d+)@(\d\d:\d\d))\}")
#: The address of the first hospital's image archive, where none is running.
PACS = "https://images.example.org/demo-first"
#: Which institution sends a file, by the beginning of its name.
SENDERS = ("first", "second", "community", "tianjin", "lapsed")


def table(name: str) -> list[dict[str, str]]:
    """The rows of one of the city's CSV files."""
    with (CITY / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def patients() -> dict[str, dict[str, str]]:
    """The city's patients by key."""
    return {row["key"]: row for row in table("patients.csv")}


def fill(template: str, today: datetime) -> str:
    """The template with patients and days filled in."""
    people = patients()

    def value(match: re.Match[str]) -> str:
        key, field, v2_days, v2_clock, days, clock = match.groups()
        if key:
            person = people[key]
            return {
                "name": person["name"],
                "sex": _SEX[person["gender"]],
                "birth": person["birth_date"].replace("-", ""),
                "birth-": person["birth_date"],
                "id": person["id_number"],
            }[field]
        if v2_days:
            return f"{today - timedelta(days=int(v2_days)):%Y%m%d}{v2_clock}00"
        return f"{today - timedelta(days=int(days)):%Y-%m-%d}T{clock}:00+08:00"

    return _TOKEN.sub(value, template)


def sender(path: Path) -> str:
    """The institution that sends a file: 01-second-….hl7 is demo-second's."""
    name = path.name.split("-")[1]
    if name not in SENDERS:
        raise ValueError(f"{path.name}: no such sender")
    return f"demo-{name}"


def messages(today: datetime) -> list[tuple[str, str, bytes]]:
    """(file name, institution, bytes in the institution's own encoding) of the v2 messages."""
    charsets = {row["id"]: row["charset"] for row in table("institutions.csv")}
    made = []
    for path in sorted((CITY / "messages").glob("*.hl7")):
        text = fill(path.read_text(encoding="utf-8"), today).replace("\n", "\r")
        made.append((path.name, sender(path), text.encode(charsets[sender(path)])))
    return made


def bundles(today: datetime, pacs: str = PACS) -> list[tuple[str, str, str]]:
    """(file name, institution, JSON text) of the FHIR bundles; `pacs` is the archive's address."""
    return [
        (
            path.name,
            sender(path),
            fill(path.read_text(encoding="utf-8"), today).replace("{pacs}", pacs),
        )
        for path in sorted((CITY / "bundles").glob("*.json"))
    ]


def write_dicom(folder: Path, today: datetime) -> None:
    """Two images of one study: pydicom's own test file, relabelled for a patient of the city."""
    person = patients()["p1"]
    for number in (1, 2):
        image = dcmread(str(get_testdata_file("CT_small.dcm")))
        image.SpecificCharacterSet = "ISO_IR 192"
        image.PatientName = person["name"]
        image.PatientID = person["id_number"]
        image.PatientBirthDate = person["birth_date"].replace("-", "")
        image.PatientSex = _SEX[person["gender"]]
        image.StudyDate = f"{today - timedelta(days=10):%Y%m%d}"
        image.StudyTime = "101500"
        image.AccessionNumber = "F-ACC-8801"
        image.StudyInstanceUID = "1.2.826.0.1.3680043.8.498.8801"
        image.SeriesInstanceUID = "1.2.826.0.1.3680043.8.498.8801.1"
        image.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.8801.1.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.BodyPartExamined = "CHEST"
        del image.ContrastBolusAgent  # pydicom's own patient had one
        image.StudyDescription = "胸部CT平扫"
        image.InstitutionName = "示范市第一医院"
        image.save_as(folder / f"chest-ct-{number}.dcm", enforce_file_format=True)


def draft_order(key: str, patient: str, code: str, name: str) -> dict[str, Any]:
    """A draft ServiceRequest in the receiving hospital's own order codes."""
    return {
        "resourceType": "ServiceRequest",
        "id": key,
        "status": "draft",
        "intent": "order",
        "code": {
            "coding": [{"system": "urn:demo-receiver:order", "code": code, "display": name}],
            "text": name,
        },
        "subject": {"reference": f"Patient/{patient}"},
    }
