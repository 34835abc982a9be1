"""What else a write carries into its commit: received bytes, the answer to a repeat, a message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.interactions.letters import stored_row, under_way
from fhir_gateway.interactions.steps import Step
from fhir_gateway.store.blobs import pack
from fhir_gateway.store.changes import ChangeSet, Committed, Once, Received

#: Media types of resources that a client wrote itself.
FHIR_MEDIA = frozenset({"application/fhir+json", "application/fhir+xml"})


class Extras(NamedTuple):
    """What else a change set carries. `base` is the FHIR base as the client called it: addresses
    below it are ours."""

    received: Received | None = None
    once: Once | None = None
    only_if_changed: bool = False
    base: str = ""

    @property
    def is_fhir(self) -> bool:
        """Whether a client wrote the resources themselves: none was made of a message or image."""
        return self.received is None or self.received.media in FHIR_MEDIA


NO_EXTRAS = Extras()


def with_bytes(extras: Extras) -> Extras:
    """With the bytes of the FHIR request under way, so that each version tells where it is from."""
    letter = under_way()
    if letter is None or extras.received is not None or letter.door != "fhir":
        return extras
    return extras._replace(received=Received(letter.hash, letter.media, *pack(letter.raw)))


def enclose(change_set: ChangeSet, steps: Sequence[Step]) -> None:
    """Has the commit register the message under way, with what was made of it."""
    letter = under_way()
    if letter is None or letter.part or not letter.institution:
        return
    resources = [step.resource for step in steps if step.resource is not None]
    unmapped = _unmapped(steps)
    change_set.messages.append(stored_row(letter, resources, unmapped))


def delivered(committed: Committed, steps: Sequence[Step]) -> None:
    """The message under way is registered, unless this was a repeat of it, or a part."""
    letter = under_way()
    if letter is None or committed.repeated:
        return
    if letter.part:
        letter.stored += 1
        letter.unmapped += _unmapped(steps)
    else:
        letter.told = True


def _unmapped(steps: Sequence[Step]) -> list[str]:
    return [one for step in steps for one in step.coding.unmapped]
