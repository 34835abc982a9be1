"""`make demo`: a small city's reports go in, a doctor's orders come out answered.

Everything goes through the public doors of a real server with real clients: fhirpy for FHIR, HTTP
for HL7 v2 and the hooks, the command line for DICOM files. Ends by itself with one line of JSON.
`--serve` keeps a server with the same data running (make serve).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from fhirpy import SyncFHIRClient

from demo import city, consent, tell
from demo.archive import archive
from demo.server import Running, command, register, serving

RECEIVER = "demo-receiver"
#: Where a patient arrives in an emergency.
ELSEWHERE = "demo-community"
DOCTOR = "Practitioner/demo-doctor"
COUNT = {"_summary": "count"}
#: Seconds for an answer: the disk of a small machine may be busy.
PATIENCE = 60.0
#: What the doctor orders for whom: (line, code of the receiving hospital, its name).
ORDERS = {
    "p1": (
        ("o1", "GS2", "肝功两项"),
        ("o2", "GLU", "空腹血糖"),
        ("o3", "XCG", "血常规"),
        ("o4", "HBA1C", "糖化血红蛋白"),
        ("o5", "TC", "总胆固醇"),
        ("o6", "HBSAG", "乙肝表面抗原"),
        ("o7", "QT99", "院内自定义项目"),
    ),
    "p2": (
        ("o1", "CTXB", "胸部CT平扫"),
        ("o2", "USGD", "肝胆胰脾超声"),
        ("o3", "TSH", "促甲状腺激素"),
    ),
    "p3": (("o1", "GLU", "空腹血糖"),),
    "p4": (("o1", "K", "血钾"),),
}  # fmt: skip


def main() -> int:
    """Builds the city and tells the story, or serves it."""
    parser = argparse.ArgumentParser(prog="demo.run", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="keep the server running")
    parser.add_argument("--port", type=int, default=8080, help="port of --serve (default 8080)")
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.port)
    with tempfile.TemporaryDirectory(prefix="fhir-gateway-demo-") as folder:
        database = Path(folder) / "city.sqlite"
        log = Path(folder) / "log"
        with archive() as pacs, serving(database, log, "--port", "0") as running:
            tokens = build(database, running, pacs)
            stored = resources(running, tokens)
            counts = story(database, running, tokens) | {"resources": stored}
    print(json.dumps(counts))
    return 0


def serve(port: int) -> int:
    """A server with the city's data in var/demo.sqlite; tokens are printed once, when it is new."""
    database = Path("var/demo.sqlite").resolve()
    database.parent.mkdir(exist_ok=True)
    new = not database.exists()
    log = database.with_suffix(".log")
    with archive() as pacs, serving(database, log, "--port", str(port)) as running:
        if new:
            tokens = build(database, running, pacs)
            tell.tokens(tokens)
        tell.serving(running.url, database)
        try:
            running.process.wait()
        except KeyboardInterrupt:
            print()
    return 0


def client(running: Running, token: str) -> SyncFHIRClient:
    """fhirpy, as an EHR vendor would use it."""
    return SyncFHIRClient(f"{running.url}/fhir", authorization=f"Bearer {token}")


def build(database: Path, running: Running, pacs: str) -> dict[str, str]:
    """Institutions, register, rule set, and all that the hospitals send; returns the tokens."""
    today = datetime.now(city.ZONE)
    rows = city.table("institutions.csv")
    tell.chapter("The city")
    tokens = {row["id"]: register(database, row) for row in rows}
    tell.institutions(rows)
    command(database, "evaluations", "body", "import", str(city.CITY / "bodies.csv"))
    said = command(database, "evaluations", "import", str(city.CITY / "evaluations.csv"))
    tell.said(f"the register of quality evaluations: {said.strip()}")
    command(database, "rules", "activate", "1.0.0", "--demonstration")
    tell.said("rule set 1.0.0 (draft, experimental) is in force in this demonstration")
    tell.chapter("What the hospitals send")
    send(database, running, tokens, today, pacs)
    said = command(database, "endpoints", "check", calls=pacs)
    tell.said(f"the image archive is asked whether it serves: {said.splitlines()[-1]}")
    return tokens


