"""ADT^A40 and ADT^A37 -> what an institution says of two of its own patient numbers.

A40 (HL7 v2.5.1 3.3.40): {PID [PD1] MRG [PV1]}, the numbers in MRG-1 are merged into those of PID-3.
A37 (3.3.37): {PID [PD1] [PV1]} twice, two records that were one are two again. Nothing else is
taken from these messages: who a patient is comes with the results. What they say beside the numbers
(PID-5, PID-7, documents, MRG-7, who assigned a number) has to fit what is stored, no more.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.mapping.v2 import Message, Segment, flaw
from fhir_gateway.mapping.v2_draft import Draft, draft_of
from fhir_gateway.mapping.v2_oru import check_header
from fhir_gateway.mapping.v2_person import Named, named
from fhir_gateway.security.institution import Institution


class Pair(NamedTuple):
    """Two Patients, as the message names them."""

    goes: Named
    stays: Named


class Statement(NamedTuple):
    """What is said of each pair: that the first was replaced by the second, or that they part."""

    verb: Literal["merge", "part"]
    pairs: list[Pair]
    warnings: list[Issue]


def map_adt(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Statement:
    """What an ADT^A40 or ADT^A37 says.

    Raises NotSupported, Forbidden or Unprocessable with the place that is wrong.
    """
    check_header(message, institution, kind="ADT", events=("A40", "A37"))
    draft = draft_of(message, institution, folder)  # whose numbers they are, the store knows
    if message.header.text(9, 2) == "A40":
        return Statement("merge", _merged(draft, message), draft.warnings)
    return Statement("part", [_parted(draft, message)], draft.warnings)


def _merged(draft: Draft, message: Message) -> list[Pair]:
    pairs: list[Pair] = []
    survivor: Segment | None = None
    for segment in message.segments:
        if segment.name == "PID":
            survivor = segment
        elif segment.name == "MRG":
            if survivor is None:
                raise _fault(segment, "a PID segment with the number that goes on must come first")
            pairs.append(_pair(draft, segment, survivor))
            survivor = None
    if not pairs or survivor is not None:
        text = "A40 merges the numbers of an MRG segment into those of the PID segment before it"
        raise flaw(
            Unprocessable(f"{text}; one of them is missing", expression="MRG[1]",
                          rule="v2-segment-missing"), "100"
        )  # fmt: skip
    return pairs


def _parted(draft: Draft, message: Message) -> Pair:
    found = [segment for segment in message.segments if segment.name == "PID"]
    if len(found) != 2:
        raise flaw(
            Unprocessable("A37 parts the patients of two PID segments", expression="PID",
                          rule="v2-segment-missing"), "100"
        )  # fmt: skip
    return _pair(draft, found[1], found[0])


def _pair(draft: Draft, goes: Segment, stays: Segment) -> Pair:
    pair = Pair(_named(draft, goes), _named(draft, stays))
    if pair.goes.id == pair.stays.id:
        raise _fault(goes, "this is the number of the other patient too")
    return pair


def _named(draft: Draft, segment: Segment) -> Named:
    if segment.name == "MRG":
        return named(draft, segment, number=1, name=7)
    return named(draft, segment, number=3, name=5, born=7)


def _fault(segment: Segment, why: str) -> Exception:
    place = f"{segment.name}[{segment.number}]"
    return flaw(Unprocessable(f"{place}: {why}", expression=place, rule="v2-merge"), "102")
