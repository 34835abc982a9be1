"""Random bookings against a model that knows nothing of rows, on each driver.

The model keeps a list of what was booked and computes all else anew from it and the time: what is
live, what a channel has left, who is where. Store and model have to agree on every request, and
the audit by SQL finds nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass, field
from typing import Any

from effort import TORTURE, examples
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from seat_world import DAY, HOUR, KIND, NO_LIMITS, appointment, schedule
from store_builders import change, patient

from fhir_gateway.errors import GatewayError
from fhir_gateway.fhir.home import institution_home
from fhir_gateway.security.actor import SYSTEM_ACCESS
from fhir_gateway.store.changes import ChangeSet, Derived, Put
from fhir_gateway.store.claim_rows import (
    BOOKED,
    HELD,
    Fall,
    Give,
    Keep,
    Limits,
    QuotaRow,
    Settle,
    SlotRow,
    Take,
)
from fhir_gateway.store.seat_audit import audit

PERSONS, RESERVED, LAST = 4, "reserved", "ordinary"
CAPACITIES, STARTS = (1, 2, 1, 3), (DAY, DAY + 2 * HOUR, DAY + 5 * HOUR // 2, 2 * DAY)
LIMITS = Limits(per_day=1)
#: Bookings that each of the 32 clients of a storm asks for. With what is cancelled and asked again,
#: and with the games, these are 10⁴ requests over both drivers, 10⁶ under torture.
TURNS = {"sqlite": 16_000, "postgresql": 16_000} if TORTURE else {"sqlite": 210, "postgresql": 60}
#: After so many a client books for somebody else: nobody has thousands of bookings.
STAYS = 300
_worlds = itertools.count(1)
TIME: dict[str, Any] = {}


async def fill(store, clock):
    TIME["clock"] = clock


@dataclass
class Booked:
    """One appointment as the model knows it."""

    id: str
    person: int
    slot: int
    channel: str
    until: int
    state: str


@dataclass
class World:
    """A hospital of its own with four Slots, and what the model knows of it."""

    begun: int
    name: str = field(default_factory=lambda: f"w{next(_worlds)}")
    booked: dict[str, Booked] = field(default_factory=dict)
    reserved: int = 3
    serial: int = 1
    count: int = 0

    def __post_init__(self) -> None:
        self.home = institution_home(self.name)
        self.bucket = f"{self.name}|ct"
        self.cut = self.begun + 6 * HOUR

    # -- what the model says -------------------------------------------------------------------

    def live(self, now: int) -> list[Booked]:
        return [one for one in self.booked.values()
                if one.state == BOOKED or (one.state == HELD and one.until > now)]  # fmt: skip

    def seated(self, now: int) -> list[Booked]:
        ended = [one for one in self.booked.values() if one.state in ("fulfilled", "noshow")]
        return [*self.live(now), *ended]

    def start(self, slot: int) -> int:
        return self.begun + STARTS[slot]

    def left(self, channel: str, now: int) -> int:
        used = {name: sum(one.channel == name for one in self.seated(now))
                for name in (RESERVED, LAST)}  # fmt: skip
        if now >= self.cut:
            return 0 if channel == RESERVED else sum(CAPACITIES) - sum(used.values())
        caps = {RESERVED: self.reserved, LAST: sum(CAPACITIES) - self.reserved}
        return caps[channel] - used[channel]

    def take(self, new: Booked, now: int, instead: str = "") -> str:  # noqa: PLR0911 - in order
        if self.start(new.slot) <= now:
            return "slot-past"
        if sum(one.slot == new.slot for one in self.seated(now)) >= CAPACITIES[new.slot]:
            return "slot-full"
        if new.state == HELD and new.until <= now:
            return "hold-expired"
        if new.channel == RESERVED and now >= self.cut:
            return "channel-closed"
        if self.left(new.channel, now) <= 0:
            return "quota-full"
        others = [one for one in self.live(now) if one.person == new.person and one.id != instead]
        begin = self.start(new.slot)
        if any(abs(self.start(one.slot) - begin) < HOUR for one in others):
            return "person-overlap"
        had = [one for one in self.seated(now) if one.person == new.person and one.id != instead]
        day = (begin + 8 * HOUR) // DAY
        if sum((self.start(one.slot) + 8 * HOUR) // DAY == day for one in had) >= LIMITS.per_day:
            return "person-limit"
        return ""

    def keep(self, one: Booked | None, until: int, now: int) -> str:
        if one is None:
            return "hold-unknown"
        if one.state == HELD and one.until <= now:
            return "hold-expired"
        if one.state != HELD:
            return "hold-unknown"
        if self.start(one.slot) <= now:
            return "slot-past"
        return "hold-expired" if until and until <= now else ""

    def give(self, one: Booked | None, state: str, now: int) -> str:
        if one is None:
            return "hold-unknown"
        if one.state == state or (state == "cancelled" and one.state in (HELD, BOOKED)):
            return ""
        if one.state == BOOKED:
            early = state == "noshow" and self.start(one.slot) > now
            return "slot-not-begun" if early else ""
        if one.state == HELD:
            return (
                "booking-ended" if one.until <= now and self.is_swept(one) else "hold-unconfirmed"
            )
        return "booking-ended"

    def is_swept(self, one: Booked) -> bool:
        return False

    def settle(self, reserved: int, now: int) -> None:
        used = {name: sum(one.channel == name for one in self.seated(now))
                for name in (RESERVED, LAST)}  # fmt: skip
        total = sum(CAPACITIES)
        self.reserved = min(max(reserved, used[RESERVED]), total - used[LAST])

    # -- what is sent --------------------------------------------------------------------------

    def slot(self, number: int, busy: bool = False) -> Put:
        start = self.start(number)
        row = SlotRow(
            f"Schedule/{self.name}", start, start + HOUR, CAPACITIES[number], True, KIND, ["I1"],
            self.bucket, busy,
        )  # fmt: skip
        text = b'},"x":%d' % busy
        derived = Derived(slots=[row])
        id = f"{self.name}-{number}"
        return Put("Slot", id, "update", 0, text, home=self.home, derived=derived)

    def status(self, number: int, after: list[Booked]) -> Put:
        booked = sum(one.slot == number and one.state not in (HELD, "cancelled") for one in after)
        return self.slot(number, booked >= CAPACITIES[number])

    def quotas(self, reserved: int) -> Settle:
        rows = [
            QuotaRow(RESERVED, reserved, 0, self.cut, LAST),
            QuotaRow(LAST, sum(CAPACITIES) - reserved),
        ]
        return Settle(self.home, self.bucket, KIND, rows, self.serial)

    def opening(self) -> ChangeSet:
        plan = schedule(self.name)
        plan.home = self.home
        people = [patient(f"{self.name}-p{n}") for n in range(PERSONS)]
        slots = [self.slot(number) for number in range(len(CAPACITIES))]
        return change(*people, plan, *slots, claims=[self.quotas(self.reserved)])


async def rule_of(store: Any, change_set: ChangeSet) -> str:
    try:
        await store.commit(change_set)
    except GatewayError as error:
        return error.issues[0].rule or "?"
    return ""


class Player:
    """Draws requests, sends them, and compares."""

    def __init__(self, store: Any, world: World, chance: random.Random) -> None:
        self.store, self.world, self.chance = store, world, chance
        self.clock = TIME["clock"]

    async def step(self) -> None:
        kind = self.chance.choices(
            (self.take, self.keep, self.give, self.rebook, self.wait, self.fall, self.settle),
            (8, 3, 3, 2, 2, 1, 1),
        )[0]
        await kind()

    async def ask(self, claims: list[Any], puts: list[Put], expected: str) -> bool:
        change_set = change(*puts, claims=claims)
        found = await rule_of(self.store, change_set)
        if self.chance.random() < 0.2:  # its outcome was not known: it is sent again
            assert await rule_of(self.store, change_set) == found
        assert found == expected, (claims, self.world)
        return not found

    def some(self) -> Booked | None:
        known = list(self.world.booked.values())
        return self.chance.choice(known) if known else None

    def _new(self, id: str, person: int) -> Booked:
        chance, now = self.chance, self.clock.time
        held = chance.random() < 0.4
        until = now + chance.choice((0, 1, 2, 5)) * HOUR if held else 0
        slot, channel = chance.randrange(len(CAPACITIES)), chance.choice((RESERVED, LAST, LAST))
        return Booked(id, person, slot, channel, until, HELD if held else BOOKED)

    def _claim(self, new: Booked, instead: str = "") -> Take:
        name = self.world.name
        return Take(
            f"Slot/{name}-{new.slot}", f"Appointment/{new.id}", f"{name}-p{new.person}",
            new.channel, new.state, new.until, LIMITS,
            f"Appointment/{instead}" if instead else "",
        )  # fmt: skip

    async def take(self) -> None:
        world, now = self.world, self.clock.time
        world.count += 1
        new = self._new(f"{world.name}-a{world.count}", self.chance.randrange(PERSONS))
        after = [*world.seated(now), new]
        puts = [appointment(new.id, f"{world.name}-p{new.person}"), world.status(new.slot, after)]
        if await self.ask([self._claim(new)], puts, world.take(new, now)):
            world.booked[new.id] = new

    async def rebook(self) -> None:
        world, now, old = self.world, self.clock.time, self.some()
        if old is None or old not in world.live(now):
            return
        world.count += 1
        new = self._new(f"{world.name}-a{world.count}", old.person)
        after = [*(one for one in world.seated(now) if one is not old), new]
        puts = [appointment(new.id, f"{world.name}-p{new.person}")]
        puts += [world.status(number, after) for number in {new.slot, old.slot}]
        claims = [self._claim(new, old.id), Give(f"Appointment/{old.id}")]
        if await self.ask(claims, puts, world.take(new, now, old.id)):
            world.booked[new.id], old.state = new, "cancelled"

    async def keep(self) -> None:
        world, now, one = self.world, self.clock.time, self.some()
        until = now + self.chance.choice((-1, 1, 3)) * HOUR if self.chance.random() < 0.5 else 0
        name = one.id if one else "nobody"
        claim = Keep(f"Appointment/{name}", HELD if until else BOOKED, until)
        puts = []
        if one is not None and world.keep(one, until, now) == "":
            state = HELD if until else BOOKED
            after = [each for each in world.seated(now) if each is not one]
            after.append(Booked(one.id, one.person, one.slot, one.channel, until, state))
            puts = [world.status(one.slot, after)]
        if await self.ask([claim], puts, world.keep(one, until, now)):
            assert one is not None
            one.state, one.until = (HELD, until) if until else (BOOKED, 0)

    async def give(self) -> None:
        world, now, one = self.world, self.clock.time, self.some()
        state = self.chance.choice(("cancelled", "cancelled", "fulfilled", "noshow"))
        if one is not None and one.state == HELD and one.until <= now and state != "cancelled":
            return  # whether the hold was swept is nobody's business
        puts = []
        if one is not None and state == "cancelled":
            after = [each for each in world.seated(now) if each is not one]
            if one.state in ("fulfilled", "noshow"):
                after = world.seated(now)
            puts = [world.status(one.slot, after)]
        name = one.id if one else "nobody"
        claims = [Give(f"Appointment/{name}", state)]
        if await self.ask(claims, puts, world.give(one, state, now)):
            assert one is not None
            one.state = state

    async def wait(self) -> None:
        self.clock.time += self.chance.choice((1, HOUR // 2, HOUR, 5 * HOUR))

    async def fall(self) -> None:
        world = self.world
        for _ in range(2):
            await self.ask([Fall(world.home, world.bucket, KIND, RESERVED)], [], "")

    async def settle(self) -> None:
        world, now = self.world, self.clock.time
        world.serial += 1
        reserved = self.chance.randint(0, sum(CAPACITIES))
        if await self.ask([world.quotas(reserved)], [], ""):
            world.settle(reserved, now)


@settings(  # a smaller seed is no simpler game
    max_examples=examples(12), suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
)  # fmt: skip
@given(seed=st.integers(0, 1 << 32))
def test_faults_75_to_80_store_and_model_agree(look, seed):
    async def scenario(store):
        world = World(TIME["clock"].time)
        player = Player(store, world, random.Random(seed))
        await store.commit(world.opening())
        for _ in range(40):
            await player.step()
        async with store.snapshot(SYSTEM_ACCESS) as reader:
            assert await reader.steps(lambda _: audit()) == []

    look(scenario)


def test_a_storm_never_oversells_and_never_undersells(look, driver):
    """Many clients at once: what they were told is what is stored, and all is sold at the end."""
    chance = random.Random(7)

    async def scenario(store):
        world = World(TIME["clock"].time)
        await store.commit(world.opening())
        told: dict[str, str] = {}

        async def client(number: int) -> None:
            for turn in range(TURNS[driver]):
                id = f"{world.name}-c{number}-{turn}"
                person = f"{world.name}-s{number}-{turn // STAYS}"
                if not turn % STAYS:
                    await store.commit(change(patient(person)))
                slot = chance.randrange(len(CAPACITIES))
                claim = Take(f"Slot/{world.name}-{slot}", f"Appointment/{id}", person, LAST,
                             limits=NO_LIMITS)  # fmt: skip
                for busy in (False, True):
                    wanted = change(appointment(id, person), world.slot(slot, busy), claims=[claim])
                    told[id] = await rule_of(store, wanted)
                    if told[id] != "slot-changed":
                        break
                if told[id] == "" and chance.random() < 0.7:
                    while await rule_of(
                        store, change(world.slot(slot), claims=[Give(f"Appointment/{id}")])
                    ):
                        raise AssertionError("what was booked cannot be cancelled")
                    told[id] = "cancelled"

        await store.commit(change(claims=[Settle(
            world.home, world.bucket, KIND, [QuotaRow(LAST, sum(CAPACITIES))], 5)]))  # fmt: skip
        await asyncio.gather(*(client(number) for number in range(32)))
        await check_told(store, told)

    look(scenario)


async def check_told(store: Any, told: dict[str, str]) -> None:
    """What was acknowledged is there, of the rest a tenth is looked for, and all seats agree."""
    async with store.snapshot(SYSTEM_ACCESS) as reader:
        assert await reader.steps(lambda _: audit()) == []
        for place, (id, rule) in enumerate(told.items()):
            made = rule in ("", "cancelled")
            if made or place % 10 == 0:
                assert (await reader.read("Appointment", id) is not None) == made, (id, rule)
