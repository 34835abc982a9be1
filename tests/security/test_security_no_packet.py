"""No packet leaves for an address that nobody listed, however it is spelled (faults.md 116, 117).

Every connection of this process is heard by an audit hook of the interpreter: what is asserted is
that nothing connected, not that something raised.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from effort import TORTURE

from fhir_gateway.errors import Forbidden, Invalid, Unavailable
from fhir_gateway.interactions.outbound import Outbound
from fhir_gateway.security.outbound import read_policy

_HEARD: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _HEARD and event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        _HEARD[-1].append(f"{event} {arguments[1:]}")


sys.addaudithook(_hear)


@contextmanager
def heard() -> Iterator[list[str]]:
    """What connects, resolves or sends while it is open."""
    _HEARD.append([])
    try:
        yield _HEARD[-1]
    finally:
        _HEARD.pop()


INNER = (
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "017700000001", "0x7f000001",
    "0x7f.0.0.1", "0177.0.0.1", "127.0.0.1.", "127.000.000.001", "[::1]", "[::]",
    "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[fe80::1]",
    "[fe80::1%25lo]", "[fd00:ec2::254]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
    "169.254.169.254", "2852039166", "0251.0376.0251.0376", "0xa9fea9fe", "169.254.43518",
    "[::ffff:a9fe:a9fe]", "10.0.0.1", "192.168.0.1", "172.16.0.1", "100.64.0.1", "localhost",
    "LOCALHOST", "localhost.", "lOcAlHoSt", "localhost.localdomain", "metadata.google.internal",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "１２７.0.0.1", "127.0.0.1%00", "%31%32%37.0.0.1",
    "his.example%00.evil.example", "evil.example", "his.example.", "his.example.evil.example",
    "evilhis.example", "his-example", "HIS.EXAMPLE.evil.example", "xn--his-.example",
    "his.examp1e", "h\u0131s.example", "his\u3002example", "", ".", "-", "_",
)  # fmt: skip
SCHEMES = (
    "https", "http", "HTTPS", "hTTp", "ftp", "file", "gopher", "dict", "ldap", "jar", "data",
    "javascript", "ws", "https:", "", "https\t", " https", "\thttp", "http\n",
)  # fmt: skip
BEFORE = (
    "", "", "", "user@", "user:pass@", "his.example@", "his.example:443@", "https://his.example@",
    "his.example%40", "his.example\\@", "his.example#@", "his.example?@", "\t", "@",
)  # fmt: skip
AFTER = (
    "", "", "/", "/latest/meta-data/", ":80", ":443", ":8080/", ":0", ":65536", ":99999999",
    ":-1", ":4 43", "?x=https://his.example", "#@his.example", "#", "\\@his.example/",
    "/..//his.example", ";@his.example", "%2f@his.example", "\r\nhost: his.example", "/\x00",
    " /", "/\u2028",
)  # fmt: skip
SLASHES = ("://", "://", "://", ":/", ":", ":///", ":\\\\", "//", ":/\\/", ":////", ":\t//")


def mutations(number: int, seed: int) -> Iterator[str]:
    """Addresses that are not https://his.example, in the spellings of the trade."""
    chance = random.Random(seed)
    for _ in range(number):
        url = "".join(chance.choice(part) for part in (SCHEMES, SLASHES, BEFORE, INNER, AFTER))
        if chance.random() < 0.2:
            at = chance.randrange(len(url) + 1)
            url = url[:at] + chance.choice("\x00\t\r\n /\\@#?%:.\u200b\uff0e\u2024[]") + url[at:]
        yield url


POLICY = read_policy("https://his.example", "")


@pytest.mark.parametrize("seed", range(8))
def test_116_no_spelling_of_an_inner_address_is_called(seed: int) -> None:
    """Also when the name of the listed server leads inside (DNS rebinding)."""
    asked: list[str] = []

    async def inside(host: str, port: int) -> list[str]:
        asked.append(host)
        return [
            random.Random(len(asked)).choice(["127.0.0.1", "::1", "169.254.169.254", "10.1.1.1"])
        ]

    async def call(number: int) -> None:
        async with Outbound(POLICY, resolver=inside) as outbound:
            for url in [
                *mutations(number, seed),
                "https://his.example/",
                "https://HIS.example:443/x",
            ]:
                with pytest.raises((Forbidden, Invalid)):
                    await outbound.fetch(url, most_bytes=1, seconds=1)

    with heard() as connections:
        asyncio.run(call(1_250 if TORTURE else 125))
    assert [one for one in connections if "socketpair" not in one] == []
    assert set(asked) <= {"his.example"}


