"""OUL^R22 -> FHIR: reports grouped by specimen (HL7 v2.5.1 7.3.7).

    [PID [PV1]] { SPM [{OBX}] [{SAC}] { OBR [ORC] [{NTE}] { OBX [{NTE}] } } }

The same resources as from an ORU^R01, in which the specimen follows the order. Results of the
specimen itself (OBX before any OBR) are no report and are passed over with a warning.
"""

from __future__ import annotations

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.mapping.v2 import Message, Segment, flaw
from fhir_gateway.mapping.v2_oru import (
    Mapped,
    Person,
    check_header,
    no_results,
    passed_over,
    reports_of,
)
from fhir_gateway.mapping.v2_report import Order
from fhir_gateway.security.institution import Institution


def map_oul(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Mapped:
    """The resources of an OUL^R22.

    Raises NotSupported, Forbidden or Unprocessable with the place that is wrong.
    """
    check_header(message, institution, kind="OUL", events=("R22",))
    grouping = _Grouping()
    besides = {(one.name, one.number) for one in no_results(message)}
    for segment in message.segments:
        if (segment.name, segment.number) not in besides:
            grouping.take(segment)
    person = grouping.person
    if person is None:
        raise _absent("PID", "names no patient")
    if not person.orders:
        raise _absent("OBR", "holds no report")
    mapped = reports_of(message, institution, [person], folder=folder, others=others)
    told = (*mapped.warnings, *passed_over(message), *grouping.warnings)
    return mapped._replace(warnings=list(told))


class _Grouping:
    """Sorts the segments into orders, each with the specimen that it was made of."""

    def __init__(self) -> None:
        self.person: Person | None = None
        self.warnings: list[Issue] = []
        self._specimen: Segment | None = None
        self._order: Order | None = None
        self._notes: list[Segment] | None = None

    def take(self, segment: Segment) -> None:
        """Puts a segment into its group. Raises Unprocessable for one out of place."""
        match segment.name:
            case "PID" if self.person is None:
                self.person = Person(segment)
            case "PID":
                raise _sequence(segment, "an OUL^R22 is about one patient")
            case "PV1" if self.person is not None:
                self.person.pv1 = self.person.pv1 or segment
            case "SPM":
                self._specimen, self._order, self._notes = segment, None, None
            case "OBR":
                self._begin(segment)
            case "ORC" if self._order is not None:
                self._keep(self._order._replace(orc=segment))
            case "OBX":
                self._result(segment)
            case "NTE" if self._notes is not None:
                self._notes.append(segment)

    def _begin(self, obr: Segment) -> None:
        if self.person is None:
            raise _sequence(obr, "a PID segment must come first")
        if self._specimen is None:
            raise _sequence(obr, "an SPM segment must come first")
        self._order = Order(None, obr, [], [], [self._specimen])
        self._notes = self._order.notes
        self.person.orders.append(self._order)

    def _keep(self, order: Order) -> None:
        """The order, now with its ORC; it shares the lists of the one before."""
        assert self.person is not None
        self.person.orders[-1] = self._order = order

    def _result(self, obx: Segment) -> None:
        if self._order is None:
            place = f"{obx.name}[{obx.number}]"
            text = f"{place} tells of a specimen, not of a report; it was passed over"
            self.warnings.append(Issue("informational", text, place, "v2-passed-over", "warning"))
            self._notes = None
            return
        notes: list[Segment] = []
        self._order.results.append((obx, notes))
        self._notes = notes


def _sequence(segment: Segment, why: str) -> Exception:
    place = f"{segment.name}[{segment.number}]"
    text = f"{place} is out of place: {why}"
    return flaw(Unprocessable(text, expression=place, rule="v2-sequence"), "100")


def _absent(name: str, what: str) -> Exception:
    text = f"The message {what}: there is no {name} segment"
    return flaw(Unprocessable(text, expression=f"{name}[1]", rule="v2-segment-missing"), "100")
