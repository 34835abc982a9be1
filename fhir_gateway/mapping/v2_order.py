"""ORM^O01 and OML^O21 -> ServiceRequest (HL7 v2.5.1 4.4.1, 4.4.6; v2-to-FHIR ORC and OBR maps).

    {PID [PV1]} { ORC [OBR [NTE] {OBX} {SPM}] }

An order is known by its placer number (ORC-2, OBR-2) and the code of its service, as in a report
about it, so that order and report speak of one ServiceRequest. What ORC-1 does to it stands in
mappings/v2/order-control.csv; where that is a change of status alone, ORC-5 says which.
"""

from __future__ import annotations

from fhir_gateway.errors import Unprocessable
from fhir_gateway.mapping.stated_at import stated_at
from fhir_gateway.mapping.tables import look_up
from fhir_gateway.mapping.v2 import Message, Segment, flaw, missing, wrong
from fhir_gateway.mapping.v2_draft import Draft, draft_of
from fhir_gateway.mapping.v2_oru import Mapped, check_header, persons
from fhir_gateway.mapping.v2_person import encounter, patient
from fhir_gateway.mapping.v2_report import Order, service_request
from fhir_gateway.security.institution import Institution

ORDER_EVENTS = {"ORM": ("O01",), "OML": ("O21",)}


def map_order(
    message: Message,
    institution: Institution,
    *,
    folder: str,
    others: frozenset[str] = frozenset(),
) -> Mapped:
    """The ServiceRequests of an ORM^O01 or OML^O21.

    Raises NotSupported, Forbidden or Unprocessable with the place that is wrong.
    """
    kind = message.header.text(9)
    check_header(message, institution, kind=kind, events=ORDER_EVENTS[kind])
    draft = draft_of(message, institution, folder, others)
    numbers: list[tuple[str, str]] = []
    _check_groups(message)
    for person in persons(message):
        subject = patient(draft, person.pid)
        visit = encounter(draft, person.pv1, subject) if person.pv1 else None
        for order in person.orders:
            numbers.append(_order(draft, message, order, subject, visit))
    return Mapped(draft.resources, [], draft.warnings, tuple(numbers))


def _check_groups(message: Message) -> None:
    """Raises Unprocessable for an ORC without its OBR: an order that is not named by its service
    would be passed over."""
    last: Segment | None = None
    for segment in (*message.segments, None):
        if segment is not None and segment.name not in ("ORC", "OBR"):
            continue
        if last is not None and (segment is None or segment.name == "ORC"):
            place = f"{last.name}[{last.number}]"
            error = Unprocessable(
                f"{place} has no OBR after it that names the service",
                expression=place,
                rule="v2-segment-missing",
            )
            raise flaw(error, "100")
        last = segment if segment is not None and segment.name == "ORC" else None


def _order(
    draft: Draft,
    message: Message,
    order: Order,
    subject: dict[str, str],
    visit: dict[str, str] | None,
) -> tuple[str, str]:
    """Adds one ServiceRequest; its placer and filler number."""
    if order.orc is None:
        raise flaw(
            Unprocessable(
                f"OBR[{order.obr.number}] has no ORC before it",
                expression="ORC[1]",
                rule="v2-segment-missing",
            ),
            "100",
        )
    placer = order.orc.text(2) or order.obr.text(2)
    if not placer:
        raise missing(order.orc, 2, "The placer's number of the order")
    if not order.obr.field(4) or not draft.concept(order.obr.parts(order.obr.repetitions(4)[0])):
        raise missing(order.obr, 4, "The service that is ordered")
    service_request(draft, order, subject, visit, _status(draft, order.orc))
    resource = draft.resources[-1]
    resource.pop("performer", None)  # who orders is not who performs
    if own := draft.extensions(order.obr):
        resource["extension"] = own
    stated_at(resource, draft.time(order.orc, 9) or draft.time(message.header, 7))
    return placer, order.orc.text(3) or order.obr.text(3)


def _status(draft: Draft, orc: Segment) -> str:
    """What ORC-1 and ORC-5 make of the order. Raises Unprocessable for codes of no table."""
    control = look_up(draft.rows("order-control"), orc.text(1))
    if control is None:
        raise wrong(orc, 1, "this order control is not taken in here", condition="103")
    if control.code or not orc.text(5):
        return control.code or "unknown"
    status = look_up(draft.rows("order-status"), orc.text(5))
    if status is None:
        raise wrong(orc, 5, "this status is not in its HL7 table", condition="103")
    return status.code
