"""kill -9 in the middle of a storm of bookings: what was acknowledged is there, nothing is half."""

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

KILLS = 100 if TORTURE else 2
_decode = msgspec.msgpack.Decoder(ChangeSet).decode


def begin(play):
    async def scenario(store):
        await store.commit(persons(CLIENTS))
        slots = [seat_slot(n) for n in range(SLOTS)]
        quotas = settle(QuotaRow("ordinary", SLOTS))
        await store.commit(change(schedule(), *slots, claims=[quotas]))

    play(scenario)


def storm(database, ledger: Path, number: int) -> None:
    """Starts clients, and ends them without a chance to tidy up once they are at it."""
    package = Path(fhir_gateway.__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-W", "error", Path(__file__).with_name("seat_client.py"),
         database.url(), str(ledger), f"n{number}", str(number)],
        env={**os.environ, "PYTHONPATH": str(package)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while not ledger.exists() or ledger.read_bytes().count(b"done") < 40 + 7 * number:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        ended = process.wait(30)
    assert ended == -signal.SIGKILL


def told(ledger: Path) -> tuple[dict[tuple[str, str], ChangeSet], dict[tuple[str, str], str]]:
    """What was asked, and what was answered, by (kind, appointment)."""
    asked, answers = {}, {}
    for line in ledger.read_text().splitlines():
        what, kind, name, *more = line.split()
        if what == "ask":
            asked[kind, name] = _decode(bytes.fromhex(more[0]))
        else:
            answers[kind, name] = what
    return asked, answers


def check(play, ledger: Path) -> set[str]:
    """Asserts that all agrees, and that what was answered is so; sends the rest again. Returns
    what is booked then."""
    asked, answers = told(ledger)

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


@pytest.mark.parametrize("kills", [KILLS])
def test_fault_94_a_kill_in_a_storm_of_bookings_loses_none_and_doubles_none(
    play, database, rows, tmp_path, kills
):
    begin(play)
    live: set[str] = set()
    for number in range(kills):
        ledger = tmp_path / f"{number}.ledger"
        storm(database, ledger, number)
        _, answers = told(ledger)
        live |= check(play, ledger)
        booked = {id for (id,) in rows("SELECT id FROM booking WHERE state = 'booked'")}
        assert booked == live
        assert rows("SELECT count(*) FROM seat") == [(len(live),)]
        assert len(answers) >= 40
        play(partial(cancel, names=live))
        live = set()
