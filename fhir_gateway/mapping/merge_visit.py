"""What a message changes of a visit: statuses in the order in which they were said.

Reports carry the visit in passing and know nothing of its status; admissions, discharges and their
cancellations may overtake each other on the way (HL7 v2.5.1 3.3; Encounter.statusHistory).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_gateway.mapping.merge import Resource, update

#: FHIR text of a time -> microseconds.
Moment = Callable[[str], int | None]


def visit(stored: Resource, new: Resource, moment: Moment) -> tuple[Resource, bool]:
    """The Encounter as it is after the new message, and whether that was older than what stands:
    then its status and its end say nothing any more."""
    merged = update(stored, new)
    merged["period"] = {**stored.get("period", {}), **new.get("period", {})}
    history: list[Any] = list(stored.get("statusHistory", ()))
    said = list(new.get("statusHistory", ()))
    older = False
    if said and history:
        older = _before(said[-1], history[-1], moment)
    if said and not older:
        merged["statusHistory"] = [*_closed(history, said[0]), *said]
        merged["status"] = new["status"]
        if new["status"] != "finished":
            merged["period"].pop("end", None)
    elif history or new.get("status", "unknown") == "unknown":
        _stay(merged, stored)
    if not merged["period"]:
        del merged["period"]
    return merged, older


def _stay(merged: Resource, stored: Resource) -> None:
    """Status, its history and the end of the visit are as they were."""
    merged["status"] = stored.get("status", "unknown")
    if "statusHistory" in stored:
        merged["statusHistory"] = stored["statusHistory"]
    end = stored.get("period", {}).get("end")
    if end is None and merged["status"] != "unknown":
        merged["period"].pop("end", None)
    elif end is not None:
        merged["period"]["end"] = end


def _before(one: Resource, other: Resource, moment: Moment) -> bool:
    """Whether one status was said before the other."""
    first, second = (moment(item.get("period", {}).get("start", "")) for item in (one, other))
    return first is not None and second is not None and first < second


def _closed(history: list[Any], new: Resource) -> list[Any]:
    """The history, its last entry ended by the new one; said twice it stands once."""
    if not history:
        return []
    last = history[-1]
    if last["status"] == new["status"]:
        return history[:-1] if last["period"] == new["period"] else [
            *history[:-1], {**last, "period": {**last["period"], "end": new["period"]["start"]}}
        ]  # fmt: skip
    end = new["period"]["start"]
    return [*history[:-1], {**last, "period": {**last["period"], "end": end}}]
