"""Z segments: what a sender adds to the standard, kept word for word where it stands.

HL7 v2.5.1 2.4: a segment whose name begins with Z is of local definition. Nobody here knows what
it says, so nothing is read of it: the text goes into the extension `v2-segment` of the resource
that the segment before it is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_gateway.mapping.v2 import Message
from fhir_gateway.settings import CANONICAL

URL = f"{CANONICAL}/StructureDefinition/v2-segment"

#: Segments that a resource is made of; what follows others belongs to the one before those.
_ANCHORS = frozenset({"PID", "PV1", "OBR", "OBX", "SCH"})

#: Longer ones are kept in the message alone.
_LONGEST = 20_000


def own_segments(message: Message) -> dict[tuple[str, int], list[str]]:
    """Z segments as sent, by name and number of the segment that they are told of."""
    found: dict[tuple[str, int], list[str]] = {}
    anchor, waiting = None, list[str]()
    for segment in message.segments:
        if segment.name == "ORC":
            anchor = None  # what follows is about the OBR to come
        elif segment.name in _ANCHORS:
            anchor = (segment.name, segment.number)
            found.setdefault(anchor, []).extend(waiting)
            waiting = []
        elif segment.name.startswith("Z"):
            text = segment.delimiters.field.join(segment.fields)
            if len(text) <= _LONGEST:
                (waiting if anchor is None else found[anchor]).append(text)
    if waiting and anchor is None:
        last = next(reversed(found), None)
        if last is not None:
            found[last].extend(waiting)
    return {key: texts for key, texts in found.items() if texts}


def extensions(texts: Iterable[str]) -> list[dict[str, Any]]:
    """One extension for each segment."""
    return [{"url": URL, "valueString": text} for text in texts]