def transaction(fhir: SyncFHIRClient, entries: list[dict[str, Any]]) -> Any:
    """Sends a transaction and returns its response Bundle."""
    return fhir.execute(
        "", method="post", data={"resourceType": "Bundle", "type": "transaction", "entry": entries}
    )


def send(
    database: Path, running: Running, tokens: dict[str, str], today: datetime, pacs: str
) -> None:
    """v2 messages over HTTP, bundles with fhirpy, DICOM files with the command line."""
    for name, institution, message in city.messages(today):
        answer = httpx.post(
            f"{running.url}/hl7v2",
            content=message,
            headers={
                "Content-Type": "application/hl7-v2",
                "Authorization": f"Bearer {tokens[institution]}",
            },
            timeout=PATIENCE,
        )
        charset = {row["id"]: row["charset"] for row in city.table("institutions.csv")}
        tell.message(name, institution, charset[institution], len(message), answer.content)
    for name, institution, text in city.bundles(today, pacs):
        response = transaction(client(running, tokens[institution]), json.loads(text)["entry"])
        tell.bundle(name, institution, len(text), len(response["entry"]))
    with tempfile.TemporaryDirectory() as folder:
        city.write_dicom(Path(folder), today)
        said = command(database, "load", folder, "--institution", "demo-first")
        tell.files("2 DICOM files", "demo-first", said)


def story(database: Path, running: Running, tokens: dict[str, str]) -> dict[str, Any]:
    """Patients consent, orders are signed, answered, accepted and repeated; a record is opened in
    an emergency; then the trail of all that."""
    fhir = client(running, tokens[RECEIVER])
    known = {key: admit(fhir, person) for key, person in city.patients().items() if key in ORDERS}
    consent.visits(fhir, RECEIVER, known, datetime.now(city.ZONE))
    cards: dict[str, list[dict[str, Any]]] = {}
    for key, lines in ORDERS.items():
        name = city.patients()[key]["name"]
        tell.chapter(f"Orders for {name}")
        cards[key] = sign(running, tokens[RECEIVER], known[key], lines)
        tell.orders(lines, cards[key])
        tell.answers(recognized(fhir, known[key], lines))
    tell.chapter("The doctor answers")
    feedback(running, tokens[RECEIVER], cards)
    other = client(running, tokens[ELSEWHERE])
    consent.emergency(other, database, ELSEWHERE, admit(other, city.patients()["p1"]))
    tell.chapter("To whom the first patient's data were passed on")
    events = passed_on(database, known["p1"])
    tell.trail(events)
    decisions = sum(
        len(everything(fhir, "GuidanceResponse", {"patient": f"Patient/{id}", "_count": 200}))
        for id in known.values()
    )
    return {"demo": "ok", "resources": 0, "decisions": decisions, "audited": len(events),
            "cards": sum(map(len, cards.values()))}  # fmt: skip


def passed_on(database: Path, patient: str) -> list[dict[str, Any]]:
    """The lines of the ledger of disclosures about a person."""
    said = command(database, "disclosures", "export", "--format", "ndjson")
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [line for line in lines if line["patient"].endswith(patient)]


def admit(fhir: SyncFHIRClient, person: dict[str, str]) -> str:
    """The receiving hospital registers a patient of its own; returns the logical id."""
    patient = fhir.resource(
        "Patient",
        identifier=[
            {"system": "urn:oid:2.16.840.1.113883.2.23.1.19.1", "value": person["id_number"]}
        ],
        name=[{"text": person["name"]}],
        gender=person["gender"],
        birthDate=person["birth_date"],
    )
    patient.save()
    return str(patient.id)


def drafts(patient: str, lines: tuple[tuple[str, str, str], ...]) -> list[dict[str, Any]]:
    """The draft orders of a visit."""
    return [city.draft_order(key, patient, code, name) for key, code, name in lines]


#: What the workstation knows of a patient in no particular situation: an outpatient visit, and
#: no diagnoses, other orders or planned procedures.
SITUATION: dict[str, Any] = {
    "encounter": {"resourceType": "Encounter", "status": "in-progress", "class": {"code": "AMB"}},
    "conditions": None,
    "requests": None,
    "procedures": None,
}


