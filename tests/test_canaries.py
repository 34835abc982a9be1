"""Nothing that is written names a person: logs, addresses, figures, refusals, arguments, files.

A session of requests at every door, good and bad, with what names a person in every place where it
can stand; then everything that was written is searched for it (faults.md 60, 66, I14).
"""

from __future__ import annotations

import json
import logging
import re
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import canaries
import httpx
import pytest
from canaries import CANARIES, found_in
from databases import postgres
from running import Running

FHIR = {"content-type": "application/fhir+json"}
NUMBER, NAME, PHONE = CANARIES["identity number"], CANARIES["name"], CANARIES["phone"]
CARD, LATIN = CANARIES["card"], CANARIES["latin name"]

PERSON: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [{"system": "http://cards.example", "value": CARD},
                   {"system": "urn:oid:2.16.156.10011.1.3", "value": NUMBER}],
    "name": [{"text": NAME, "family": LATIN}],
    "telecom": [{"system": "phone", "value": PHONE}],
    "address": [{"text": CANARIES["address"]}],
    "birthDate": CANARIES["birth"],
}  # fmt: skip
V2 = (
    "MSH|^~\\&|LIS|s2|GW|CITY|20261118113100||ORU^R01^ORU_R01|7777|P|2.5.1||||||UNICODE UTF-8\r"
    f"PID|1||{CARD}^^^H^MR~{NUMBER}^^^^NI||{LATIN}^{NAME}||19070717|F|||{CANARIES['address']}"
    f"||{PHONE}\rOBR|1||r1|x^y^L\rOBX|1|NM|{CARD}^z^L||{NAME}|mmol/L|||||F\r"
)


class Asked(NamedTuple):
    method: str
    path: str
    headers: Mapping[str, str] = MappingProxyType({})
    content: bytes = b""


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def session() -> Iterator[Asked]:
    """Requests that hold what names a person, in every part of them."""
    yield Asked("POST", "/fhir/Patient", FHIR, _json(PERSON))
    for parameter, value in (
        ("identifier", NUMBER), ("identifier", f"http://cards.example|{CARD}"), ("name", NAME),
        ("family", LATIN), ("phone", PHONE), ("address", CANARIES["address"]),
        ("birthdate", CANARIES["birth"]), ("_sort", NAME),
        ("_include", NUMBER), ("_cursor", NUMBER), ("_count", NUMBER), ("name:nonsense", NAME),
        ("_has:Observation:patient:code", CARD), ("_format", NAME), ("_pretty", NUMBER),
    ):  # fmt: skip
        yield Asked("GET", f"/fhir/Patient?{quote(parameter)}={quote(value)}")
        form = {"content-type": "application/x-www-form-urlencoded"}
        body = f"{quote(parameter)}={quote(value)}".encode()
        yield Asked("POST", "/fhir/Patient/_search", form, body)
    for path in (
        f"/fhir/Patient/{NUMBER}", f"/fhir/{LATIN}/{CARD}", f"/fhir/{NUMBER}", f"/{NUMBER}",
        f"/fhir/Patient/{CARD}/_history/{PHONE}", f"/fhir/Patient/{NUMBER}/${LATIN}",
        f"/fhir/_async/{NUMBER}", f"/fhir/_async/{NUMBER}/{CARD}.ndjson", f"/hl7v2/{NUMBER}",
        f"/cds-services/{NUMBER}",
        f"/fhir/Patient/{quote(NAME)}", f"/metrics/{NUMBER}", f"/oauth/{NUMBER}",
        f"/.well-known/{NUMBER}", f"/fhir/ValueSet/$expand?url=http://x.example&filter={quote(NAME)}",
    ):  # fmt: skip
        for method in ("GET", "PUT"):
            yield Asked(method, path, FHIR, _json({"resourceType": LATIN, "id": NUMBER}))
    yield from _bad_bodies()
    yield from _doors()


