"""A process that commits and keeps a ledger, and may kill itself at a named point of the store.

crash_client.py DATABASE LEDGER NAME ROUNDS CLIENTS [POINT COUNT]

Each line of the ledger is written with one system call before (`invoke`) or after (`ok`,
`refused`) a commit, so that whoever reads it knows what was acknowledged when the process died.
A change set is one Observation, one journal entry and one unit of a counter; every fifth repeats
a business key and has to be refused.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from store_builders import TestClock, body, change, event, rows_of

from fhir_gateway.errors import GatewayError
from fhir_gateway.store import points
from fhir_gateway.store.changes import ChangeSet, Counter, Derived, Put, Unique
from fhir_gateway.store.opening import open_store

COUNTER = b"stored"


def request(name: str, *, id: bytes, refused: bool) -> ChangeSet:
    """The change set of that name; sent with the same id it is the same request."""
    key = b"the same" if refused else name.encode()
    put = Put("Observation", name, "create", 0, body(name), derived=Derived(ints=[(1, 2, 3)]))
    made = change(
        put,
        guards=[Unique("key", key), Counter(COUNTER, 1, 1 << 40)],
        journal=[event(f"done-{name}")],
        refusal=event(f"refused-{name}"),
    )
    made.id = id
    return made


def kill_at(point: str, count: int) -> None:
    """From now on the process ends, without a chance to tidy up, at the count-th such point."""
    left = count

    def reached(name: str) -> None:
        nonlocal left
        if name == point:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    points.reached = reached


async def client(store: Any, ledger: int, name: str, rounds: int) -> None:
    for number in range(rounds):
        one, id = f"{name}-{number}", os.urandom(16)
        refused = number % 5 == 4
        os.write(ledger, f"invoke {one} {id.hex()} {int(refused)}\n".encode())
        try:
            await store.commit(request(one, id=id, refused=refused))
        except GatewayError:
            os.write(ledger, f"refused {one}\n".encode())
        else:
            os.write(ledger, f"ok {one}\n".encode())


async def main(database: str, path: str, name: str, rounds: int, clients: int) -> None:
    ledger = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = await open_store(database, clock=TestClock(), random=os.urandom, rows=rows_of)
    await asyncio.gather(
        *(client(store, ledger, f"{name}-{number}", rounds) for number in range(clients))
    )
    await store.drain()
    await store.close()


if __name__ == "__main__":
    if len(sys.argv) > 6:
        kill_at(sys.argv[6], int(sys.argv[7]))
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])))