def sign(
    running: Running, token: str, patient: str, lines: tuple[tuple[str, str, str], ...]
) -> list[dict[str, Any]]:
    """Calls order-sign as a workstation does and returns its cards."""
    call = {
        "hook": "order-sign",
        "hookInstance": str(uuid.uuid4()),
        "context": {
            "userId": DOCTOR,
            "patientId": patient,
            "draftOrders": {
                "resourceType": "Bundle",
                "type": "collection",
                "entry": [{"resource": order} for order in drafts(patient, lines)],
            },
        },
        "prefetch": SITUATION,
    }
    headers = {"Authorization": f"Bearer {token}"}
    base = f"{running.url}/cds-services"
    listed = httpx.get(base, headers=headers, timeout=PATIENCE).raise_for_status()
    services = listed.json()["services"]
    service = next(one["id"] for one in services if one["hook"] == "order-sign")
    answer = httpx.post(f"{base}/{service}", json=call, headers=headers, timeout=PATIENCE)
    return list(answer.raise_for_status().json()["cards"])


def recognized(
    fhir: SyncFHIRClient, patient: str, lines: tuple[tuple[str, str, str], ...]
) -> dict[str, Any]:
    """The same question by ServiceRequest/$recognize: every line, also those without a card."""
    parameter: list[dict[str, Any]] = [
        {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
        {"name": "contextKnown", "valueBoolean": True},  # as the hook says in its prefetch
    ]
    parameter += [{"name": "order", "resource": order} for order in drafts(patient, lines)]
    answer: dict[str, Any] = fhir.execute(
        "ServiceRequest/$recognize",
        method="post",
        data={"resourceType": "Parameters", "parameter": parameter},
    )
    return answer


def feedback(running: Running, token: str, cards: dict[str, list[dict[str, Any]]]) -> None:
    """One reminder is accepted, one is repeated for a lawful reason."""
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    first = next(card for card in cards["p1"] if card.get("suggestions"))
    second = next(card for card in cards["p1"] if card is not first)
    said = [
        {
            "card": first["uuid"],
            "outcome": "accepted",
            "outcomeTimestamp": now,
            "acceptedSuggestions": [{"id": first["suggestions"][0]["uuid"]}],
        },
        {
            "card": second["uuid"],
            "outcome": "overridden",
            "outcomeTimestamp": now,
            "overrideReason": {
                "reason": second["overrideReasons"][0],
                "userComment": "症状加重，需复查",
            },
        },
    ]
    base, headers = f"{running.url}/cds-services", {"Authorization": f"Bearer {token}"}
    services = httpx.get(base, headers=headers, timeout=PATIENCE).json()["services"]
    service = next(one["id"] for one in services if one["hook"] == "order-sign")
    httpx.post(
        f"{base}/{service}/feedback",
        json={"feedback": said},
        headers=headers,
        timeout=PATIENCE,
    ).raise_for_status()
    tell.feedback(first, second)


def everything(fhir: SyncFHIRClient, type: str, query: dict[str, Any]) -> list[dict[str, Any]]:
    """What all pages of a search found, without what the server says of the search."""
    bundle = fhir.execute(type, method="get", params=query)
    found = list(bundle.get("entry", []))
    while link := next((x["url"] for x in bundle["link"] if x["relation"] == "next"), None):
        bundle = fhir.execute(link, method="get")
        found += bundle.get("entry", [])
    return [entry["resource"] for entry in found if entry["search"]["mode"] == "match"]


def resources(running: Running, tokens: dict[str, str]) -> int:
    """How many clinical resources the city has sent: each institution counts its own."""
    types = ("Patient", "Encounter", "ServiceRequest", "Specimen", "Observation",
             "DiagnosticReport", "ImagingStudy", "Provenance")  # fmt: skip
    return sum(
        int(client(running, token).execute(type, method="get", params=COUNT)["total"])
        for token in tokens.values()
        for type in types
    )


if __name__ == "__main__":
    sys.exit(main())
