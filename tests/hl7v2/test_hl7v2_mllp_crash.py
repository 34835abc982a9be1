"""kill -9 under MLLP load: no acknowledged message is lost, none is stored twice, and what is sent
again gets the bytes it got before (faults.md I1 to I3, 93, 94)."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from running import Running

from fhir_gateway.errors import Unavailable
from fhir_gateway.fhir.keys import type_key
from fhir_gateway.hl7v2.mllp_client import MllpClient

CLIENTS = 4
SENDERS = "[[sender]]\ninstitution = 's2'\nnetworks = ['127.0.0.0/8']"
MESSAGE = (
    "MSH|^~\\&|LIS|s2|GW|CITY|20261118113100||ORU^R01^ORU_R01|{id}|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||{id}^^^s2^PI||张示一||19580312|M\r"
    "OBR|1|O{id}|R{id}|SHQT^生化全套^L|||202611180812|||||||||||||||202611181130||CH|F\r"
    "OBX|1|NM|ALT^丙氨酸氨基转移酶^L||32|U/L|9--50||||F\r"
)


class Served:
    """A process of `fhir-gateway mllp`."""

    def __init__(self, database: Path) -> None:
        senders = database.with_name("senders.toml")
        senders.write_text(SENDERS, encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fhir_gateway", "mllp", "--port", "0",
             "--database", f"sqlite:///{database}", "--senders", str(senders)],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port: int = json.loads(self.process.stdout.readline())["port"]

    def end(self, number: signal.Signals) -> int:
        os.killpg(self.process.pid, number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Ledger:
    """What the clients know: messages that were sent, and the answers that came."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.answers: dict[str, bytes] = {}

    async def send(self, port: int, ids: list[str]) -> None:
        """Sends these over one connection until it breaks."""
        try:
            async with MllpClient("127.0.0.1", port) as client:
                for id in ids:
                    self.sent.append(id)
                    answer = (await client.send(MESSAGE.replace("{id}", id).encode()))[0]
                    earlier = self.answers.setdefault(id, answer)
                    assert earlier == answer, "sent again, another answer"
                    assert b"MSA|AA|" in answer
        except Unavailable:
            return


async def _load(ledger: Ledger, served: Served, begun: int, until: int, pause: float) -> None:
    """All clients send until so many more are acknowledged; a moment later comes the kill."""
    begin = len(ledger.answers)
    work = asyncio.gather(*(
        ledger.send(served.port, [f"m{begun}-{client}-{n}" for n in range(200)])
        for client in range(CLIENTS)
    ))  # fmt: skip
    while len(ledger.answers) - begin < until and not work.done():  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.002)
    await asyncio.sleep(pause)
    served.end(signal.SIGKILL)
    await work


def _crash_often(tmp_path: Path, kills: int, seed: int) -> None:
    print(f"seed {seed}")
    chance = random.Random(seed)
    database = tmp_path / "g.sqlite"
    running = Running(database)
    running.institution("s2")
    running.close()
    ledger = Ledger()
    for begun in range(kills):
        until, pause = chance.randrange(2, 40), chance.uniform(0, 0.02)
        asyncio.run(_load(ledger, Served(database), begun, until, pause))
    served = Served(database)
    before = len(ledger.answers)
    asyncio.run(ledger.send(served.port, list(dict.fromkeys(ledger.sent))))
    assert served.end(signal.SIGTERM) == 0
    assert before > 0
    assert set(ledger.answers) == set(ledger.sent)
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        stored = dict(connection.execute("SELECT type, count(*) FROM resource GROUP BY type"))
    finally:
        connection.close()
    for type in ("Patient", "DiagnosticReport", "Observation"):
        assert stored[type_key(type)] == len(ledger.answers), type
    print(f"{before} acknowledged before the kills, none lost")


def test_kill_under_mllp_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    _crash_often(tmp_path, kills=2, seed=20261122)


@pytest.mark.torture
def test_kill_under_mllp_load_many_times(tmp_path: Path) -> None:
    _crash_often(tmp_path, kills=100, seed=random.SystemRandom().randrange(1 << 32))
