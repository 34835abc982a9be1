"""Whom a page link is for: the caller with its rights, and until when (search.page).

Bound is all that says who asks and what it may see: role, institution, client, person, the Patient
of the token, its scopes, and the Access. What another caller was given, or the same one under
wider rights, leads nowhere.
"""

from __future__ import annotations

from dataclasses import astuple
from functools import lru_cache
from hashlib import blake2b

import msgspec

from fhir_gateway.context import Gateway
from fhir_gateway.search.page import Holder
from fhir_gateway.security.actor import Access, Actor

_MINUTE = 60_000_000


def holder_of(gateway: Gateway, actor: Actor) -> Holder:
    """The holder of the page links of this request."""
    now, minutes = gateway.clock.now(), gateway.settings.page_link_minutes
    until = now + minutes * _MINUTE if minutes else 0
    return Holder(gateway.store.index_key, caller_of(actor), now, until)


@lru_cache(maxsize=4_096)
def caller_of(actor: Actor) -> str:
    """The caller and all that it may see, as one text; the same in every process."""
    who = (actor.role, actor.institution, actor.client, actor.user, actor.patient)
    name = "" if actor.institution else actor.name
    scopes = None if actor.scopes is None else sorted(actor.scopes)
    whole = msgspec.msgpack.encode((who, name, scopes, _rights(actor.access)))
    return blake2b(whole, digest_size=16, person=b"page-caller").hexdigest()


def _rights(access: Access) -> tuple[object, ...]:
    """An Access in an order that does not depend on the process. What scopes leave of it is said
    by the scopes."""
    sight = access.sight
    narrow = access.narrow
    return (
        access.max_class,
        None if access.owners is None else sorted(access.owners),
        None if sight is None else astuple(sight),
        None if access.homes is None else sorted(access.homes),
        sorted(access.whole),
        sorted(access.closed),
        None if narrow is None else sorted(narrow.homes),
        None if access.acts is None else sorted(access.acts),
    )
