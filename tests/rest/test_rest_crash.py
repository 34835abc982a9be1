"""kill -9 of the served process under load: what was acknowledged is there, whole, once, and
audited; what was not is there whole or not at all (faults.md, I1 to I3)."""

from __future__ import annotations

import random
import threading
import time
from uuid import uuid4

import apsw
import httpx
import pytest
from rest_samples import SYSTEM, bundle, entry, observation, patient
from rest_server import Served

CLIENTS = 6
FHIR = {"content-type": "application/fhir+json"}


class Ledger:
    """What the clients know: keys whose transaction was acknowledged, and all that were sent."""

    def __init__(self) -> None:
        self.sent: set[str] = set()
        self.acknowledged: dict[str, list[str]] = {}

    def body(self, key):
        urn = f"urn:uuid:{uuid4()}"
        return bundle(
            "transaction",
            {"fullUrl": urn, **entry("POST", "Patient", patient(
                identifier=[{"system": SYSTEM, "value": key}]),
                ifNoneExist=f"identifier={SYSTEM}|{key}")},
            entry("POST", "Observation", observation(urn)),
            entry("POST", "Observation", observation(urn)),
        )  # fmt: skip

    def work(self, base, stop):
        with httpx.Client(timeout=20) as http:
            while not stop.is_set():
                key = uuid4().hex
                self.sent.add(key)
                try:
                    answer = http.post(base, json=self.body(key), headers=FHIR)
                except httpx.TransportError:
                    return
                assert answer.status_code == 200, answer.text
                self.acknowledged[key] = [
                    one["response"]["location"] for one in answer.json()["entry"]
                ]


def _check(ledger, served, database):
    with httpx.Client(base_url=served.fhir, timeout=20) as http:
        for locations in ledger.acknowledged.values():
            for place in locations:
                assert http.get(f"/{place}").status_code == 200, place
        for key in ledger.sent:
            found = http.get("/Patient", params={"identifier": f"{SYSTEM}|{key}"}).json()
            people = found.get("entry", [])
            assert len(people) == 1 if key in ledger.acknowledged else len(people) <= 1
            for person in people:
                id = person["resource"]["id"]
                results = http.get("/Observation", params={"patient": id}).json()
                assert len(results["entry"]) == 2
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        assert connection.execute("PRAGMA quick_check").get == "ok"
        audited = connection.execute("SELECT count(*) FROM journal").get
    finally:
        connection.close()
    assert audited >= len(ledger.acknowledged)


def _wait_for(ledger, acknowledged):
    deadline = time.monotonic() + 20
    while len(ledger.acknowledged) < acknowledged and time.monotonic() < deadline:
        time.sleep(0.002)


def _crash_often(tmp_path, kills, seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    database = tmp_path / "g.sqlite"
    acknowledged = 0
    for _ in range(kills):
        ledger, stop = Ledger(), threading.Event()
        served = Served(database)
        threads = [
            threading.Thread(target=ledger.work, args=(served.fhir, stop)) for _ in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        _wait_for(ledger, chance.randrange(1, 60))
        time.sleep(chance.uniform(0, 0.02))
        served.kill()
        stop.set()
        for thread in threads:
            thread.join()
        served = Served(database)
        try:
            _check(ledger, served, database)
        finally:
            assert served.stop() == 0
        acknowledged += len(ledger.acknowledged)
    assert acknowledged > 0
    print(f"{acknowledged} acknowledged, none lost")


def test_kill_during_transactions_loses_nothing_acknowledged(tmp_path):
    _crash_often(tmp_path, kills=2, seed=20261121)


@pytest.mark.torture
def test_kill_during_transactions_many_times(tmp_path):
    _crash_often(tmp_path, kills=100, seed=random.SystemRandom().randrange(1 << 32))
