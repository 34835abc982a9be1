"""What would be found later, or through another channel, where a search has found nothing.

An empty list must not read as "there is nothing": each hint names a channel with why it is not the
caller's, or the moment from which on it is. docs/booking.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue
from fhir_gateway.scheduling.calendar import moment_at
from fhir_gateway.scheduling.channel import Verdict
from fhir_gateway.scheduling.channel_reasons import CHANNELS_ZH, reason
from fhir_gateway.store.slot_sql import FreeSlots, Wish, find_slots, opening_later, seconds_of
from fhir_gateway.store.store import Reader

_SHOWN, _MOST = 50, 5


class HintsFor(NamedTuple):
    """A search that found nothing."""

    gateway: Gateway
    wish: Wish
    now: int
    zone: ZoneInfo
    hospitals: Mapping[int, str]
    verdicts: Mapping[int, Sequence[Verdict]]


async def hints(whole: Reader, asked: HintsFor) -> list[Issue]:
    """At most a handful of hints, as information; one at least."""
    wish, now = asked.wish, asked.now
    seconds = seconds_of(wish)
    others = await whole.steps(
        lambda seen: find_slots(seen.dialect, wish, now=now, limit=_SHOWN), seconds=seconds
    )
    later = await whole.steps(lambda seen: opening_later(seen.dialect, wish, now), seconds=seconds)
    found = [*_of_channels(others, asked), *_of_time(later, asked)][:_MOST]
    if found:
        return found
    return [_said(
        "nothing-free", "Nothing is free in this time; ask for other days, for more hospitals or "
        "districts, or join the waiting list",
    )]  # fmt: skip


def _of_channels(others: FreeSlots, asked: HintsFor) -> Iterator[Issue]:
    """Seats that are sold now, to others."""
    seen: dict[tuple[str, int], int] = {}
    for slot in others.slots:
        for channel in slot.channels:
            key = (channel, slot.place[1])
            seen[key] = seen.get(key, 0) + 1
    for (channel, home), count in seen.items():
        closed = [
            one for one in asked.verdicts.get(home, ()) if one.channel == channel and not one.open
        ]
        for verdict in closed:
            why = reason(verdict.rule, channel, dict(verdict.facts))
            hospital = asked.hospitals.get(home, "")
            yield _said(
                "other-channel",
                f"{hospital} sells {count} of these through {channel}, which is not open to you: "
                f"{why.en} / {CHANNELS_ZH[channel]}：{why.zh}",
            )


def _of_time(later: Sequence[tuple[int, str, int]], asked: HintsFor) -> Iterator[Issue]:
    """Seats that are sold from a moment on."""
    for home, channel, opens in later:
        verdicts = asked.verdicts.get(home, ())
        if any(one.channel == channel and one.open for one in verdicts):
            when = f"{moment_at(opens, asked.zone):%Y-%m-%d %H:%M}"
            yield _said(
                "opens-later",
                f"{asked.hospitals.get(home, '')} opens {channel} for these dates {when} / "
                f"{CHANNELS_ZH[channel]}于{when}开放",
            )


def _said(rule: str, text: str) -> Issue:
    return Issue("informational", text, None, rule, "information")
