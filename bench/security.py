"""What access control costs of an order-sign: token check, rights, scopes, relation and consent.

    python -m bench.security                    2,000 people with 50 facts each, SQLite, in process
    python -m bench.security --rounds 40        longer, on a machine that others use too

The same calls are answered by three gateways in this process, in small interleaved blocks: by the
open policy with an institution's static token (the floor), by the shipped policy with a token of
ours whose client asserts the patient's consent, and with a provider's token of a clinician beside
Consents on file. Nearly every call is the first about its person. The share of security is
(form - floor) / form, of the median blocks and of the least, which other loads disturb less. Below
it what each step costs alone, beside the same step of the floor.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.cases import Cases
from bench.machine import bare_call_ns, describe
from bench.security_steps import steps
from bench.security_store import (
    Door,
    House,
    Seeded,
    issued_token,
    open_house,
    provider_token,
    seeded,
)

PEOPLE, BLOCK = 2_000, 40
AIM = 25.0
FLOOR = "open policy, static token"
HEAD = (
    f"  {'form':<46}{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}{'CPU us':>8}{'share':>8}"
    f"{'least':>8}{'share':>8}"
)


class Form(NamedTuple):
    """A caller of a gateway, and what its blocks took: wall ms a call, CPU µs a call of a block."""

    name: str
    house: House
    door: Door
    walls: list[float]
    blocks: list[float]


def main() -> int:
    """Prints the tables; returns 1 when a call failed or two forms were not told the same."""
    arguments = _arguments()
    print(f"machine    {describe()}")
    print(f"python     an empty call takes {bare_call_ns():.0f} ns of processor time", flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-security-") as folder:
        return asyncio.run(_measured(Path(folder), arguments))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.security", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE, help="each with 50 facts")
    parser.add_argument("--rounds", type=int, default=12, help=f"blocks of {BLOCK} calls a form")
    parser.add_argument("--profile", help="write a cProfile of the last form to this file")
    return parser.parse_args()


async def _measured(folder: Path, arguments: argparse.Namespace) -> int:
    made = await seeded(folder / "seeded", arguments.people)
    floor = await open_house(made, folder / "open", policy=False)
    issued = await open_house(made, folder / "issued", policy=True)
    signed = await open_house(made, folder / "signed", policy=True)
    gc.collect()
    gc.freeze()  # as a served gateway does after its start
    try:
        forms = [
            _form(FLOOR, floor, floor.static),
            _form("shipped policy, our token, asserts consent", issued,
                  await issued_token(issued)),
            _form("shipped policy, provider's token, Consents", signed, provider_token(signed)),
        ]  # fmt: skip
        failed = await _rounds(forms, made, arguments.rounds)
        print(*_table(forms, made, arguments.rounds), sep="\n", flush=True)
        print(*await steps(floor, issued, signed, made.people), sep="\n", flush=True)
        if arguments.profile:
            await _profiled(forms[-1], made, arguments.profile)
    finally:
        for house in (floor, issued, signed):
            await house.application.close()
    return failed


def _form(name: str, house: House, token: str) -> Form:
    return Form(name, house, Door(house, token), [], [])


async def _rounds(forms: list[Form], made: Seeded, rounds: int) -> int:
    """Blocks of the same calls, form after form; 1 when their answers are not of one kind."""
    cases, failed = Cases(made.people, "", ""), 0
    for turn in range(rounds + 1):
        calls = [cases.order_sign() for _ in range(BLOCK)]
        sizes = [await _block(form, calls, counted=turn > 0) for form in forms]
        if any(one != sizes[0] for one in sizes) or not all(sizes[0]):
            print(f"  the forms were told different things, or nothing, in block {turn}")
            failed = 1
        forms = [*forms[1:], forms[0]]  # none is always first
    return failed


async def _block(form: Form, calls: list[bytes], *, counted: bool) -> list[int]:
    """The lengths of the answers, 0 for a refusal; their ids and times are of one length."""
    sizes, walls = [], []
    began = time.process_time()
    for call in calls:
        at = time.perf_counter()
        status, body = await form.door.call(call)
        walls.append((time.perf_counter() - at) * 1_000)
        sizes.append(len(body) if status == 200 else 0)
    cost = (time.process_time() - began) / len(calls) * 1e6
    if counted:
        form.walls.extend(walls)
        form.blocks.append(cost)
    await form.house.gateway.store.drain()  # housework, which would fall into another's block
    return sizes


def _table(forms: list[Form], made: Seeded, rounds: int) -> list[str]:
    lines = [
        f"\nSQLite in process, {made.people:,} people, {made.facts:,} facts; order-sign of five, "
        f"one client, {rounds} blocks of {BLOCK} calls each",
        HEAD + f"   (aim: at most {AIM:.0f} %)",
    ]
    for form in forms:
        walls = sorted(form.walls)
        line = f"  {form.name:<46}"
        for share in (0.5, 0.95, 0.99):
            line += f"{walls[int(len(walls) * share)]:8.2f}"
        for taken in (statistics.median, min):
            floor, cost = taken(forms[0].blocks), taken(form.blocks)
            line += f"{cost:8.0f}{(cost - floor) / cost * 100:7.1f}%"
        lines.append(line)
    return lines


async def _profiled(form: Form, made: Seeded, path: str) -> None:
    """Writes where the time of a form goes."""
    import cProfile  # noqa: PLC0415 - only for whoever asks for it

    cases = Cases(made.people, "", "")
    calls = [cases.order_sign() for _ in range(300)]
    profile = cProfile.Profile()
    profile.enable()
    for call in calls:
        await form.door.call(call)
    profile.disable()
    profile.dump_stats(path)


if __name__ == "__main__":
    sys.exit(main())
