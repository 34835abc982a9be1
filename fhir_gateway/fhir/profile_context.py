"""What the judging of profiles asks of the world, and where it writes what it finds.

Everything that lies above the standard's own room (terminology, other resources, the hour) comes
in as functions of a Context; a Run gathers the issues of one resource. FHIR R4 validation.html.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from fhir_gateway.errors import Issue, Severity

MAX_ISSUES = 100

_ERRORS = ("error", "fatal")
_ORDER = {"fatal": 0, "error": 0, "warning": 1, "information": 2}

Resource = Mapping[str, Any]


class Place(NamedTuple):
    """Where a value stands: below what, by which name and index, and of which FHIR type it is."""

    above: Place | None
    name: str
    number: int  # -1: not in an array
    type: str

    def path(self) -> str:
        """The FHIRPath, such as Observation.component[1].code."""
        parts: list[str] = []
        place: Place | None = self
        while place is not None:
            parts.append(place.name if place.number < 0 else f"{place.name}[{place.number}]")
            place = place.above
        return ".".join(reversed(parts))


class Finding(NamedTuple):
    """What a function of the context says of one value. `below` is a path inside of it."""

    rule: str
    code: str
    severity: Severity
    says: str
    below: str = ""


#: Says what is wrong with one value; nothing most of the time.
Look = Callable[[Resource], Sequence[Finding]]


def _nothing(value: Resource) -> Sequence[Finding]:
    return ()


def _not_known(*names: str) -> None:
    """Nobody answers: what cannot be looked up is not known."""


@dataclass(frozen=True, slots=True)
class Context:
    """What judging may ask.

    `member(value set, system, code)` and `systems(value set)` answer None where that cannot be
    known. `coding`, `quantity`, `identifier` and `whole` look at every value of that type and at
    every resource. `known` are the definitions of extensions. `resolve` finds what a reference
    names outside of the resource; None: not here. `now` is in microseconds since 1970 UTC.

    `sound` remembers members of resources that were judged by this very context without a word
    (`profile_base`): a new one, with other terminology or definitions, has forgotten them.
    """

    member: Callable[[str, str, str], bool | None] = _not_known
    systems: Callable[[str], frozenset[str] | None] = _not_known
    coding: Look = _nothing
    quantity: Look = _nothing
    identifier: Look = _nothing
    whole: Look = _nothing
    known: Library | None = None
    resolve: Callable[[str], Resource | None] = _not_known
    now: int = 0
    sound: set[tuple[str, str, bytes]] = field(default_factory=set, compare=False, repr=False)


#: Notes what is wrong with one value: the run, the value (None: none), what JSON says beside a
#: primitive under `_name`, its place.
Judge = Callable[["Run", Any, Any, Place], None]


class Judgement(Protocol):
    """A compiled profile, as other profiles and extensions ask it."""

    url: str

    def judge(self, run: Run, value: Any, sibling: Any, place: Place) -> None:
        """Notes what is wrong with a value by this profile."""


class Library(Protocol):
    """The StructureDefinitions that are known here."""

    def find(self, canonical: str) -> Resource | None:
        """The definition of a canonical url, also with |version; None when it is not known."""

    def profile(self, canonical: str) -> Judgement | None:
        """The same compiled; None when it is not known."""


class Enough(Exception):
    """There are as many issues as are told."""


class Run:
    """The judging of one resource: what is asked, what was found."""

    __slots__ = (
        "active", "context", "counts", "cut", "found", "hints", "limit", "now", "resolve",
        "resource", "root", "seen", "waiting",
    )  # fmt: skip

    def __init__(
        self, root: Resource, context: Context, *, limit: int = MAX_ISSUES, hints: bool = True
    ) -> None:
        self.root = root  # %rootResource: what contains all
        self.resource = root  # %resource: the nearest resource
        self.context = context
        self.resolve, self.now = context.resolve, context.now  # a request may have others
        self.found: list[Issue] = []
        self.seen: set[tuple[str, str | None, str | None, str]] = set()
        self.limit = limit
        self.counts = [0, 0]  # of all else, of errors
        self.cut = False
        self.hints = hints  # whether what is only information is told
        #: Resources that Bundles hold, and which are judged one after the other.
        self.waiting: list[tuple[Resource, Place]] = []
        self.active: set[tuple[int, str]] = set()  # values under judgement, by which profile

    def add(
        self, place: Place, code: str, rule: str, says: str, severity: Severity = "error"
    ) -> None:
        """Notes an issue of a place, once. Raises Enough when there are more than are told."""
        if severity == "information" and not self.hints:
            return
        path = place.path()
        self.note(Issue(code, f"{path} {says}", path, rule, severity))

    def note(self, issue: Issue) -> None:
        """Notes an issue, once. Errors and all else are counted apart, so that no number of
        warnings hides an error. Raises Enough when there are more errors than are told."""
        told = "" if issue.code == "invariant" else issue.diagnostics
        key = (told, issue.expression, issue.rule, issue.severity)
        if key in self.seen:
            return
        error = issue.severity in _ERRORS
        if self.counts[error] >= self.limit:
            self.cut = True
            if error:
                raise Enough
            return
        self.counts[error] += 1
        self.seen.add(key)
        self.found.append(issue)

    def issues(self) -> list[Issue]:
        """What was found, errors first, and a last line when there is more."""
        if not self.found and not self.cut:
            return []
        found = sorted(self.found, key=lambda issue: _ORDER[issue.severity])
        return [*found, more(self.limit)] if self.cut else found

    def findings(self, place: Place, found: Sequence[Finding]) -> None:
        """Notes what a function of the context has found."""
        for one in found:
            if one.severity == "information" and not self.hints:
                continue
            where = place.path() + one.below
            self.note(Issue(one.code, f"{where} {one.says}", where, one.rule, one.severity))


class Probe(Run):
    """A run that only says whether there is an error: its first one ends it."""

    __slots__ = ()

    def note(self, issue: Issue) -> None:
        """Raises Enough for an error, and forgets the rest."""
        if issue.severity in _ERRORS:
            raise Enough


def passes(run: Run, judge: Judge, value: Any, sibling: Any, place: Place) -> bool:
    """Whether a judge finds no error in a value."""
    probe = Probe(run.root, run.context)
    probe.resolve, probe.now = run.resolve, run.now
    probe.resource, probe.active = run.resource, run.active
    try:
        judge(probe, value, sibling, place)
    except Enough:
        return False
    return True


def more(limit: int) -> Issue:
    """The last line of a list that was cut."""
    return Issue(
        "too-costly",
        f"There are more issues than the {limit} that are listed; correct these and ask again",
        None,
        "more-issues",
        "information",
    )
