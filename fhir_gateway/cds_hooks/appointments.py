"""Appointments as order lines: what is being booked is what would be examined.

Hook appointment-book 1.0; hl7.org/fhir/R4/appointment.html. The order behind an appointment
(`basedOn`) says more than its kind of service, so it counts where it came with the call: contained,
or in the prefetched ServiceRequests. Otherwise `serviceType` is read as the code of an order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fhir_gateway.cds_hooks.request import Draft

Resource = dict[str, Any]

#: Nobody examines anything at an appointment of these statuses.
_OFF = frozenset({"cancelled", "noshow", "entered-in-error", "fulfilled"})
#: Elements of an order that an appointment has under the same name and meaning.
_SAME = ("reasonCode", "meta")


def as_orders(drafts: Sequence[Draft], resources: Iterable[Mapping[str, Any]]) -> tuple[Draft, ...]:
    """The appointments as ServiceRequests, under their own references."""
    known = {
        f"ServiceRequest/{one.get('id')}": dict(one)
        for one in resources
        if one.get("resourceType") == "ServiceRequest"
    }
    return tuple(
        Draft(draft.reference, draft.expression, order)
        for draft in drafts
        if str(draft.resource.get("status")) not in _OFF
        for order in _orders(draft.resource, known)
    )


def _orders(appointment: Resource, known: Mapping[str, Resource]) -> Iterator[Resource]:
    """One order for an appointment, whatever number of orders and services it names."""
    contained = {
        f"#{one.get('id')}": one
        for one in _objects(appointment.get("contained"))
        if one.get("resourceType") == "ServiceRequest"
    }
    behind = [
        order
        for reference in map(_reference, _objects(appointment.get("basedOn")))
        if (order := contained.get(reference) or known.get(_relative(reference))) is not None
    ]
    if behind:
        first, *others = behind
        details = [one["code"] for one in others if isinstance(one.get("code"), dict)]
        yield {**first, "orderDetail": [*_objects(first.get("orderDetail")), *details]}
        return
    services = _objects(appointment.get("serviceType"))
    if services:
        same = {name: appointment[name] for name in _SAME if name in appointment}
        yield {
            "resourceType": "ServiceRequest",
            **same,
            "code": services[0],
            "orderDetail": services[1:],
        }


def _reference(holder: Resource) -> str:
    reference = holder.get("reference")
    return reference if isinstance(reference, str) else ""


def _relative(reference: str) -> str:
    """The last two parts of a reference to another server."""
    return "/".join(reference.split("/_history/", maxsplit=1)[0].split("/")[-2:])


def _objects(value: Any) -> list[Resource]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
