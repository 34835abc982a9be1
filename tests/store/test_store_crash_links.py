"""kill -9 in a storm of links: what was acknowledged holds, and persons are what the links say."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_links import LINKS, PEOPLE, SAID
from store_builders import change, patient

import fhir_gateway
from fhir_gateway.security.actor import SYSTEM_ACCESS

CLIENTS = 3
LIVE = " WHERE t_to = 9223372036854775807"
pytestmark = pytest.mark.drivers("sqlite")


def components(links: set[str]) -> dict[str, frozenset[str]]:
    """The model: whoever is connected by links is one person."""
    groups = {one: frozenset(one) for one in PEOPLE}
    for one, other in links:
        joined = groups[one] | groups[other]
        groups |= dict.fromkeys(joined, joined)
    return groups


def allowed(ledger: Path, known: dict[str, bool]) -> dict[str, set[bool]]:
    """What each link may say: what was acknowledged last, or what was on its way."""
    found = {id: {active} for id, active in known.items()}
    acknowledged = dict(known)
    for line in ledger.read_text().splitlines():
        what, id, flag = line.split()
        if what == "ok":
            acknowledged[id] = flag == "1"
        found[id] = {acknowledged.get(id, False)}
        if what == "invoke":
            found[id].add(flag == "1")
    return found


async def stored(store) -> tuple[dict[str, bool], dict[str, frozenset[str]]]:
    """Links and persons as they are in the store."""
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        links = {id: await reader.read("Linkage", id) for id in LINKS}
        people = {}
        for one in PEOPLE:
            person = await reader.person(one)
            people[one] = frozenset(await reader.person_records(person.homes))
    return {id: one.tail == SAID[True] for id, one in links.items() if one}, people


def storm(url: str, ledger: Path, seed: int, seconds: float) -> None:
    """Links are made and taken back until the process is killed, so long after it began."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(Path(__file__).with_name("crash_links.py")), url,
         str(ledger), str(seed), str(CLIENTS)],
        env={**os.environ, "PYTHONPATH": str(Path(fhir_gateway.__file__).parent.parent)},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not (ledger.exists() and ledger.stat().st_size > 400):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(seconds)
    finally:
        process.kill()
    assert process.wait(30) == -signal.SIGKILL


def crash_often(play, rows, database, folder: Path, *, kills: int, seed: int) -> int:
    chance, known, changes = random.Random(seed), dict[str, bool](), 0

    async def fill(store):
        await store.commit(change(*(patient(one) for one in PEOPLE)))

    play(fill)
    for number in range(kills):
        ledger = folder / f"{number}.ledger"
        storm(database.url(), ledger, seed + number, chance.random() * 0.1)
        links, people = play(stored)
        for id, may in allowed(ledger, known).items():
            assert links.get(id, False) in may, id
        assert people == components({id for id, active in links.items() if active})
        assert all(len(group) <= 8 for group in people.values())
        assert rows(ORPHANS) == [(0,)]
        known, changes = links, changes + len(ledger.read_text().splitlines())
    return changes


#: Live aliases that stand in one direction only, and homes of a person that no alias holds.
ORPHANS = f"""
SELECT (SELECT count(*) FROM alias a {LIVE.replace("t_to", "a.t_to")} AND NOT EXISTS (
    SELECT 1 FROM alias b {LIVE.replace("t_to", "b.t_to")} AND b.home = a.other
      AND b.other = a.home AND b.source = a.source))
  + (SELECT count(*) FROM person p {LIVE.replace("t_to", "p.t_to")} AND NOT EXISTS (
    SELECT 1 FROM alias a {LIVE.replace("t_to", "a.t_to")} AND a.home = p.home))"""


def test_a_kill_among_links_loses_none_and_persons_are_what_links_say(
    play, rows, database, tmp_path
):
    assert crash_often(play, rows, database, tmp_path, kills=2, seed=20261122) > 0


@pytest.mark.torture
def test_many_kills_among_links(play, rows, database, tmp_path):
    seed = random.SystemRandom().randrange(1 << 31)
    print(f"seed {seed}")
    assert crash_often(play, rows, database, tmp_path, kills=100, seed=seed) > 0
