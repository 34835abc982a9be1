"""Random bookings over HTTP at two gateways on one store, around the end of a year, against a model
that knows no rows (booking_model.py); the audit by SQL finds nothing. `docs/booking-proof.md`"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from booking_model import PERSONS, SLOTS, Model, Stage, upkeep
from databases import Databases
from effort import examples
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pool_world import DAY, HOUR, MINUTE

#: What is done, as often as it stands here.
_WHAT = (
    "hold", "hold", "hold", "book", "book", "book", "confirm", "confirm", "renew", "move", "move",
    "cancel", "cancel", "no-show", "fulfil", "repeat", "wait", "wait", "supply", "upkeep",
)  # fmt: skip
_WAITS = (MINUTE, 11 * MINUTE, 4 * HOUR, 9 * HOUR, DAY // 2)
_STEP = st.tuples(
    st.sampled_from(_WHAT), st.integers(0, 5), st.integers(0, PERSONS - 1),
    st.integers(0, len(SLOTS) - 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def stage(shared_database: Databases) -> Iterator[Stage]:
    one = Stage(shared_database.url("model"))
    yield one
    one.close()


@settings(
    max_examples=examples(2), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(steps=st.lists(_STEP, min_size=15, max_size=30))
def test_75_to_80_what_is_answered_is_what_the_model_says(
    stage: Stage, steps: list[tuple[str, int, int, int]]
) -> None:
    model = Model(stage)
    for step in steps:
        play(model, *step)
    model.check()
    model.sell_out()


def play(model: Model, what: str, at: int, person: int, slot: int) -> None:
    """One request, or a step of the time."""
    one = model.chosen(at)
    if what in ("hold", "book"):
        model.take(at, person, slot, hold=what == "hold")
    elif what == "wait":
        model.stage.clock.time += _WAITS[at % len(_WAITS)]
        model.settle()
    elif what == "supply":
        model.supply(slot, 1 if at % 2 else -1)
    elif what == "upkeep":
        upkeep(model.stage, at)
    elif what == "repeat":
        model.repeat(at)
    elif one is not None:
        step = {"confirm": model.confirm, "renew": model.renew}.get(what)
        if step is not None:
            step(person, one)
        elif what == "move":
            model.move(person, one, slot)
        else:
            model.end(person, one, what)
