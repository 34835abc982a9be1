"""A write as data: one step for each resource, and the guards that a set of steps carries."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fhir_gateway.errors import GatewayError, Issue, Unprocessable
from fhir_gateway.interactions.conditional import Condition
from fhir_gateway.interactions.links import Link
from fhir_gateway.interactions.prepare import Coding
from fhir_gateway.interactions.references import Slot, expressions
from fhir_gateway.store.changes import Entry, Guard, Put
from fhir_gateway.store.claim_refusals import ClaimLost, ClaimRefused
from fhir_gateway.store.claim_rows import Claim
from fhir_gateway.store.store import Stored

#: A patch: from the current version to the next, sound; None when it changes nothing.
Edit = Callable[[Stored], dict[str, Any] | None]


@dataclass(slots=True)
class Step:
    """One write. `id` is "" until a create or a condition is resolved.

    `root` is the FHIRPath of the resource for messages ("Bundle.entry[3].resource", "Patient"),
    `if_match` the version the caller insists on (interactions.etag), `absent` its
    If-None-Match: *. A patch is an update whose `resource` is made from the current version by
    `edit`, anew in each attempt.
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
    places: dict[int, str] | None = None  # of the slots, see place_of; None: not looked for
    links: list[Link] | None = None  # other links than References; None: not looked for
    coding: Coding = field(default_factory=lambda: Coding([], []))
    about: str = ""  # of a Provenance: the target in whose home it stands
    current: Stored | None = None  # as the attempt's snapshot shows it
    edit: Edit | None = None
    issues: tuple[Issue, ...] = ()  # of profiles, told to the caller
    put: Put | None = None  # None: nothing to store, see `matched`

    @property
    def name(self) -> str:
        """The resource as "Type/id"."""
        return f"{self.type}/{self.id}"

    @property
    def matched(self) -> bool:
        """True when there is nothing to store: a conditional create that found its resource, a
        patch that changes nothing."""
        if self.edit is not None:
            return self.resource is None
        return self.op == "create" and self.current is not None

    @property
    def line(self) -> Hashable:
        """Where requests wait that change the same as this one."""
        return self.name if self.condition is None else self.condition.key

    def place_of(self, slot: Slot) -> str:
        """The FHIRPath of one of its references."""
        if self.places is None:
            self.places = expressions(self.root, self.resource or {}, self.slots)
        return self.places.get(id(slot.holder), self.root)

    def placed(self, error: GatewayError) -> GatewayError:
        """The same refusal, with the entry of a Bundle as its place."""
        if not self.root.startswith("Bundle."):
            return error
        issues = (replace(issue, expression=self._placed(issue)) for issue in error.issues)
        again = error.__class__(issues=tuple(issues))
        vars(again).update({k: v for k, v in vars(error).items() if k != "issues"})
        return again

    def _placed(self, issue: Issue) -> str:
        path = issue.expression or ""
        if path.startswith("Bundle."):
            return path
        head, dot, rest = path.partition(".")
        return self.root + dot + rest if head in (self.type, "Parameters") else self.root


@dataclass(slots=True)
class Guards:
    """The guards of one attempt. `ours` are those that the caller did not ask for: when one of
    them fails, another request was faster, and a new snapshot may do better."""

    all: list[Guard] = field(default_factory=list)
    ours: set[int] = field(default_factory=set)
    places: dict[int, str] = field(default_factory=dict)
    lines: dict[int, Hashable] = field(default_factory=dict)
    epoch: int = 0  # of the snapshot that the attempt was judged by
    puts: list[Put] = field(default_factory=list)  # what a governor stores with the write
    claims: list[Claim] = field(default_factory=list)  # what it claims of bookable time
    journal: list[Entry] = field(default_factory=list)  # what else is to be on record
    counts: list[str] = field(default_factory=list)  # counters that rise once it is stored
    judge: Callable[[], None] = lambda: None  # raises for what the caller's scopes do not let

    def add(self, guard: Guard, *, ours: bool = False, at: str = "", line: Hashable = None) -> None:
        """Appends a guard; `at` is the FHIRPath of what it guards, `line` where to wait when
        another request was faster (interactions.turns)."""
        index = len(self.all)
        if ours:
            self.ours.add(index)
        if at:
            self.places[index] = at
        if line is not None:
            self.lines[index] = line
        self.all.append(guard)

    @staticmethod
    def index_of(error: GatewayError) -> int:
        """Which guard a refusal of the store is about, -1 for none: what it says of claims has
        their numbers."""
        is_claim = isinstance(error, ClaimLost | ClaimRefused)
        return -1 if is_claim else getattr(error, "guard", -1)

    def placed(self, error: GatewayError, index: int) -> GatewayError:
        """The refusal by a guard, with the place of what it guards."""
        place = self.places.get(index)
        if place is None:
            return error
        issues = (replace(one, expression=one.expression or place) for one in error.issues)
        return error.__class__(issues=tuple(issues))


def check_overlap(steps: Sequence[Step]) -> None:
    """Raises Unprocessable when a condition leads to what another entry writes too."""
    if len(steps) == 1 or not any(step.condition for step in steps):
        return
    seen: set[str] = set()
    issues = []
    for step in steps:
        if not step.id or (step.op == "create" and step.current is not None):
            continue
        if step.name in seen:
            sentence = "This entry and another one are about the same resource"
            issues.append(Issue("invalid", sentence, step.root, "overlap"))
        seen.add(step.name)
    if issues:
        raise Unprocessable(issues=tuple(issues))
