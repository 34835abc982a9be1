"""Which rounds of the register make a mark at a moment, for those who read the register."""

from __future__ import annotations

from collections.abc import Iterable

from fhir_gateway.recognition.criteria_mark import said_at
from fhir_gateway.recognition.situation import period
from fhir_gateway.store.changes import Evaluation


def marks_at(rows: Iterable[Evaluation], moment: int, zone: str) -> list[Evaluation]:
    """For each area in which these rows make the mark at a moment, the round that makes it."""
    areas: dict[str, list[tuple[int, int, Evaluation]]] = {}
    for row in rows:
        areas.setdefault(row.area, []).append((*period(row.start, row.end, zone), row))
    found = []
    for area in sorted(areas):
        if said_at(areas[area], moment) == "passed":
            held = [one for one in areas[area] if one[0] <= moment <= one[1] and one[2].passed]
            found.append(max(held, key=lambda one: (one[0], one[2].evaluator, one[2].round))[2])
    return found
