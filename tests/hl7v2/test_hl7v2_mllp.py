"""The MLLP door on real sockets: order, acknowledgements, modes, limits, TLS, a clean end."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from certificates import authority, certified
from running import Running

from fhir_gateway.errors import Unavailable
from fhir_gateway.hl7v2.mllp import Limits, Mllp
from fhir_gateway.hl7v2.mllp_client import MllpClient
from fhir_gateway.hl7v2.mllp_frames import framed
from fhir_gateway.security.mllp_senders import read_senders

HERE = "[[sender]]\ninstitution = 's2'\nnetworks = ['127.0.0.0/8']"
MESSAGE = (
    "MSH|^~\\&|LIS|s2|GW|CITY|20261118113100||ORU^R01^ORU_R01|{id}|P|2.5.1|||{modes}||"
    "UNICODE UTF-8\r"
    "PID|1||700123^^^s2^PI||张示一||19580312|M\r"
    "OBR|1|O{id}|R{id}|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F\r"
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|9--50||||F\r"
)


def message(id: str, modes: str = "|") -> bytes:
    return MESSAGE.replace("{id}", id).replace("{modes}", modes).encode()


def code(answer: bytes) -> str:
    return answer.split(b"\r")[1].split(b"|")[1].decode()


async def ended(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What else comes before the other side closes."""
    rest = await reader.read()
    writer.close()
    return rest


def with_door(
    running: Running,
    work: Callable[[int], Awaitable[Any]],
    *,
    senders: str = HERE,
    limits: Limits | None = None,
    tls: ssl.SSLContext | None = None,
) -> Any:
    """What the work returns that is given the port of an open door."""

    async def run() -> Any:
        door = Mllp(running.gateway, read_senders(senders), limits=limits)
        port = await door.begin("127.0.0.1", 0, tls)
        try:
            return await asyncio.wait_for(work(port), 30)
        finally:
            await door.end(5)

    return running.run(run())


@pytest.fixture(scope="module")
def sending(shared_database: Any) -> Any:
    """A gateway that knows an institution, shared by the tests of this module."""
    running = shared_database.running("mllp")
    running.institution("s2")
    yield running
    running.close()


def test_messages_of_a_connection_are_answered_in_order(sending: Running) -> None:
    async def work(port: int) -> list[bytes]:
        async with MllpClient("127.0.0.1", port) as client:
            return [(await client.send(message(f"a{n}")))[0] for n in range(3)]

    answers = with_door(sending, work)
    assert [answer.split(b"\r")[1] for answer in answers] == [
        b"MSA|AA|a0", b"MSA|AA|a1", b"MSA|AA|a2"]  # fmt: skip


def test_messages_sent_at_once_are_answered_in_order(sending: Running) -> None:
    async def work(port: int) -> list[bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        wire = b"".join(framed(message(f"b{n}")) for n in range(4))
        for at in range(0, len(wire), 100):  # in pieces that cut everything
            writer.write(wire[at : at + 100])
            await writer.drain()
        answers = [await reader.readuntil(b"\x1c\r") for _ in range(4)]
        writer.close()
        return answers

    answers = with_door(sending, work)
    assert [answer.split(b"\r")[1] for answer in answers] == [
        f"MSA|AA|b{n}".encode() for n in range(4)]  # fmt: skip


def test_one_message_over_many_connections_is_stored_once(sending: Running) -> None:
    async def one(port: int) -> bytes:
        async with MllpClient("127.0.0.1", port) as client:
            return (await client.send(message("c1")))[0]

    async def work(port: int) -> list[bytes]:
        return await asyncio.gather(*(one(port) for _ in range(8)))

    answers = with_door(sending, work)
    assert len(set(answers)) == 1, "the same answer, to the byte"
    assert code(answers[0]) == "AA"


@pytest.mark.parametrize(("modes", "good", "bad"), [
    ("|", ["AA"], ["AE"]),
    ("AL|NE", ["CA"], ["CE"]),
    ("AL|AL", ["CA", "AA"], ["CE", "AE"]),
    ("NE|AL", ["AA"], ["AE"]),
    ("|ER", [], ["AE"]),
    ("SU|AL", ["CA", "AA"], ["AE"]),
    ("NE|NE", [], []),
])  # fmt: skip
def test_acknowledgements_come_as_they_were_asked_for(
    sending: Running, modes: str, good: list[str], bad: list[str]
) -> None:
    name = modes.replace("|", "-")
    fine, wrong = message(f"d{name}", modes), message(f"e{name}", modes)
    wrong = wrong.replace(b"\rPID|", b"\rZID|")

    async def work(port: int) -> tuple[list[bytes], list[bytes]]:
        async with MllpClient("127.0.0.1", port) as client:
            first = await client.send(fine, answers=len(good))
            second = await client.send(wrong, answers=len(bad))
            last = await client.send(message("d-last"))  # nothing else came in between
            assert [code(answer) for answer in last] == ["AA"]
            return first, second

    first, second = with_door(sending, work)
    assert [code(answer) for answer in first] == good
    assert [code(answer) for answer in second] == bad
    ids = [answer.split(b"|")[9] for answer in first]
    assert len(set(ids)) == len(ids), "each answer is a message of its own"


def test_what_is_no_message_is_answered_and_the_connection_goes_on(sending: Running) -> None:
    async def work(port: int) -> list[str]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"noise\x0bhello\x1c\r" + b"\x0bMSH|^~\\&|LIS|s2|||2026||ORU^R01|f1|P|2.5.1\rPID|"
            + framed(message("f2"))
        )  # fmt: skip
        answers = [await reader.readuntil(b"\x1c\r") for _ in range(3)]
        writer.close()
        return [code(answer) for answer in answers]

    assert with_door(sending, work) == ["AR", "AR", "AA"]


