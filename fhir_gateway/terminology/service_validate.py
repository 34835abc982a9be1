"""$validate-code: whether a code is right (FHIR R4 valueset-operation-validate-code).

A code is right when its system has it, its display is one of its names, and the value set has it.
What cannot be decided, because a system is not here or only a part of it, is not right: the issue
`not-found` says what is missing. Rules of issues are the codes of HL7's tx-issue-type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fhir_gateway.errors import Issue, Severity
from fhir_gateway.terminology.compose import NO_PINS, Pins
from fhir_gateway.terminology.compose_members import Member, contains, find, member_of
from fhir_gateway.terminology.compose_parts import Composed, Part
from fhir_gateway.terminology.service_library import Library
from fhir_gateway.terminology.service_likely import (
    code_named,
    likely_code,
    likely_system,
    system_of_value_set,
)
from fhir_gateway.terminology.service_names import display_of, folded, names_of, speaks
from fhir_gateway.terminology.service_sentences import say
from fhir_gateway.terminology.system import Concept, System


class Coding(NamedTuple):
    """A code that somebody sent, and where it stands in the request."""

    system: str
    code: str
    version: str = ""
    display: str = ""
    expression: str = ""


class Checking(NamedTuple):
    """How to judge. `language` is displayLanguage; `abstract` whether an abstract code will do;
    `infer` finds the system of a code that comes without one."""

    language: str = ""
    abstract: bool = True
    lenient_display: bool = False
    active_only: bool = False
    infer: bool = False
    date: str = ""
    pins: Pins = NO_PINS


CHECKED = Checking()


class Verdict(NamedTuple):
    """What was found. `known` is False when `result` is, because it could not be decided.

    `coding` is the code that was judged right, else the first: in the spelling of its system, with
    the version that it was judged by and the display that is right.
    """

    result: bool
    message: str
    issues: tuple[Issue, ...]
    coding: Coding
    inactive: bool
    known: bool
    named: bool = False


class _Judged(NamedTuple):
    """One coding. `right` is None when it cannot be decided."""

    coding: Coding
    right: bool | None
    issues: tuple[Issue, ...]
    inactive: bool = False
    named: bool = False


def judge(
    codings: Sequence[Coding], composed: Composed | None, library: Library, checking: Checking
) -> Verdict:
    """The verdict on a code, or on a CodeableConcept: one right coding is enough."""
    if not codings:
        issue = _issue("invalid", "invalid-data", say("no-coding", checking.language))
        return Verdict(False, issue.diagnostics, (issue,), Coding("", ""), False, True)
    judged = [_Judge(one, composed, library, checking).verdict() for one in codings]
    best = next((one for one in judged if one.right), judged[0])
    issues = [issue for one in judged for issue in one.issues]
    if best.right:
        issues = [one if one.severity != "error" else _softened(one) for one in issues]
    known = bool(best.right) or all(one.right is not None for one in judged)
    shown = [one for one in issues if best.right or one.severity == "error"]
    message = "; ".join(dict.fromkeys(one.diagnostics for one in shown))
    return Verdict(
        bool(best.right), message, tuple(issues), best.coding, best.inactive, known, best.named
    )


def _softened(issue: Issue) -> Issue:
    """What is wrong with one coding where another one is right."""
    return Issue(issue.code, issue.diagnostics, issue.expression, issue.rule, "warning")


def _issue(
    code: str, rule: str, text: str, expression: str = "", severity: Severity = "error"
) -> Issue:
    return Issue(code, text, expression or None, rule, severity)


class _Judge:
    """One coding on its way through the questions; notes what it finds."""

    def __init__(
        self, coding: Coding, composed: Composed | None, library: Library, checking: Checking
    ) -> None:
        self.coding = coding
        self.composed = composed
        self.library = library
        self.checking = checking
        self.issues: list[Issue] = []
        self.unknown = False

    def verdict(self) -> _Judged:
        """The coding judged."""
        if not self.coding.code:
            self._note("invalid", "invalid-data", "no-code")
            return self._done()
        if not self.coding.system and not self._infer():
            return self._done()
        system = self._system()
        if system is None:
            return self._without_system()
        concept = system.find(self.coding.code)
        if concept is None:
            return self._without_concept(system)
        self._judge_concept(system, concept)
        member = self._judge_member()
        shown = member.concept if member is not None else concept
        self._judge_display(system, shown)
        name = display_of(shown, system, self.checking.language)
        told = self.coding._replace(
            system=system.url, code=concept.code, version=system.version, display=name
        )
        return self._done(told, inactive=shown.inactive)

    # -- noting ----------------------------------------------------------------------------------

    def _note(
        self,
        code: str,
        rule: str,
        sentence: str,
        *,
        more: str = "",
        at: str = "code",
        severity: Severity = "error",
        **values: str,
    ) -> None:
        known = {"code": self.coding.code, "system": self.coding.system} | values
        text = say(sentence, self.checking.language, **known) + more
        base = self.coding.expression
        where = f"{base}.{at}" if base else at
        self.issues.append(_issue(code, rule, text, where, severity))

    def _more(self, sentence: str, **values: str) -> str:
        return say(sentence, self.checking.language, **values)

    def _done(self, told: Coding | None = None, *, inactive: bool = False) -> _Judged:
        wrong = any(one.severity == "error" for one in self.issues)
        right: bool | None = not wrong
        if self.unknown and all(one.code == "not-found" or one.severity != "error"
                                for one in self.issues):  # fmt: skip
            right = None
        return _Judged(told or self.coding, right, tuple(self.issues), inactive, told is not None)

    # -- the system ------------------------------------------------------------------------------

    def _infer(self) -> bool:
        """Finds the system of a code without one, where the value set has it in one alone."""
        if not self.checking.infer or self.composed is None:
            self._note("invalid", "invalid-data", "no-system", at="system")
            return False
        has = dict.fromkeys(
            part.system
            for part in _parts(self.composed)
            if contains(self.composed, part.system, self.coding.code)
        )
        if len(has) != 1:
            sentence = "inferred-twice" if has else "not-inferred"
            self._note("not-found", "cannot-infer", sentence, systems=", ".join(has))
            return False
        self.coding = self.coding._replace(system=next(iter(has)))
        return True

    def _system(self) -> System | None:
        version = self.coding.version or self._pinned()
        return self.library.system(self.coding.system, version, date=self.checking.date)

    def _pinned(self) -> str:
        """The version by which the value set or the request wants the code judged."""
        pins = self.checking.pins
        for one in (*pins.force, *pins.default, *pins.check):
            if one.url == self.coding.system:
                return one.version
        if self.composed is not None:
            for part in _parts(self.composed):
                if part.system == self.coding.system and part.found is not None:
                    return part.version
        return ""

    def _without_system(self) -> _Judged:
        coding, known = self.coding, self.library.versions(self.coding.system)
        if known:
            self.unknown = True
            version = coding.version or self._pinned()
            names = ", ".join(one for one in known if one) or "-"
            self._note("not-found", "not-found", "unknown-version", at="version",
                       version=version, known=names)  # fmt: skip
            return self._done()
        if self.composed is not None and contains(self.composed, coding.system, coding.code):
            return self._listed_only(self.composed)
        self.unknown = True
        self._note("not-found", "not-found", "unknown-system", at="system", more=self._likely())
        return self._done()

    def _listed_only(self, composed: Composed) -> _Judged:
        """A value set lists codes of a system that is not here, or not all of it: membership can
        be told."""
        self._note("not-found", "not-found", "listed-only", at="system", severity="warning")
        member = find(composed, self.coding.system, self.coding.code)
        if member is None:
            return self._done()
        name = display_of(member.concept, None, self.checking.language)
        return self._done(self.coding._replace(display=name), inactive=member.concept.inactive)

    def _likely(self) -> str:
        url = self.coding.system
        of_value_set = system_of_value_set(self.library, url)
        if of_value_set:
            return self._more("value-set-as-system", likely=of_value_set)
        likely = likely_system(self.library, url)
        return self._more("likely-system", likely=likely) if likely else ""

    # -- the code --------------------------------------------------------------------------------

    def _without_concept(self, system: System) -> _Judged:
        if system.content != "complete":
            if self.composed is not None and contains(
                self.composed, self.coding.system, self.coding.code
            ):
                return self._listed_only(self.composed)
            self.unknown = True
            self._note("not-found", "not-found", "in-fragment")
            return self._done()
        likely = likely_code(system, self.coding.code)
        more = self._more("code-spelled", likely=likely) if likely else self._under_other()
        self._note("code-invalid", "invalid-code", "unknown-code", more=more)
        return self._done()

    def _under_other(self) -> str:
        """The system in which the value set has this code, for a code with the wrong system."""
        parts = _parts(self.composed) if self.composed is not None else ()
        other = next(
            (one.system for one in parts if one.system != self.coding.system
             and member_of(one, one.system, self.coding.code)), ""
        )  # fmt: skip
        return self._more("in-under-other", likely=other) if other else ""

    def _judge_concept(self, system: System, concept: Concept) -> None:
        if concept.abstract and not self.checking.abstract:
            self._note("business-rule", "code-rule", "abstract")
        if concept.inactive and self.checking.active_only:
            self._note("business-rule", "code-rule", "retired-active-only")
        elif concept.inactive:
            self._note("business-rule", "status-check", "inactive", severity="warning")

    # -- the value set ---------------------------------------------------------------------------

    def _judge_member(self) -> Member | None:
        composed, coding = self.composed, self.coding
        if composed is None:
            return None
        inside = contains(composed, coding.system, coding.code)
        url = composed.url or "#"
        if inside is None:
            self.unknown = True
            missing = ", ".join(_missing(composed)) or url
            self._note("not-found", "not-found", "cannot-tell", value_set=url, missing=missing)
            return None
        member = find(composed, coding.system, coding.code) if inside else None
        if member is None:
            self._note("code-invalid", "not-in-vs", "not-in-value-set", value_set=url,
                       more=self._under_other())  # fmt: skip
        elif coding.version and member.version and not _same(coding.version, member.version):
            self._note("invalid", "version-error", "other-version", at="version",
                       wanted=member.version, version=coding.version)  # fmt: skip
        return member

    # -- the display -----------------------------------------------------------------------------

    def _judge_display(self, system: System, concept: Concept) -> None:
        given, language = self.coding.display, self.checking.language
        if not given:
            return
        names = list(names_of(concept, system))
        if any(one.value == given for one in names):
            return
        same = next((one.value for one in names if folded(one.value) == folded(given)), "")
        if same:
            self._note("informational", "display-comment", "display-spelled", at="display",
                       severity="information", display=given, name=same)  # fmt: skip
            return
        if not names:
            self._note("informational", "display-comment", "nameless", at="display",
                       severity="information", display=given)  # fmt: skip
            return
        wanted = [one for one in names if speaks(one.language, language)] or names
        told = ", ".join(
            f"'{one.value}' ({one.language})" if one.language else f"'{one.value}'"
            for one in wanted[:6]
        )
        other = code_named(system, given, self.library.named.setdefault(id(system), {}))
        more = self._more("display-of-other", display=given, other=other) if other else ""
        severity: Severity = "warning" if self.checking.lenient_display else "error"
        self._note("invalid", "invalid-display", "display", at="display", more=more,
                   severity=severity, display=given, names=told)  # fmt: skip


def _same(version: str, other: str) -> bool:
    return version == other or other.startswith(f"{version.removesuffix('.x')}.")


def _parts(composed: Composed) -> Iterator[Part]:
    """The parts that take codes of a system, those of imported value sets too."""
    stack = [composed]
    while stack:
        for part in stack.pop().includes:
            if part.system:
                yield part
            stack.extend(one for one in part.within if one is not None)


def _missing(composed: Composed) -> Iterator[str]:
    """What would have to be here for a value set to be told."""
    stack, seen = [composed], set()
    while stack:
        one = stack.pop()
        for part in (*one.includes, *one.excludes):
            lacks = part.found is None or part.found.content != "complete"
            names = [part.system] if part.system and part.listed is None and lacks else []
            for url, other in zip(part.imports, part.within, strict=True):
                if other is None:
                    names.append(url)
                else:
                    stack.append(other)
            for name in names:
                if name not in seen:
                    seen.add(name)
                    yield name
