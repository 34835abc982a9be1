"""Random requests of one who looks for what is hidden: through every path that reads rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from twin_world import (
    DOCUMENT,
    HIV,
    LOINC,
    Request,
    consent,
    encounter,
    id_number,
    observation,
    order,
    patient,
    report,
)

Json = dict[str, Any]
Dice = random.Random

SEEN = {
    "Patient": ("p1a", "p3", "p1b"), "Observation": ("oa0", "oa3", "o31", "ob0", "ob1"),
    "DiagnosticReport": ("ra", "rb"), "Encounter": ("e1",), "ServiceRequest": ("s1", "s3"),
    "Condition": ("ca",), "Consent": ("ka",), "Task": ("ta",), "Practitioner": ("da", "db", "dc"),
}  # fmt: skip
HIDDEN = {
    "Patient": ("p2", "p4", "p1c"), "Observation": ("o20", "o24", "oc0", "oc3", "ob-hiv", "o41",
                                                   "oc-new", "ob-hiv2"),
    "DiagnosticReport": ("r2", "rc"), "Encounter": ("e2", "e4", "ec"),
    "ServiceRequest": ("s2", "sc"),
    "Condition": ("c2", "cc", "cb-hiv"), "Consent": ("k2",), "Task": ("t2",),
}  # fmt: skip
#: Those that both worlds hold: who puts to an id that is free creates, and to a taken one does not.
BOTH = {"Observation": ("o20", "o21", "oc0", "ob-hiv"), "Condition": ("c2", "cc", "cb-hiv"),
        "Task": ("t9",), "Encounter": ("e2",)}  # fmt: skip
NAMES = ("测试甲", "测试乙", "测试丁", "测试戊", "测试己", "测试", "测")
CODES = ("2823-3", "2951-2", "718-7", HIV, f"{LOINC}|2823-3", f"{LOINC}|{HIV}")
VALUES = ("gt4", "lt4.2", "ge5", "le9", "9", "99", "gt6.05", "ne4.1")
ICD = ("I10", "B20", "B24", "C50", "I21", "E11")


def _type(dice: Dice) -> str:
    return dice.choice(tuple(SEEN))


def _id(dice: Dice, type: str) -> str:
    hidden = HIDDEN.get(type, ())
    pool = dice.choice([SEEN[type], hidden, hidden, ("nobody",)]) or SEEN[type]
    return dice.choice(pool)


def _patient(dice: Dice) -> str:
    return _id(dice, "Patient")


def _card(dice: Dice) -> str:
    if dice.random() < 0.5:
        return f"{DOCUMENT}|{id_number(dice.choice([1, 2, 3, 4, 5]))}"
    return f"urn:card|card-{_patient(dice)}"


def _shape(dice: Dice) -> str:
    return dice.choice([
        "", "", "&_total=accurate", "&_summary=count", "&_count=2", "&_count=1&_sort=-date",
        "&_sort=_id", "&_total=estimate", "&_sort=-_lastUpdated", "&__explain=true",
        "&_elements=id",
    ])  # fmt: skip


def _read(dice: Dice) -> Request:
    type = _type(dice)
    id = _id(dice, type)
    rest = dice.choice(["", "", "/_history", "/_history/1", "/_history/2", "/$meta", "/_history/3"])
    headers = dice.choice([(), (("if-none-match", 'W/"1"'),), (("if-none-match", 'W/"2"'),)])
    return Request("read", dice.choice(["GET", "GET", "HEAD"]), f"{type}/{id}{rest}", None, headers)


def _search(dice: Dice) -> Request:
    of = _patient(dice)
    query = dice.choice([
        f"Observation?patient={of}&code={dice.choice(CODES)}",
        f"Observation?patient={of}",
        f"Observation?code={dice.choice(CODES)}&value-quantity={dice.choice(VALUES)}",
        f"Observation?patient={of}&value-quantity={dice.choice(VALUES)}",
        f"Observation?patient={of}&status:not=final",
        f"Observation?subject=Patient/{of}&date=ge2026-11-1{dice.randrange(10)}",
        f"Observation?code-value-quantity={dice.choice(CODES[:4])}${dice.choice(VALUES)}",
        f"Patient?name={dice.choice(NAMES)}", f"Patient?identifier={quote(_card(dice))}",
        f"Patient?birthdate=1990-03-07&gender={dice.choice(['male', 'female'])}",
        f"Patient?telecom=1000000000{dice.choice('19')}",
        f"DiagnosticReport?patient={of}", f"Condition?patient={of}&code={dice.choice(ICD)}",
        f"Condition?code={dice.choice(ICD)}", f"Encounter?patient={of}&status=in-progress",
        f"ServiceRequest?patient={of}", f"Consent?patient={of}", f"Task?patient={of}",
        f"Task?owner=Organization/{dice.choice('abc')}", f"AuditEvent?patient={of}",
        f"GuidanceResponse?patient={of}", f"Provenance?patient={of}", "AuditEvent?date=ge2026",
        f"Observation?performer=Organization/{dice.choice('abc')}", "Patient?_id=p2,p1c,p1a,p4",
        f"Observation?_id={_id(dice, 'Observation')}", f"Person?name={dice.choice(NAMES)}",
        "Linkage?item=Patient/p1c", "List?patient=p1a",
    ])  # fmt: skip
    return Request("search", "GET", query + _shape(dice))


def _chain(dice: Dice) -> Request:
    query = dice.choice([
        f"Observation?patient.name={dice.choice(NAMES)}",
        f"Observation?subject:Patient.identifier={quote(_card(dice))}",
        f"Patient?_has:Observation:patient:code={dice.choice(CODES)}",
        f"Patient?_has:Observation:patient:value-quantity={dice.choice(VALUES)}",
        f"Patient?_has:Condition:patient:code={dice.choice(ICD)}",
        f"DiagnosticReport?result.code={dice.choice(CODES)}",
        f"DiagnosticReport?patient={_patient(dice)}&result.value-quantity={dice.choice(VALUES)}",
        f"Observation?_has:DiagnosticReport:result:_id={_id(dice, 'DiagnosticReport')}",
        "Observation?patient=p1a&_has:DiagnosticReport:result:status=final",
        f"Patient?_has:Encounter:patient:status={dice.choice(['in-progress', 'finished'])}",
        f"Patient?_id={_patient(dice)}&_has:Observation:patient:code={dice.choice(CODES)}",
        f"Patient?link.name={dice.choice(NAMES)}", f"Task?patient.name={dice.choice(NAMES)}",
        "Organization?_has:Observation:performer:code=56888-1",
        "Patient?_has:Consent:patient:status=active", "Patient?_has:Task:patient:owner=b",
        f"Patient?_has:AuditEvent:patient:date=ge2026-11-{dice.randrange(10, 25)}",
    ])  # fmt: skip
    return Request("chain", "GET", query + _shape(dice))


def _include(dice: Dice) -> Request:
    of = _patient(dice)
    query = dice.choice([
        f"Patient?_id={of}&_revinclude=Observation:patient",
        f"Patient?_id={of}&_revinclude=*",
        f"Patient?name={dice.choice(NAMES)}&_revinclude=Condition:patient",
        f"Observation?patient={of}&_include=Observation:performer&_include=Observation:patient",
        f"DiagnosticReport?patient={of}&_include=DiagnosticReport:result",
        f"DiagnosticReport?_id={_id(dice, 'DiagnosticReport')}&_include=*",
        f"Encounter?patient={of}&_revinclude=Consent:data&_include:iterate=*",
        f"Observation?_id={_id(dice, 'Observation')}&_revinclude=DiagnosticReport:result"
        "&_revinclude:iterate=Provenance:target",
        f"Patient?_id={of}&_revinclude=AuditEvent:patient&_revinclude=GuidanceResponse:patient",
    ])  # fmt: skip
    return Request("include", "GET", query)


def _record(dice: Dice) -> Request:
    of = _patient(dice)
    path = dice.choice([
        f"Patient/{of}/$everything", f"Patient/{of}/$everything?_count=2",
        f"Patient/{of}/$everything?_type=Condition,Observation", f"Patient/{of}/$prior-results",
        f"Patient/{of}/$prior-results?_count=2", f"Patient/{of}/Observation?_count=2",
        f"Patient/{of}/*?_count=3", f"Patient/{of}/Condition",
        f"Encounter/{_id(dice, 'Encounter')}/*",
        f"Observation/$lastn?patient={of}&category=laboratory&max={dice.choice([1, 3])}",
        f"Observation/$lastn?patient={of}&code={dice.choice(CODES)}",
        f"?_type=Observation,Condition&patient={of}&_count=2", "?_type=Patient&_id=p1a,p2,p1c",
        f"Patient/{of}/$everything?_since=2026-11-20T09:00:00%2B08:00",
    ])  # fmt: skip
    return Request("record", "GET", path)


def _history(dice: Dice) -> Request:
    path = dice.choice([
        "_history?_count=3", "Observation/_history?_count=4", "Patient/_history",
        "Condition/_history", "Task/_history", "Consent/_history?_count=1",
        "Observation/_history?_since=2026-11-20T09:00:00%2B08:00", "AuditEvent/_history?_count=3",
        "Observation/_history?_at=2026-11-20T09:00:00%2B08:00",
    ])  # fmt: skip
    return Request("history", "GET", path)


def _parameters(*members: Json) -> Json:
    return {"resourceType": "Parameters", "parameter": list(members)}


def _identity(dice: Dice) -> Request:
    system, _, value = _card(dice).rpartition("|")
    if dice.random() < 0.4:
        pair = quote(f"{system}|{value}")
        return Request("identity", "GET", f"Patient/$ihe-pix?sourceIdentifier={pair}")
    name = dice.choice(NAMES)
    asked: Json = {
        "resourceType": "Patient", "name": [{"text": name, "family": name[0], "given": [name[1:]]}],
        "birthDate": "1990-03-07", "gender": dice.choice(["male", "female"]),
    }  # fmt: skip
    if dice.random() < 0.5:
        asked["identifier"] = [{"system": system, "value": value}]
    if dice.random() < 0.3:
        asked["telecom"] = [{"system": "phone", "value": f"1000000000{dice.choice('19')}"}]
    body = _parameters({"name": "resource", "resource": asked})
    return Request("identity", "POST", "Patient/$match", body)


def _decide(dice: Dice) -> Request:
    of = _patient(dice)
    items = [{"system": LOINC, "code": dice.choice(CODES[:4])} for _ in range(dice.choice([1, 2]))]
    if dice.random() < 0.5:
        request = order("draft", of, "a", items[0]["code"])
        body = _parameters({"name": "resource", "resource": request})
        return Request("recognize", "POST", "ServiceRequest/$recognize", body)
    call = {
        "hook": "order-select", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": {
            "userId": "Practitioner/da", "patientId": of, "selections": ["ServiceRequest/draft"],
            "draftOrders": {"resourceType": "Bundle", "type": "collection",
                            "entry": [{"resource": order("draft", of, "a", items[0]["code"])}]},
        },
    }  # fmt: skip
    headers = (("content-type", "application/json"),)
    return Request("hook", "POST", "/cds-services/recognition-order-select", call, headers)


def _write(dice: Dice) -> Request:
    of, type = _patient(dice), dice.choice(["Observation", "Condition", "Task", "Encounter"])
    id = dice.choice(BOTH[type])
    body = observation(id, of, "a") if type == "Observation" else encounter(id, of, "a")
    new = dice.choice([
        observation("new", of, "a"), encounter("new", of, "a"), order("new", of, "a"),
        report("new", of, "a", _id(dice, "Observation")), consent("new", of, "e1", "a", "b", "a"),
        consent("new", of, _id(dice, "Encounter"), "a", "c", "a"),
        observation("new", "p3", "a", derivedFrom=[
            {"reference": f"Observation/{_id(dice, 'Observation')}"}]),
        patient("new", dice.choice(NAMES), dice.choice([1, 2, 4, 5])),
    ])  # fmt: skip
    new.pop("id")
    card = quote(_card(dice))
    condition = dice.choice([
        f"identifier={card}", f"name={dice.choice(NAMES)}", f"_id={of}",
    ])  # fmt: skip
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": [
        {"name": "type", "valueCode": "replace"},
        {"name": "path", "valueString": f"{type}.status"},
        {"name": "value", "valueCode": "cancelled"}]}]}  # fmt: skip
    return dice.choice([
        Request("put-hidden", "PUT", f"{body['resourceType']}/{id}", {**body, "id": id}),
        Request("put-hidden", "PUT", f"Observation/{id}", observation(id, "p3", "a"),
                (("if-match", 'W/"1"'),)),
        Request("patch-hidden", "PATCH", f"{type}/{id}", patch),
        Request("delete-hidden", "DELETE", f"{type}/{id}"),
        Request("delete-hidden", "DELETE", f"Patient/{dice.choice(['p2', 'p1c', 'nobody'])}"),
        Request("create", "POST", new["resourceType"], new),
        Request("create-if-none", "POST", "Patient",
                {k: v for k, v in patient("x", "测试辛", 7).items() if k != "id"},
                (("if-none-exist", condition),)),
        Request("put-condition", "PUT", f"Patient?{condition}",
                {k: v for k, v in patient("x", "测试辛", 8).items() if k != "id"}),
        Request("delete-condition", "DELETE", f"Condition?patient={of}&code={dice.choice(ICD)}"),
        Request("put-new", "PUT", "Observation/mine", observation("mine", of, "a")),
    ])  # fmt: skip


def _batch(dice: Dice) -> Request:
    parts = [dice.choice([_read, _search, _chain, _write])(dice) for _ in range(3)]
    entries = []
    for one in parts:
        if one.method in ("GET", "DELETE") and "$" not in one.path and not one.path.startswith("/"):
            entries.append({"request": {"method": one.method, "url": one.path}})
    body = {
        "resourceType": "Bundle",
        "type": dice.choice(["batch", "transaction"]),
        "entry": entries,
    }
    return Request("batch", "POST", "", body)


#: The kinds and how often each comes.
KINDS: tuple[tuple[Callable[[Dice], Request], int], ...] = (
    (_read, 5), (_search, 8), (_chain, 6), (_include, 3), (_record, 4), (_history, 1),
    (_identity, 2), (_decide, 2), (_write, 4), (_batch, 2),
)  # fmt: skip


def requests(seed: int, count: int) -> list[Request]:
    """So many random requests, the same for the same seed."""
    dice = Dice(seed)
    makers = [maker for maker, weight in KINDS for _ in range(weight)]
    return [dice.choice(makers)(dice) for _ in range(count)]
