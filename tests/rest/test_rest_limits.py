"""Limits of the served gateway, told byte by byte over a socket: size, count, time, one meaning."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from effort import TORTURE
from rest_server import Served

FHIR = b"content-type: application/fhir+json\r\n"
HOST = b"host: localhost\r\n"
SMALL = {
    "FHIR_GATEWAY_HEAD_SECONDS": "1",
    "FHIR_GATEWAY_BODY_SECONDS": "1",
    "FHIR_GATEWAY_HEAD_LIMIT": "20000",
    "FHIR_GATEWAY_BODY_LIMIT": "200000",
    "FHIR_GATEWAY_BUNDLE_LIMIT": "20",
    "FHIR_GATEWAY_ADDRESS_CONNECTIONS": "40",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    before = {name: os.environ.get(name) for name in SMALL}
    os.environ.update(SMALL)
    one = Served(tmp_path_factory.mktemp("limits") / "g.sqlite")
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    yield one
    assert one.stop() == 0
    log = Path(one.log.name).read_text()
    assert "Traceback" not in log


def connect(served: Served) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", served.ready["port"]), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def rest_of(made: socket.socket) -> bytes:
    """What comes until the other side closes."""
    parts = []
    with suppress(ConnectionResetError, TimeoutError):
        while part := made.recv(65_536):
            parts.append(part)
    return b"".join(parts)


def ask(served: Served, data: bytes) -> bytes:
    """Everything that is answered to these bytes until the connection ends."""
    with connect(served) as made:
        with suppress(ConnectionResetError, BrokenPipeError):  # refused before it was whole
            made.sendall(data)
        return rest_of(made)


def statuses(answer: bytes) -> list[int]:
    """The status of each answer in these bytes."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def rule(answer: bytes) -> str:
    """The rule that the OperationOutcome of a refusal names; it has the headers of every answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"x-content-type-options: nosniff" in head
    assert b"frame-ancestors 'none'" in head
    outcome = json.loads(body)
    assert outcome["resourceType"] == "OperationOutcome"
    return str(outcome["issue"][0]["details"]["text"])


def alive(served: Served) -> bool:
    answer = ask(served, b"GET /healthz HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n")
    return statuses(answer) == [200]


CHUNKED = b"POST /fhir/Patient HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
SMUGGLED = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 5\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n",
        b"content-length: 5, 6\r\n",
        b"content-length: +5\r\n",
        b"content-length: -1\r\n",
        b"content-length: 0x5\r\n",
        b"content-length: 5 5\r\n",
        b"content-length: 99999999999999999999999\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding : chunked\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"content length: 5\r\n",
        b" folded: x\r\n",
        b"x: a\x00b\r\n",
        b"x: a\nGET / HTTP/1.1\r\n",
        b"x: a\rb\r\n",
    ],
)  # fmt: skip
def test_028_a_request_that_two_readers_cut_in_two_places_is_refused_and_closed(
    served: Served, head: bytes
) -> None:
    asked = b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + FHIR + head + b"\r\n0\r\n\r\n" + SMUGGLED
    answer = ask(served, asked)
    assert statuses(answer) == [400], answer
    assert b'"status":"ok"' not in answer


@pytest.mark.parametrize(
    "data",
    [
        b"GET /healthz HTTP/1.1\nhost: x\n\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\n\r\n",
        CHUNKED + b"1\n{\r\n0\r\n\r\n",
        CHUNKED + b"zz\r\n{\r\n0\r\n\r\n",
        b"GET\x00/ HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"NONSENSE /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_028_what_is_no_http_is_refused_with_an_outcome(served: Served, data: bytes) -> None:
    answer = ask(served, data)
    assert statuses(answer) == [400], answer
    assert rule(answer) == "http"


def test_028_many_and_large_headers_are_refused(served: Served) -> None:
    get = b"GET /healthz HTTP/1.1\r\n" + HOST
    for many, wanted in ((95, [200]), (120, [431]), (10_000, [431])):
        lines = b"".join(b"x-%d: y\r\n" % n for n in range(many))
        assert statuses(ask(served, get + lines + b"connection: close\r\n\r\n")) == wanted
    for size, wanted in ((15_000, [200]), (25_000, [431]), (1_000_000, [431])):
        line = b"x: " + b"y" * size + b"\r\n"
        answer = ask(served, get + line + b"connection: close\r\n\r\n")
        assert statuses(answer) == wanted
        assert wanted == [200] or rule(answer) == "headers-limit"
    answer = ask(served, b"GET /fhir/Patient?name=" + b"a" * 100_000 + b" HTTP/1.1\r\n")
    assert statuses(answer) == [431]


@pytest.mark.drivers("sqlite")
def test_028_a_long_address_is_refused_where_the_head_may_be_longer(client) -> None:
    answer = client.get("/fhir/Patient?name=" + "a" * 61_000)
    assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (
        414, "address-limit",
    )  # fmt: skip
    assert client.get("/fhir/Patient?name=" + "a" * 50_000).status_code in (200, 400)


def test_028_a_huge_range_is_no_reason_for_parts(served: Served) -> None:
    ranges = b"range: bytes=" + b",".join(b"%d-" % n for n in range(2_000)) + b"\r\n"
    answer = ask(
        served, b"GET /fhir/metadata HTTP/1.1\r\n" + HOST + ranges + b"connection: close\r\n\r\n"
    )
    assert statuses(answer) == [200]
    assert b"multipart" not in answer


@pytest.mark.parametrize("method", [b"TRACE", b"CONNECT"])
def test_a_method_that_gives_back_or_leads_away_is_refused(served: Served, method: bytes) -> None:
    target = b"localhost:80" if method == b"CONNECT" else b"/fhir/metadata"
    secret = b"authorization: Bearer fgw_secret\r\n"
    head = method + b" " + target + b" HTTP/1.1\r\n" + HOST + secret
    answer = ask(served, head + b"connection: close\r\n\r\n")
    assert statuses(answer)[0] in (400, 405)
    assert b"fgw_secret" not in answer


def test_139_a_head_or_a_body_that_drips_is_ended_in_its_time(served: Served) -> None:
    slow = [connect(served) for _ in range(20)]
    heads = [b"GET /healthz?", b"POST /fhir/Patient HTTP/1.1\r\n" + HOST, b""]
    body = b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + FHIR + b"content-length: 5000\r\n\r\n{"
    for number, made in enumerate(slow):
        made.sendall([*heads, body][number % 4])
    assert alive(served)
    for _ in range(4):  # a byte now and then makes it no faster
        time.sleep(0.4)
        for number, made in enumerate(slow):
            try:
                if number % 4 != 2:
                    made.sendall(b"x")
            except OSError:
                continue
    answers = [rest_of(made) for made in slow]
    for made in slow:
        made.close()
    assert {tuple(statuses(answer)) for answer in answers} <= {(408,), ()}
    assert sum(statuses(answer) == [408] for answer in answers) >= len(slow) // 2
    assert "slow" in {rule(answer) for answer in answers if answer}
    assert alive(served)


def test_139_one_address_has_a_number_of_connections(served: Served) -> None:
    held = [connect(served) for _ in range(40)]
    try:
        answer = ask(served, b"")
        assert statuses(answer) == [503]
        assert b"retry-after: 1" in answer
        assert rule(answer) == "connections"
    finally:
        for made in held:
            made.close()
    patience = time.monotonic() + 10
    while not alive(served):
        assert time.monotonic() < patience
        time.sleep(0.05)


def test_010_a_body_over_the_limit_is_refused_before_it_came(served: Served) -> None:
    head = b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + FHIR
    answer = ask(served, head + b"content-length: 200001\r\n\r\n")
    assert (statuses(answer), rule(answer)) == ([413], "body-limit")
    chunks = b"".join(b"4000\r\n" + b" " * 0x4000 + b"\r\n" for _ in range(20))
    answer = ask(served, head + b"transfer-encoding: chunked\r\n\r\n" + chunks)
    assert 413 in statuses(answer) or answer == b""
    exact = b'{"resourceType":"Patient"}'
    exact += b" " * (200_000 - len(exact))
    answer = ask(
        served, head + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(exact) + exact
    )
    assert statuses(answer) == [201]


def test_011_parts_and_forms_are_no_way_in(served: Served) -> None:
    parts = b"".join(b"--x\r\ncontent-disposition: form-data; name=a\r\n\r\n1\r\n"
                     for _ in range(2_000)) + b"--x--\r\n"  # fmt: skip
    for path in (b"/fhir/Patient", b"/fhir/Patient/_search", b"/fhir"):
        head = b"POST " + path + b" HTTP/1.1\r\n" + HOST
        head += b"content-type: multipart/form-data; boundary=x\r\nconnection: close\r\n"
        answer = ask(served, head + b"content-length: %d\r\n\r\n" % len(parts) + parts)
        assert statuses(answer) == [415]


def test_012_a_bundle_has_a_number_of_entries(served: Served) -> None:
    entry = {
        "resource": {"resourceType": "Patient"},
        "request": {"method": "POST", "url": "Patient"},
    }
    for number, wanted in ((19, 200), (20, 200), (21, 413)):
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": [entry] * number}
        body = json.dumps(bundle).encode()
        head = b"POST /fhir HTTP/1.1\r\n" + HOST + FHIR + b"connection: close\r\n"
        answer = ask(served, head + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert statuses(answer) == [wanted]


def test_a_body_that_breaks_off_leaves_nothing(served: Served) -> None:
    whole = b'{"resourceType":"Patient","identifier":[{"system":"urn:x","value":"broken-off"}]}'
    head = b"POST /fhir/Patient HTTP/1.1\r\n" + HOST + FHIR
    for cut in range(1, len(whole), 9):
        with connect(served) as made:
            made.sendall(head + b"content-length: %d\r\n\r\n" % len(whole) + whole[:cut])
            made.shutdown(socket.SHUT_WR)
    search = b"GET /fhir/Patient?identifier=urn:x|broken-off&_summary=count HTTP/1.1\r\n"
    answer = ask(served, search + HOST + b"connection: close\r\n\r\n")
    assert b'"total":0' in answer


def test_pipelined_requests_are_answered_in_turn_and_not_without_end(served: Served) -> None:
    one = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
    last = b"GET /healthz HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"
    assert statuses(ask(served, one * 10 + last)) == [200] * 11
    answer = ask(served, one * 5_000 + last)
    assert len(statuses(answer)) < 5_000


@pytest.mark.skipif(not TORTURE, reason="minutes of random bytes")
@pytest.mark.torture
def test_028_random_requests_never_meet_a_fault(served: Served) -> None:
    import random

    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    pieces = [b"GET ", b"POST ", b"/fhir/Patient", b" HTTP/1.1\r\n", b"\r\n", b"\n", b": ", b"\x00",
              HOST, FHIR, b"content-length: 3\r\n", b"transfer-encoding: chunked\r\n", b"{}",
              b"0\r\n\r\n", b"x" * 5_000, SMUGGLED]  # fmt: skip
    for _ in range(3_000):
        data = b"".join(chance.choice(pieces) for _ in range(chance.randrange(1, 12)))
        with connect(served) as made:
            made.settimeout(3)
            made.sendall(data)
            made.shutdown(socket.SHUT_WR)
            assert all(status < 500 for status in statuses(rest_of(made)))
    assert alive(served)
