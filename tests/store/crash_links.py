"""A process that makes and takes back links of twelve Patients, and keeps a ledger, until killed.

crash_links.py DATABASE LEDGER SEED CLIENTS
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from itertools import combinations
from typing import Any

from store_builders import TestClock, change, rows_of

from fhir_gateway.errors import Unprocessable
from fhir_gateway.store.changes import Derived, Put
from fhir_gateway.store.opening import open_store

PEOPLE = "abcdefghijkl"
LINKS = ["".join(pair) for pair in combinations(PEOPLE, 2)]
SAID = {True: b'},"active":true}', False: b'},"active":false}'}


def linkage(id: str, *, active: bool) -> Put:
    """A Linkage of the two Patients that its id names."""
    one, other = id
    pairs = [(one, other, "linkage")] if active else []
    return Put("Linkage", id, "update", 0, SAID[active], patient=one,
               derived=Derived(aliases=pairs))  # fmt: skip


async def client(store: Any, ledger: int, links: list[str], chance: random.Random) -> None:
    while True:
        id, active = chance.choice(links), chance.random() < 0.4
        os.write(ledger, f"invoke {id} {int(active)}\n".encode())
        try:
            await store.commit(change(linkage(id, active=active)))
        except Unprocessable:  # too many homes
            os.write(ledger, f"refused {id} {int(active)}\n".encode())
        else:
            os.write(ledger, f"ok {id} {int(active)}\n".encode())


async def main(database: str, path: str, seed: int, clients: int) -> None:
    ledger = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    store = await open_store(database, clock=TestClock(), random=os.urandom, rows=rows_of)
    await asyncio.gather(
        *(
            client(store, ledger, LINKS[number::clients], random.Random(seed + number))
            for number in range(clients)
        )
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3], int(sys.argv[3]), int(sys.argv[4])))