def test_116_a_name_that_changes_its_address_is_not_resolved_again() -> None:
    """Where it is connected to is the address that was judged, for as long as it is used."""
    answers = iter([["127.0.0.2"], ["127.0.0.3"], ["127.0.0.3"]])

    async def changing(host: str, port: int) -> list[str]:
        return next(answers)

    async def call() -> None:
        policy = read_policy("https://his.example:1", "127.0.0.2/32")
        async with Outbound(policy, resolver=changing) as outbound:
            for _ in range(3):
                with pytest.raises(Unavailable):
                    await outbound.fetch("https://his.example:1/", most_bytes=1, seconds=5)

    with heard() as connections:
        asyncio.run(call())
    assert connections
    assert all("127.0.0.2" in one for one in connections)


@pytest.mark.drivers("sqlite")
def test_117_no_address_in_what_is_sent_is_called(start) -> None:
    """Of hooks, Endpoints, Subscriptions, references, attachments, profiles, key sets."""
    server = start(open_access=True, outbound_origins="https://his.example")
    bad = [f"http://127.0.0.1:9/{n}" for n in range(2)] + list(mutations(12, 7))
    hook = next(
        one["id"] for one in server.get("/cds-services").json()["services"]
        if one["hook"] == "patient-view"
    )  # fmt: skip
    with heard() as connections:
        for url in bad:
            for body in sent(url):
                answer = server.post(f"/fhir/{body['resourceType']}", body)
                assert answer.status_code < 500
                server.post(f"/fhir/{body['resourceType']}/$validate", body)
            server.get("/fhir/Observation", params={"subject": url, "_profile": url})
            server.get("/fhir/ValueSet/$expand", params={"url": url})
            server.get("/fhir/CodeSystem/$lookup", params={"system": url, "code": "x"})
            call = {"hook": "patient-view", "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
                    "fhirServer": url, "fhirAuthorization": {"access_token": "t"},
                    "context": {"userId": "Practitioner/1", "patientId": "p"}}  # fmt: skip
            for headers in ({}, {"authorization": f"Bearer {_token(url)}"}):
                answer = server.request("POST", f"/cds-services/{hook}", json=call, headers={
                    "content-type": "application/json", **headers})  # fmt: skip
                assert answer.status_code < 500
    assert connections == []


def sent(url: str) -> list[dict[str, Any]]:
    """Resources that hold an address where somebody could follow it."""
    attached = {"contentType": "text/html", "url": url}
    return [
        {"resourceType": "Endpoint", "status": "active", "address": url,
         "payloadType": [{"text": "x"}], "connectionType": {"code": "dicom-wado-rs"}},
        {"resourceType": "Subscription", "status": "requested", "reason": "x",
         "criteria": "Patient?", "channel": {"type": "rest-hook", "endpoint": url}},
        {"resourceType": "Patient", "photo": [attached], "meta": {"profile": [url]},
         "implicitRules": url, "generalPractitioner": [{"reference": url}]},
        {"resourceType": "DocumentReference", "status": "current",
         "content": [{"attachment": attached}]},
        {"resourceType": "StructureDefinition", "url": url, "name": "X", "status": "draft",
         "kind": "resource", "abstract": False, "type": "Patient", "baseDefinition": url},
    ]  # fmt: skip


def _token(url: str) -> str:
    """A token whose head and issuer lead elsewhere; its signature is nobody's."""
    import json
    from base64 import urlsafe_b64encode

    parts = (
        {"alg": "RS384", "jku": url, "x5u": url, "kid": url},
        {"iss": url, "aud": url, "exp": 1},
    )
    packed = [urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=") for one in parts]
    return ".".join([*packed, "AAAA"])


def test_the_hook_hears_a_connection() -> None:
    """Else the tests above say nothing."""

    async def connect() -> None:
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", 1)

    with heard() as connections:
        asyncio.run(connect())
    assert any("127.0.0.1" in one for one in connections)
