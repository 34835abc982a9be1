"""The keys that a trusted client or provider publishes (JWK Set, RFC 7517), fetched and bounded.

A set is kept for as long as its server says, within limits. A key that is not in it is looked for
again, so that clients can change their keys, but not more often than every half minute: nobody
makes the gateway ask by inventing key ids. One request at a time for each address; it goes on when
the call that needed it has been answered.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from fhir_gateway.context import Gateway
from fhir_gateway.errors import GatewayError, Unavailable
from fhir_gateway.interactions.outbound import Outbound
from fhir_gateway.security.outbound import read_policy
from fhir_gateway.store.store import Store

Key = Mapping[str, Any]

#: Microseconds: how long a set is kept at least and at most, and when nothing is said of it. A key
#: that was withdrawn is dead within five minutes, what is remembered of its tokens included.
LEAST, MOST, USUAL = 60_000_000, 290_000_000, 290_000_000
#: Microseconds between two requests for keys that are missing, and after one that failed.
AGAIN, AFTER_FAILURE = 30_000_000, 5_000_000
#: Limits of one set.
MOST_KEYS, MOST_BYTES, SECONDS = 64, 262_144, 3.0


class _Kept(NamedTuple):
    keys: Sequence[Key]
    until: int
    asked: int  # when it was last asked for
    failed: bool = False  # that it failed then


class _Sets:
    """The sets of one gateway. There are as many as addresses that the operator gave."""

    def __init__(self) -> None:
        self.kept: dict[str, _Kept] = {}
        self.asking: dict[str, asyncio.Task[_Kept]] = {}


_sets: WeakKeyDictionary[Store, _Sets] = WeakKeyDictionary()


async def keys_at(
    gateway: Gateway, url: str, wanted: Callable[[Sequence[Key]], bool], *, listed: bool = True
) -> Sequence[Key]:
    """The keys at an address; `wanted` says whether the one that is looked for is in them.

    `listed` says that the address stands in a file of the operator; otherwise its origin must be
    one that the gateway may call. Raises Unavailable when they cannot be had.
    """
    sets = _sets.setdefault(gateway.store, _Sets())
    kept, now = sets.kept.get(url), gateway.clock.now()
    if kept is not None and not _is_due(kept, now, wanted):
        if kept.failed and not (kept.keys and now < kept.until):
            raise Unavailable("The keys of this client cannot be had now", rule="client-keys")
        return kept.keys
    asking = sets.asking.get(url)
    if asking is None:
        asking = sets.asking[url] = asyncio.create_task(
            _ask(gateway, url, kept, now, listed=listed)
        )
        asking.add_done_callback(lambda done: _finish(sets, url, done))
    kept = await asyncio.shield(asking)
    if kept.failed and not kept.keys:
        raise Unavailable("The keys of this client cannot be had now", rule="client-keys")
    return kept.keys


def _is_due(kept: _Kept, now: int, wanted: Callable[[Sequence[Key]], bool]) -> bool:
    """Whether the set is to be asked for again."""
    since = now - kept.asked
    if kept.failed:
        return not 0 <= since < AFTER_FAILURE
    if now >= kept.until or since < 0:
        return True
    return since >= AGAIN and not wanted(kept.keys)


def _finish(sets: _Sets, url: str, done: asyncio.Task[_Kept]) -> None:
    del sets.asking[url]
    if not done.cancelled() and done.exception() is None:
        sets.kept[url] = done.result()


async def _ask(gateway: Gateway, url: str, kept: _Kept | None, now: int, *, listed: bool) -> _Kept:
    settings = gateway.settings
    policy = read_policy(settings.outbound_origins, settings.outbound_networks)
    if listed:
        policy = policy.allowing([url])
    try:
        async with Outbound(policy, ca=settings.outbound_ca) as outbound:
            accept = {"accept": "application/json, application/jwk-set+json"}
            answer = await outbound.fetch(
                url, headers=accept, most_bytes=MOST_BYTES, seconds=SECONDS
            )
        keys = _read(answer.body) if answer.status == 200 else None
    except GatewayError:
        keys = None
    if keys is None:
        gateway.count("client_keys_failed", 1)
        usable = kept is not None and kept.until > now
        return _Kept(kept.keys if kept and usable else (), kept.until if kept else 0, now, True)
    return _Kept(keys, now + _lasting(answer.headers.get("cache-control", "")), now)


def _read(body: bytes) -> Sequence[Key] | None:
    try:
        keys = json.loads(body)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(keys, list) or len(keys) > MOST_KEYS:
        return None
    return [key for key in keys if isinstance(key, dict)]


def _lasting(cache_control: str) -> int:
    """Microseconds that a set is kept."""
    if re.search(r"\bno-(?:store|cache)\b", cache_control, re.IGNORECASE):
        return LEAST
    match = re.search(r"\bmax-age=([0-9]{1,9})\b", cache_control, re.IGNORECASE)
    return min(max(int(match[1]) * 1_000_000, LEAST), MOST) if match else USUAL