def test_a_message_over_the_limit_is_answered_and_the_connection_closed(start: Any) -> None:
    running = start(body_limit=2_000)
    running.institution("s2")

    async def work(port: int) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(framed(message("g1") + b"NTE|1||" + b"x" * 5_000))
        return await reader.readuntil(b"\x1c\r"), await ended(reader, writer)

    answer, rest = with_door(running, work)
    assert answer.split(b"\r")[1].startswith(b"MSA|AR|g1|")
    assert rest == b""


def test_nobody_knows_the_sender(sending: Running) -> None:
    async def work(port: int) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(framed(message("h1")) + framed(message("h2")))
        return await reader.readuntil(b"\x1c\r"), await ended(reader, writer)

    senders = HERE.replace("127.0.0.0/8", "10.0.0.0/8")
    answer, rest = with_door(sending, work, senders=senders)
    assert answer.split(b"\r")[1].startswith(b"MSA|AR|h1|")
    assert b"FHIR_GATEWAY_MLLP_SENDERS" in answer
    assert rest == b"", "closed after the first"


def test_a_connection_too_many_is_told_to_come_again(sending: Running) -> None:
    async def work(port: int) -> list[str]:
        async with MllpClient("127.0.0.1", port) as first:
            await first.send(message("i1"))
            async with MllpClient("127.0.0.1", port) as second:
                refused = await second.send(message("i2"))
            kept = await first.send(message("i3"))
        async with MllpClient("127.0.0.1", port) as third:
            return [code(a) for a in [*refused, *kept, *await third.send(message("i2"))]]

    assert with_door(sending, work, limits=Limits(per_address=1)) == ["AR", "AA", "AA"]


def test_silence_and_half_a_message_end_a_connection(sending: Running) -> None:
    async def work(port: int) -> list[bytes]:
        found = []
        for begun in (b"", b"\x0bMSH|^~"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(begun)
            found.append(await ended(reader, writer))
        return found

    assert with_door(sending, work, limits=Limits(idle=0.05, frame=0.05)) == [b"", b""]


def test_the_end_answers_what_is_under_way(sending: Running) -> None:
    async def run() -> bytes:
        door = Mllp(sending.gateway, read_senders(HERE))
        port = await door.begin("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(framed(message("j1")))
        while not door.at_work:  # noqa: ASYNC110 - the door has no event for tests
            await asyncio.sleep(0.001)
        await door.end(10)
        answer = await reader.readuntil(b"\x1c\r")
        writer.close()
        return answer

    assert code(sending.run(run())) == "AA"


def test_a_certificate_says_who_sends(sending: Running, tmp_path: Path) -> None:
    root = authority()
    server, known, other = (certified(root, tmp_path, name) for name in ("server", "s2", "other"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(server.chain, server.key)
    tls.load_verify_locations(root.write(tmp_path))
    tls.verify_mode = ssl.CERT_REQUIRED
    senders = f"[[sender]]\ninstitution = 's2'\ncertificates = ['{known.fingerprint}']"

    async def one(port: int, name: Any) -> str:
        context = ssl.create_default_context(cafile=root.write(tmp_path))
        if name is not None:
            context.load_cert_chain(name.chain, name.key)
        async with MllpClient("127.0.0.1", port, tls=context, seconds=5) as client:
            return code((await client.send(message("k1")))[0])

    async def work(port: int) -> list[str]:
        found = [await one(port, known), await one(port, other)]
        with pytest.raises(Unavailable):
            await one(port, None)
        return found

    assert with_door(sending, work, senders=senders, tls=tls) == ["AA", "AR"]
