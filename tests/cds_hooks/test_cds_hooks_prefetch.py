"""What a call brought, what is asked of the client's server, and what is never asked of anybody."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from city import DOCUMENT, ORDINARY, City, Json, order
from databases import Databases
from running import Running

from fhir_gateway.interactions import outbound

TOKEN = "secret-token"
SIGN = "recognition-order-sign"


class Ehr:
    """The FHIR server of a hospital system: answers by path, keeps what it was asked."""

    def __init__(self) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.base = f"http://127.0.0.1:{self.port}/fhir"
        self.asked: list[tuple[str, str]] = []  # path, authorization
        self.answers: dict[str, Any] = {}
        self.slow: set[str] = set()

    async def start(self) -> None:
        self.listening = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                path = unquote(head.split(" ")[1]).removeprefix("/fhir/")
                lines = head.lower().split("\r\n")
                token = next((one for one in lines if one.startswith("authorization:")), "")
                self.asked.append((path, token.partition(" ")[2]))
                key = path.partition("?")[0]
                if key in self.slow:
                    await asyncio.sleep(60)
                writer.write(_answer(self.answers.get(path, self.answers.get(key))))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _answer(given: Any) -> bytes:
    if isinstance(given, bytes):
        return given
    status, body = ("200 OK", json.dumps(given).encode()) if given else ("404 Not Found", b"{}")
    return f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


def bundle(*resources: Json, following: str = "") -> Json:
    found: Json = {"resourceType": "Bundle", "type": "searchset"}
    found["entry"] = [{"resource": one} for one in resources]
    if following:
        found["link"] = [{"relation": "next", "url": following}]
    return found


class Town(City):
    """The city, whose receiving hospital has a FHIR server that may be asked."""

    ehr: Ehr


@pytest.fixture(scope="module")
def town(shared_database: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    ehr = Ehr()
    file = tmp_path_factory.mktemp("clients") / "clients.toml"
    file.write_text(f'[[client]]\ninstitution = "receiver"\nfhir_servers = ["{ehr.base}"]\n')
    one = Running(
        shared_database.url("ehr"),
        cds_clients=str(file),
        outbound_networks="127.0.0.0/8",
        hook_deadline_ms=60_000,
    )
    one.run(ehr.start())
    found = Town(one)
    found.ehr = ehr
    yield found
    ehr.listening.close()
    one.close()


@pytest.fixture
def ehr(town: Town) -> Ehr:
    """The server with a visit and nothing else, before anything was asked."""
    town.ehr.asked, town.ehr.slow = [], set()
    town.ehr.answers = {
        "Encounter/e-1": ORDINARY["encounter"],
        "Condition": bundle(),
        "ServiceRequest": bundle(),
        "Procedure": bundle(),
    }
    return town.ehr


def known(town: City, ehr: Ehr) -> str:
    """A patient with a usable result, whom the hospital's server calls his-1."""
    patient = town.patient()
    town.result(patient)
    (stored,) = town.search(f"Patient?_id={patient}")
    document = [one for one in stored["identifier"] if one["system"] == DOCUMENT]
    ehr.answers["Patient/his-1"] = {"resourceType": "Patient", "identifier": document}
    return patient


def ask(town: City, ehr: Ehr | str, *orders: Json, **changes: Any) -> Any:
    """A call of the hospital's system about its own patient, with nothing prefetched."""
    server = ehr if isinstance(ehr, str) else ehr.base
    authorization = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 300}
    context = {"encounterId": "e-1", **changes.pop("context", {})}
    given: Json = {"fhirServer": server, "fhirAuthorization": authorization, "prefetch": ...}
    drafts = orders or (order("his-1"),)
    return town.hook("his-1", *drafts, context=context, **{**given, **changes})


