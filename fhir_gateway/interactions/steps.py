"""A write as data: one step for each resource, and the guards that a set of steps carries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fhir_gateway.interactions.conditional import Condition
from fhir_gateway.interactions.prepare import Coding
from fhir_gateway.interactions.references import Slot, expression
from fhir_gateway.store.changes import Guard, Put
from fhir_gateway.store.store import Stored


@dataclass(slots=True)
class Step:
    """One write. `id` is "" until a create or a conditional update is resolved.

    `root` is the FHIRPath of the resource for messages ("Bundle.entry[3].resource", "Patient"),
    `if_match` the version the caller insists on (0: one that cannot be), `absent` its
    If-None-Match: *.
    """

    op: str
    type: str
    id: str
    root: str
    resource: dict[str, Any] | None = None
    full_url: str | None = None
    condition: Condition | None = None
    if_match: int | None = None
    absent: bool = False
    body_id: str | None = None  # of a conditional update: the id that its body claims
    raw: bytes = b"\\u"  # the JSON of the resource, see references.slots
    slots: list[Slot] = field(default_factory=list)
    coding: Coding = field(default_factory=lambda: Coding([], []))
    about: str = ""  # of a Provenance: the target in whose home it stands
    current: Stored | None = None  # as the attempt's snapshot shows it
    put: Put | None = None  # None: nothing to store (a conditional create that found its match)

    @property
    def name(self) -> str:
        """The resource as "Type/id"."""
        return f"{self.type}/{self.id}"

    @property
    def matched(self) -> bool:
        """True for a conditional create that found its resource."""
        return self.op == "create" and self.current is not None

    def place_of(self, slot: Slot) -> str:
        """The FHIRPath of one of its references."""
        return expression(self.root, self.resource or {}, slot)


@dataclass(slots=True)
class Guards:
    """The guards of one attempt. `ours` are those that the caller did not ask for: when one of
    them fails, another request was faster, and a new snapshot may do better."""

    all: list[Guard] = field(default_factory=list)
    ours: set[int] = field(default_factory=set)

    def add(self, guard: Guard, *, ours: bool = False) -> None:
        """Appends a guard."""
        if ours:
            self.ours.add(len(self.all))
        self.all.append(guard)
