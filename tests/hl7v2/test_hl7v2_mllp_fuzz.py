"""Whatever bytes a connection brings: every frame has an answer or the connection is closed, and
the door goes on answering others. Some hundred frames in CI, tens of thousands in torture."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from effort import examples
from mutations import mutants, seeds
from running import Running

from fhir_gateway.hl7v2.mllp import Limits, Mllp
from fhir_gateway.hl7v2.mllp_frames import Frame, Frames, framed
from fhir_gateway.security.mllp_senders import read_senders

SENDERS = "[[sender]]\ninstitution = 's2'\nnetworks = ['127.0.0.0/8']"
GOOD = (
    "MSH|^~\\&|LIS|s2|GW|CITY|20261118113100||ORU^R01^ORU_R01|good{n}|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||799999^^^s2^PI||张示九||19580312|M\r"
    "OBR|1|OG{n}|RG{n}|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F\r"
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|9--50||||F\r"
)


@pytest.fixture(scope="module")
def sending(shared_database: Any) -> Any:
    running = shared_database.running("mllp-fuzz")
    running.institution("s2")
    yield running
    running.close()


def frame_of(chance: random.Random, raw: bytes) -> bytes:
    """A frame as broken senders make them: whole, cut off, with noise around."""
    noise = bytes(chance.choice(b"\r\n \x00abc|\x1c") for _ in range(chance.randrange(4)))
    match chance.randrange(8):
        case 0:
            return noise + b"\x0b" + raw[: chance.randrange(len(raw) + 1)]
        case 1:
            return noise + b"\x0b" + raw + b"\x1c"
        case 2:
            return raw  # no frame at all
        case _:
            return noise + framed(raw)


async def one_connection(port: int, wire: bytes, chance: random.Random) -> tuple[list[Frame], bool]:
    """The answers to a wire that is sent in random pieces, and whether the door closed first."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    at = 0
    try:
        while at < len(wire):
            size = chance.choice((1, 7, 100, 5_000))
            writer.write(wire[at : at + size])
            await writer.drain()
            at += size
        writer.write_eof()
        answers = await asyncio.wait_for(reader.read(-1), 20)
    except ConnectionError:
        return [], True
    finally:
        writer.close()
    return Frames(1_000_000).feed(answers), False


def test_every_frame_is_answered_or_the_connection_closed(sending: Running) -> None:
    chance, goldens = random.Random(20261122), seeds(1_000)

    async def run() -> tuple[int, int]:
        door = Mllp(sending.gateway, read_senders(SENDERS), limits=Limits(frame=5.0))
        port = await door.begin("127.0.0.1", 0)
        answered = closed = 0
        try:
            for n in range(examples(25)):
                raws = [raw.replace(b"|S2|", b"|s2|", 1) for raw in mutants(n, 8, goldens)]
                wire = b"".join(frame_of(chance, raw) for raw in raws)
                expected = Frames(10_000_000).feed(wire)
                answers, is_closed = await one_connection(port, wire, chance)
                answered += len(answers)
                closed += is_closed
                if not is_closed:
                    assert len(answers) >= len([one for one in expected if not _asks(one)])
                assert all(b"\rMSA" in one.message for one in answers)
                good = framed(GOOD.replace("{n}", str(n)).encode())
                (answer,), _ = await one_connection(port, good, chance)
                assert b"MSA|AA|good" in answer.message, "the door answers others"
        finally:
            await door.end(5)
        return answered, closed

    answered, _ = sending.run(run())
    assert answered > 50


def _asks(frame: Frame) -> bool:
    """Whether a message names a mode of acknowledgement: then it may be answered twice or never."""
    fields = frame.message.split(b"\n")[0].split(b"\r")[0].split(frame.message[3:4] or b"|")
    return any(fields[14:16])