def test_what_was_not_sent_is_asked_for_with_the_token_of_the_call(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    (card,) = ask(town, ehr).json()["cards"]
    assert card["summary"].startswith("可互认：钾")
    assert "suggestions" in card
    assert sorted(path for path, _ in ehr.asked) == [
        "Condition?patient=his-1&clinical-status=active&_count=100",
        "Encounter/e-1",
        "Patient/his-1",
        "Procedure?patient=his-1&status=preparation&_count=100",
        "ServiceRequest?patient=his-1&status=active&_count=100",
    ]
    assert {token for _, token in ehr.asked} == {f"bearer {TOKEN}"}


def test_null_says_that_there_is_none_and_is_not_asked_for_again(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    answer = ask(town, ehr, prefetch={"conditions": None})
    assert "suggestions" in answer.json()["cards"][0]
    assert "Condition" not in {path.partition("?")[0] for path, _ in ehr.asked}


def test_what_the_client_could_not_get_itself_is_missing(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    outcome = {"resourceType": "OperationOutcome", "issue": []}
    (card,) = ask(town, ehr, prefetch={"conditions": outcome}).json()["cards"]
    assert "未取得该患者的诊断" in card["detail"]
    assert "suggestions" not in card
    assert "Condition" not in {path.partition("?")[0] for path, _ in ehr.asked}


@pytest.mark.parametrize(
    ("key", "part"),
    [
        ("Encounter/e-1", "就诊信息"),
        ("Condition", "诊断"),
        ("ServiceRequest", "在用医嘱"),
        ("Procedure", "拟行手术或操作"),
    ],
)
def test_a_partial_card_says_what_is_missing(town: Town, ehr: Ehr, key: str, part: str) -> None:
    known(town, ehr)
    del ehr.answers[key]
    (card,) = ask(town, ehr).json()["cards"]
    assert card["summary"].startswith("可互认：钾")
    assert f"未取得该患者的{part}" in card["detail"]
    assert "suggestions" not in card


def test_a_slow_server_costs_its_share_of_the_time_and_no_more(
    town: Town, ehr: Ehr, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(town, ehr)
    ehr.slow = {"Condition"}
    monkeypatch.setattr("fhir_gateway.cds_hooks.prefetch.SHARE", 0.005)
    (card,) = ask(town, ehr).json()["cards"]
    assert "未取得该患者的诊断" in card["detail"]


def test_without_the_patient_nothing_can_be_decided(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    del ehr.answers["Patient/his-1"]
    answer = ask(town, ehr)
    assert answer.status_code == 412
    assert answer.json()["issue"][0]["expression"] == ["prefetch.patient"]


def test_pages_are_followed_and_never_elsewhere(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    pregnant = {"resourceType": "Condition", "code": {"coding": [_icd("O26.9")]}}
    ehr.answers["Condition"] = bundle(following=f"{ehr.base}/Page/2")
    ehr.answers["Page/2"] = bundle(pregnant)
    (card,) = ask(town, ehr).json()["cards"]
    assert "未取得" not in card["detail"]
    assert "pregnancy" in _contexts(town)
    for elsewhere in ("http://169.254.169.254/x", f"{ehr.base}x/Page/2", "Page/2", ""):
        ehr.answers["Condition"] = bundle(following=elsewhere)
        (card,) = ask(town, ehr).json()["cards"]
        assert ("未取得该患者的诊断" in card["detail"]) == bool(elsewhere)
    ehr.answers["Condition"] = bundle(following=f"{ehr.base}/Condition")  # a ring
    (card,) = ask(town, ehr).json()["cards"]
    assert "未取得该患者的诊断" in card["detail"]


def test_a_prefetched_page_is_completed(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    first = {"resourceType": "Condition", "code": {"coding": [_icd("Z99.2")]}}
    ehr.answers["Page/2"] = bundle({"resourceType": "Condition", "code": {"coding": [_icd("Z33")]}})
    page = bundle(first, following=f"{ehr.base}/Page/2")
    ask(town, ehr, prefetch={"conditions": page})
    assert {"dialysis", "pregnancy"} <= set(_contexts(town))
    del ehr.answers["Page/2"]
    (card,) = ask(town, ehr, prefetch={"conditions": page}).json()["cards"]
    assert "dialysis" in _contexts(town)  # what is in the first page counts
    assert "未取得该患者的诊断" in card["detail"]


def _icd(code: str) -> Json:
    return {"system": "http://hl7.org/fhir/sid/icd-10", "code": code}


def _contexts(town: City) -> list[str]:
    """The contexts of the decision that was recorded last."""
    from city import said

    found = town.search("GuidanceResponse?_sort=-date&_count=1")
    inputs = json.loads(said(found[0]["contained"][0], "inputs"))
    return sorted(inputs["query"].get("context", ()))


# -- what is never asked -----------------------------------------------------------------------


@pytest.fixture
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """No name is resolved and no connection made."""

    async def refuse(host: str, port: int) -> Sequence[str]:
        raise AssertionError("a name was resolved")

    def connect(*_: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(outbound, "resolve", refuse)
    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.mark.parametrize(
    "server",
    [
        "https://his.example/fhir",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://localhost/fhir",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_x",
        "x",
    ],
)
@pytest.mark.drivers("sqlite")
def test_servers_that_are_not_listed_are_not_asked(town: Town, deaf: None, server: str) -> None:
    assert ask(town, server).status_code == 412


@pytest.mark.drivers("sqlite")
def test_nearly_the_listed_server_is_another_one(town: Town, ehr: Ehr, deaf: None) -> None:
    port = ehr.port
    for server in (
        f"http://127.0.0.1:{port}/fhir/../admin",
        f"http://127.0.0.1:{port}/fhir?x=",
        f"http://127.0.0.1:{port}",
        f"http://user@127.0.0.1:{port}/fhir",
        f"http://127.0.0.1:{port}@evil.example/fhir",
        f"https://127.0.0.1:{port}/fhir",
        f"http://127.1:{port}/fhir",
        f"http://127.0.0.1:{port + 1}/fhir",
    ):
        assert ask(town, server).status_code == 412
    assert ehr.asked == []


def test_another_institution_may_not_ask_there(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    assert ask(town, ehr, headers=town.sender).status_code == 412
    assert ehr.asked == []


def test_without_a_token_nobody_is_asked(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    assert ask(town, ehr, fhirAuthorization=...).status_code == 412
    assert ehr.asked == []


def test_a_redirect_of_the_listed_server_leads_nowhere(town: Town, ehr: Ehr) -> None:
    known(town, ehr)
    to = b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"
    ehr.answers["Encounter/e-1"] = to
    (card,) = ask(town, ehr).json()["cards"]
    assert "未取得该患者的就诊信息" in card["detail"]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b" " * 2_000_000,
        {"resourceType": "Bundle", "entry": 5, "link": [5, {"relation": "next"}]},
        {"resourceType": "Bundle", "entry": [5, {"resource": "x"}], "link": {}},
    ],
)
def test_whatever_the_server_answers_no_order_waits(town: Town, ehr: Ehr, answer: Any) -> None:
    known(town, ehr)
    ehr.answers["Condition"] = answer
    answered = ask(town, ehr)
    assert answered.status_code == 200
    (card,) = answered.json()["cards"]
    assert card["summary"].startswith("可互认：钾")
    assert TOKEN not in answered.text


def test_the_token_is_kept_nowhere(town: Town, ehr: Ehr, tmp_path: Path) -> None:
    known(town, ehr)
    ask(town, ehr)
    for query in ("GuidanceResponse?_count=100", "AuditEvent?_count=100"):
        assert TOKEN not in json.dumps(town.search(query))
