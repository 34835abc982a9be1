"""kill -9 in the middle of a storm of bookings by two processes on one store: what was acknowledged
is there, nothing is half, and who lives on goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest
from effort import TORTURE
from seat_client import CLIENTS, SLOTS, request, seat_slot
from seat_world import persons, schedule, settle
from store_builders import change

import fhir_gateway
from fhir_gateway.errors import GatewayError
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet
from fhir_gateway.store.claim_rows import QuotaRow
from fhir_gateway.store.seat_audit import audit

#: Storms of two processes each, both of which are killed.
STORMS = 50 if TORTURE else 1
_decode = msgspec.msgpack.Decoder(ChangeSet).decode


def begin(play):
    async def scenario(store):
        await store.commit(persons(CLIENTS))
        slots = [seat_slot(n) for n in range(SLOTS)]
        quotas = settle(QuotaRow("ordinary", SLOTS))
        await store.commit(change(schedule(), *slots, claims=[quotas]))

    play(scenario)


class Clients:
    """A process of clients with its ledger."""

    def __init__(self, database, ledger: Path, name: str, seed: int) -> None:
        package = Path(fhir_gateway.__file__).parent.parent
        self.ledger = ledger
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", Path(__file__).with_name("seat_client.py"),
             database.url(), str(ledger), name, str(seed)],
            env={**os.environ, "PYTHONPATH": str(package)},
        )  # fmt: skip

    def done(self) -> int:
        return self.ledger.read_bytes().count(b"\ndone") if self.ledger.exists() else 0

    def reach(self, count: int) -> None:
        """Waits until so many requests are done."""
        deadline = time.monotonic() + 40
        while self.done() < count:
            assert time.monotonic() < deadline and self.process.poll() is None
            time.sleep(0.005)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(30) == -signal.SIGKILL


def storm(database, folder: Path, number: int) -> list[Path]:
    """Two processes, which end without a chance to tidy up once they are at it: one in the middle
    of the other's work, which goes on. Returns what they have written down."""
    ledgers = [folder / f"{number}{letter}.ledger" for letter in "ab"]
    both = [Clients(database, one, f"n{one.stem}", 2 * number + n)
            for n, one in enumerate(ledgers)]  # fmt: skip
    try:
        for one in both:
            one.reach(20 + 7 * (number % 20))
        both[number % 2].kill()
        other = both[1 - number % 2]
        other.reach(other.done() + 20)
        other.kill()
    finally:
        for one in both:
            if one.process.poll() is None:
                one.kill()
    return ledgers


def told(
    ledgers: list[Path],
) -> tuple[dict[tuple[str, str], ChangeSet], dict[tuple[str, str], str]]:
    """What was asked, and what was answered, by (kind, appointment)."""
    asked, answers = {}, {}
    for line in "".join(one.read_text() for one in ledgers).splitlines():
        what, kind, name, *more = line.split()
        if what == "ask":
            asked[kind, name] = _decode(bytes.fromhex(more[0]))
        else:
            answers[kind, name] = what
    return asked, answers


def check(play, ledgers: list[Path]) -> set[str]:
    """Asserts that all agrees, and that what was answered is so; sends the rest again. Returns
    what is booked then."""
    asked, answers = told(ledgers)

    async def scenario(store):
        async def state(name):
            async with store.snapshot(SYSTEM_ACCESS) as reader:
                found = await reader.read("Appointment", name)
                faults = await reader.steps(lambda _: audit())
            assert faults == []
            return found is not None

        for kind, name in asked.keys() - answers.keys():
            try:
                await store.commit(asked[kind, name])
                answers[kind, name] = "done"
            except GatewayError:
                answers[kind, name] = "refused"
            await state(name)
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            for (kind, name), answer in answers.items():
                if kind == "book":
                    found = await reader.read("Appointment", name)
                    assert (found is not None) == (answer == "done"), name
        return {name for (kind, name), answer in answers.items() if answer == "done"
                and kind == "book" and answers.get(("cancel", name)) != "done"}  # fmt: skip

    return play(scenario)


async def cancel(store, names):
    for name in names:
        await store.commit(request("cancel", name, int(name.split("-")[-1]), 0))


@pytest.mark.parametrize("storms", [STORMS])
def test_fault_94_a_kill_in_a_storm_of_bookings_loses_none_and_doubles_none(
    play, database, rows, tmp_path, storms
):
    begin(play)
    for number in range(storms):
        ledgers = storm(database, tmp_path, number)
        _, answers = told(ledgers)
        live = check(play, ledgers)
        booked = {id for (id,) in rows("SELECT id FROM booking WHERE state = 'booked'")}
        assert booked == live
        assert rows("SELECT count(*) FROM seat") == [(len(live),)]
        assert len(answers) >= 60
        play(partial(cancel, names=live))
