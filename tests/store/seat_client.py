"""A process of many clients that book, cancel and rebook, and keep a ledger, until it is killed.

seat_client.py DATABASE LEDGER NAME SEED

Each line of the ledger is written with one system call before (`ask`) or after (`done`, `refused`)
a commit: whoever reads it knows what was acknowledged when the process died, and can send again
what was not, also what nobody could answer because another process died.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from typing import Any

import msgspec
from seat_world import BUCKET, DAY, HOUR, NOW, appointment, slot
from store_builders import TestClock, change, rows_of

from fhir_gateway.errors import GatewayError, Unavailable
from fhir_gateway.store.changes import ChangeSet, Put
from fhir_gateway.store.claim_rows import Give, Take
from fhir_gateway.store.opening import open_store

#: Slots, clients, and bookings that a client keeps.
SLOTS, CLIENTS, KEPT = 72, 12, 2


def seat_slot(place: int, *, busy: bool = False) -> Put:
    """A Slot of one seat, at an hour of its own."""
    return slot(f"k{place}", NOW + DAY + place * HOUR, bucket=BUCKET, busy=busy)


def request(kind: str, name: str, place: int, person: int) -> ChangeSet:
    """A booking of a Slot of one seat, or the cancelling of one."""
    if kind == "cancel":
        claims: list[Any] = [Give(f"Appointment/{name}")]
        return change(seat_slot(place), claims=claims)
    claims = [Take(f"Slot/k{place}", f"Appointment/{name}", f"p{person}", "ordinary")]
    return change(appointment(name, f"p{person}"), seat_slot(place, busy=True), claims=claims)


async def send(store: Any, ledger: int, kind: str, name: str, change_set: ChangeSet) -> bool:
    """Asks, and writes down what was answered; True when it was done."""
    packed = msgspec.msgpack.encode(change_set).hex()
    os.write(ledger, f"ask {kind} {name} {packed}\n".encode())
    try:
        await store.commit(change_set)
    except Unavailable:
        return False
    except GatewayError:
        os.write(ledger, f"refused {kind} {name}\n".encode())
        return False
    os.write(ledger, f"done {kind} {name}\n".encode())
    return True


async def client(store: Any, ledger: int, name: str, number: int, chance: random.Random) -> None:
    turn, kept = 0, list[tuple[str, int]]()
    while True:
        turn += 1
        place = chance.randrange(SLOTS)
        one = f"{name}-{number}-{turn}-{place}"
        if await send(store, ledger, "book", one, request("book", one, place, number)):
            kept.append((one, place))
        if len(kept) > KEPT:
            old, place = kept.pop(0)
            await send(store, ledger, "cancel", old, request("cancel", old, place, number))


async def main(database: str, path: str, name: str, seed: int) -> None:
    ledger = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = await open_store(database, clock=TestClock(), random=os.urandom, rows=rows_of)
    chance = random.Random(seed)
    await asyncio.gather(*(client(store, ledger, name, n, chance) for n in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4])))