def _bad_bodies() -> Iterator[Asked]:
    wrong = [
        {**PERSON, "birthDate": NAME}, {**PERSON, NAME: NUMBER}, {**PERSON, "gender": LATIN},
        {**PERSON, "telecom": NUMBER}, {**PERSON, "managingOrganization": {"reference": CARD}},
        {**PERSON, "text": {"status": "additional", "div": f"<div>{NAME}<script/></div>"}},
        {**PERSON, "name": [{"text": NAME, "use": PHONE}]}, {**PERSON, "active": NUMBER},
        {**PERSON, "meta": {"profile": [f"http://x.example/{NUMBER}"]}},
    ]  # fmt: skip
    for body in wrong:
        yield Asked("POST", "/fhir/Patient", FHIR, _json(body))
        yield Asked("POST", "/fhir/Patient/$validate", FHIR, _json(body))
    whole = _json(PERSON)
    for body in (whole[:-9], whole + whole, NAME.encode("gb18030"), whole.replace(b":", b"=", 9),
                 b'{"resourceType":"Patient","id":"%b","id":"x"}' % NUMBER.encode()):  # fmt: skip
        yield Asked("POST", "/fhir/Patient", FHIR, body)
        yield Asked("POST", "/fhir", FHIR, body)
    xml = f'<Patient xmlns="http://hl7.org/fhir"><name><text value="{NAME}"/><nonsense/></name>'
    for body in (xml, f"{xml}</Patient>", f"<!DOCTYPE {LATIN} SYSTEM '{NUMBER}'>{xml}"):
        yield Asked(
            "POST", "/fhir/Patient", {"content-type": "application/fhir+xml"}, body.encode()
        )
    for method, url in (("POST", "Patient"), ("PUT", f"Patient?identifier={NUMBER}"),
                        ("GET", f"Patient/{CARD}"), ("DELETE", f"Patient?name={quote(NAME)}"),
                        ("PUT", f"{LATIN}/{NUMBER}")):  # fmt: skip
        entry = {
            "fullUrl": f"urn:{NUMBER}",
            "resource": PERSON,
            "request": {"method": method, "url": url},
        }
        for kind in ("batch", "transaction", LATIN):
            bundle = {"resourceType": "Bundle", "type": kind, "entry": [entry]}
            yield Asked("POST", "/fhir", FHIR, _json(bundle))


def _doors() -> Iterator[Asked]:
    yield Asked(
        "POST", "/fhir/Patient", {**FHIR, "if-none-exist": f"identifier={NUMBER}"}, _json(PERSON)
    )
    yield Asked("GET", "/fhir/Patient", {"x-request-id": NUMBER})
    yield Asked("GET", "/fhir/Patient", {"origin": f"https://{NUMBER}.example"})
    yield Asked("GET", "/fhir/Patient", {"authorization": f"Bearer {NUMBER}"})
    yield Asked("GET", "/fhir/Patient", {"accept": LATIN, "if-none-match": NUMBER})
    yield Asked("GET", "/fhir/Patient", {"host": f"{LATIN}.example"})
    yield Asked("GET", "/fhir/Patient?_count=x" + quote(NAME) * 1_000)
    yield Asked("GET", f"/fhir/$export?_typeFilter={quote(f'Patient?name={NAME}')}",
                {"prefer": "respond-async"})  # fmt: skip
    yield Asked("GET", f"/fhir/Patient?identifier={NUMBER}", {"prefer": "respond-async"})
    match = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": PERSON}]}
    yield Asked("POST", "/fhir/Patient/$match", FHIR, _json(match))
    yield Asked("GET", f"/fhir/Patient/$ihe-pix?sourceIdentifier=http://cards.example|{CARD}")
    hook = {"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
            "context": {"userId": f"Practitioner/{LATIN}", "patientId": CARD},
            "fhirServer": f"https://{NUMBER}.example", "prefetch": {"patient": PERSON}}  # fmt: skip
    for service in ("mutual-recognition-patient-view", LATIN):
        for body in (_json(hook), _json(hook)[:-5], _json({**hook, "hook": NAME})):
            yield Asked(
                "POST", f"/cds-services/{service}", {"content-type": "application/json"}, body
            )
            yield Asked("POST", f"/cds-services/{service}/feedback",
                        {"content-type": "application/json"}, body)  # fmt: skip
    for body in (V2, V2.replace("ORU^R01^ORU_R01", LATIN), V2[:80], V2.replace("PID", NUMBER)):
        yield Asked("POST", "/hl7v2", {"content-type": "application/hl7-v2"}, body.encode())
    form = {"content-type": "application/x-www-form-urlencoded"}
    for path in ("/oauth/token", "/oauth/introspect", "/oauth/revoke"):
        body = f"grant_type={LATIN}&client_id={NUMBER}&token={CARD}&scope={quote(NAME)}".encode()
        yield Asked("POST", path, form, body)
    for path in ("/healthz", "/readyz", "/metrics", "/fhir/metadata", "/cds-services"):
        yield Asked("GET", path)


Sent = Callable[[Asked], httpx.Response]

#: Answers that hold what was asked for, or what was sent: to the one who sent it, and no other.
_MAY_HOLD = frozenset({200, 201})


