"""A v2 message that was carried out, kept with its bytes and its answer. docs/booking-v2.md"""

from __future__ import annotations

from collections.abc import Sequence

from fhir_gateway.context import Gateway
from fhir_gateway.errors import Issue
from fhir_gateway.interactions.intake import ONCE_KIND, V2_MEDIA, Sent
from fhir_gateway.interactions.letters import stored_row, under_way
from fhir_gateway.mapping.v2_messages import OF_BOOKING, REQUESTS
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet, Once, Received


async def kept(gateway: Gateway, sent: Sent, said: bytes, warnings: Sequence[Issue]) -> bytes:
    """Keeps a message under its control id; the answer that it got, which is another's where the
    same message came twice at once. Where this is not reached, a repeat finds what was done under
    the message's own key."""
    change_set = ChangeSet(
        id=gateway.random(16),
        once=Once(ONCE_KIND, sent.key, sent.digest + said),
        received=[Received(sent.digest, V2_MEDIA, *pack(sent.raw))],
    )
    if (letter := under_way()) is not None:
        letter.warnings, letter.code = tuple(warnings), "AA"
        letter.ack, letter.told = said, True
        if sent.header.kind not in REQUESTS:
            letter.kind += OF_BOOKING
        change_set.messages = [stored_row(letter, (), ())]
    committed = await gateway.store.commit(change_set)
    if committed.repeated and committed.response[: len(sent.digest)] == sent.digest:
        return committed.response[len(sent.digest) :]
    return said
