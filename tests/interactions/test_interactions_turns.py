"""Turns: who was overtaken goes one after the other, and nobody waits for somebody who left."""

from __future__ import annotations

import asyncio

from fhir_gateway.interactions import turns
from fhir_gateway.interactions.turns import Turn


def _play(*players):
    async def all_of_them():
        await asyncio.gather(*(player() for player in players))

    asyncio.run(all_of_them())
    assert turns._lines == {}


def test_one_at_a_time_in_the_order_of_coming():
    log = []

    def player(name):
        async def play():
            async with Turn() as turn:
                await turn.take("x")
                log.append(f"{name} in")
                await asyncio.sleep(0)
                log.append(f"{name} out")

        return play

    _play(*map(player, "abc"))
    assert log == ["a in", "a out", "b in", "b out", "c in", "c out"]


def test_who_comes_while_there_is_a_line_stands_at_its_end():
    log = []

    async def overtaken():
        async with Turn() as turn:
            await turn.take("x")
            await asyncio.sleep(0.001)
            log.append("overtaken")

    async def newcomer():
        await asyncio.sleep(0)
        async with Turn() as turn:
            await turn.join(["y", "x"])
            log.append("newcomer")

    async def passer():
        async with Turn() as turn:
            await turn.join(["z"])
            log.append("passer")

    _play(overtaken, newcomer, passer)
    assert log == ["passer", "overtaken", "newcomer"]


def test_a_turn_at_one_place_ends_the_turn_at_another():
    """Nobody holds two, so no two can wait for each other."""

    ended = []

    def player(first, second):
        async def play():
            async with Turn() as turn:
                for _ in range(20):
                    await turn.take(first)
                    await asyncio.sleep(0)
                    await turn.take(second)
            ended.append((first, second))

        return play

    _play(player("x", "y"), player("y", "x"), player("x", "x"))
    assert sorted(ended) == [("x", "x"), ("x", "y"), ("y", "x")]


def test_who_gives_up_holds_nobody_up():
    done = []

    async def holder():
        async with Turn() as turn:
            await turn.take("x")
            await asyncio.sleep(0.001)

    async def impatient():
        async with Turn() as turn:
            waiting = asyncio.ensure_future(turn.take("x"))
            await asyncio.sleep(0)
            waiting.cancel()

    async def patient():
        async with Turn() as turn:
            await turn.take("x")
            done.append(True)

    _play(holder, impatient, patient)
    assert done == [True]