def talk(send: Sent, headers: dict[str, str]) -> list[str]:
    """The whole session; what its answers tell in places where nobody's name belongs."""
    told, seen = [], set()
    for asked in session():
        credential = {} if "authorization" in asked.headers else headers
        answer = send(asked._replace(headers={**credential, **asked.headers}))
        seen.add(answer.status_code)
        place = f"{asked.method} {asked.path.split('?')[0]}"
        for name, value in answer.headers.items():
            told += [f"header {name}: {kind}: {place}" for kind in found_in(value)]
        if answer.status_code not in _MAY_HOLD and "/hl7v2" not in asked.path:
            told += [f"{answer.status_code}: {kind}: {place}" for kind in found_in(answer.text)]
        if asked.path in ("/healthz", "/readyz", "/metrics", "/fhir/metadata", "/cds-services"):
            told += [f"page: {kind}: {place}" for kind in found_in(answer.text)]
        assert answer.status_code < 500, (place, answer.text)
    assert {200, 201, 400, 401, 404, 422} <= seen
    return told


@pytest.mark.drivers("postgresql")
def test_060_066_nothing_in_this_process_names_a_person(start, caplog, capfd) -> None:
    """Without authentication: answers, log records, output, PostgreSQL's own log."""
    server = start(open_access=True)
    with caplog.at_level(logging.DEBUG):
        told = talk(
            lambda asked: server.request(
                asked.method, asked.path, headers=asked.headers, content=asked.content
            ),
            {},
        )
    ours = [one for one in caplog.records if one.name.startswith(canaries.OURS)]
    assert len(ours) > 100
    lines = "\n".join(f"{one.getMessage()} {one.exc_info or ''}" for one in ours)
    assert found_in(lines) == []
    assert found_in("".join(capfd.readouterr())) == []
    assert found_in(server.gateway.count.__self__.page().decode()) == []
    assert found_in("\n".join(str(path) for path in Path(server.settings.exports).rglob("*"))) == []
    assert found_in(postgres()._log().read_text("utf-8", "replace")) == []
    assert told == []
    canaries.taken()


def test_060_066_nothing_that_a_served_gateway_writes_names_a_person(tmp_path: Path) -> None:
    """With tokens, over sockets: its log, its arguments, its files' names, and no token either."""
    sys.path.append(str(Path(__file__).parent / "rest"))
    from rest_server import Served

    database = tmp_path / "g.sqlite"
    with_token = Running(database)
    headers = with_token.institution("h1")
    with_token.close()
    served = Served(database, open_access=False)
    try:
        with httpx.Client(base_url=served.url, timeout=30) as http:
            told = talk(
                lambda asked: http.request(
                    asked.method, asked.path, headers=asked.headers, content=asked.content
                ),
                headers,
            )
        _raw(served.ready["port"])
        arguments = Path(f"/proc/{served.process.pid}/cmdline").read_text()
    finally:
        served.stop()
    log = (tmp_path / "serve.log").read_text("utf-8")
    assert log.count('"event":"request"') > 100
    assert found_in(log) == []
    assert found_in(arguments) == []
    token = headers["authorization"].removeprefix("Bearer ")
    assert token not in log
    assert re.search(r"fgw_[A-Za-z0-9_-]{20}", log) is None
    assert found_in("\n".join(path.name for path in tmp_path.rglob("*"))) == []
    assert told == []


def _raw(port: int) -> None:
    """What is no HTTP at all."""
    for data in (f"GET /{NUMBER} HTTP/1.1\nhost: {LATIN}\n\n", f"{NAME} / HTTP/1.1\r\n\r\n",
                 f"GET / HTTP/1.1\r\n{NUMBER} : x\r\n\r\n", f"POST /fhir/Patient HTTP/1.1\r\n"
                 f"host: x\r\ncontent-length: 999\r\n\r\n{NUMBER}"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", port), timeout=10) as made:
            made.sendall(data.encode())
            made.shutdown(socket.SHUT_WR)
            while part := made.recv(65_536):
                assert found_in(part.decode("utf-8", "replace")) == []


def test_a_canary_is_found_in_every_spelling() -> None:
    for text in (NAME, quote(NAME), json.dumps(NAME), repr(NAME.encode()), NAME.encode().hex()):
        assert found_in(f"x {text} y") == ["name"]
    assert found_in("nothing") == []


def test_the_suite_listens() -> None:
    logging.getLogger("fhir_gateway.test").warning("x %s", NAME)
    logging.getLogger("another").warning("x %s", NAME)
    assert len(canaries.taken()) == 1
