"""One examination, several rows: which studies belong to which report, and what they lend it.

A report that refers to a study, and a report and a study of one institution with one accession
number, are one examination: the study brings time, side, region, contrast and images, the report
(or the order) its item. Where the rows of one accession contradict each other, nothing is guessed:
the studies lend nothing by the number, and the examination is flagged. docs/facts.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fhir_gateway.interactions.endpoint_rows import CHECK, STATE, serves
from fhir_gateway.recognition.facts_more import LONGEST, more_of
from fhir_gateway.recognition.model import CONTRADICTORY, IMAGES, NO_IMAGES
from fhir_gateway.store.changes import Evaluation, Fact
from fhir_gateway.store.store import StoredFact

#: What has no item of its own stands under this one; it lends reports what it knows.
UNCODED = ""

#: Rows of the register by (institution, item).
Register = dict[tuple[str, str], tuple[Evaluation, ...]]

_STUDY = "ImagingStudy/"

#: (institution, accession number)
_Number = tuple[str, str]


class Examinations(NamedTuple):
    """Studies by the report that refers to them, by accession, and the numbers in doubt."""

    by_report: Mapping[str, Sequence[StoredFact]]
    by_number: Mapping[_Number, Sequence[StoredFact]]
    reported: Mapping[_Number, frozenset[str]]  # items of the reports of a number
    doubtful: frozenset[_Number]

    def studies(self, stored: StoredFact) -> Sequence[StoredFact]:
        """The studies that lend this report what they know, each once; none to a study."""
        if _is_study(stored.fact):
            return ()
        found = self.by_report.get(stored.fact.source, ())
        number = number_of(stored.fact)
        if number is None or number in self.doubtful or number not in self.by_number:
            return found
        own = {study.fact.source for study in found}
        more = [one for one in self.by_number[number] if one.fact.source not in own]
        return [*found, *(one for one in more if not one.report_source)]

    def is_told(self, stored: StoredFact) -> bool:
        """Whether a study is told by a report with its accession number and item."""
        number = number_of(stored.fact) if _is_study(stored.fact) else None
        if number is None or number in self.doubtful:
            return False
        return stored.fact.item in self.reported.get(number, ())

    def flags(self, stored: StoredFact) -> int:
        """CONTRADICTORY where other rows of its accession number say another item."""
        return CONTRADICTORY if number_of(stored.fact) in self.doubtful else 0


def examinations(facts: Iterable[StoredFact]) -> Examinations:
    """The examinations of a person, from all imaging rows that were read."""
    by_report: dict[str, dict[str, StoredFact]] = {}
    by_number: dict[_Number, dict[str, StoredFact]] = {}
    said: dict[_Number, dict[str, frozenset[str]]] = {}
    for stored in facts:
        fact = stored.fact
        number = None if _is_void(fact) else number_of(fact)
        if number is not None:
            said.setdefault(number, {})[fact.source] = _items(fact)
        if not _is_study(fact):
            continue
        if stored.report_source:
            by_report.setdefault(stored.report_source, {}).setdefault(fact.source, stored)
        if number is not None:
            by_number.setdefault(number, {}).setdefault(fact.source, stored)
    return Examinations(
        {report: list(studies.values()) for report, studies in by_report.items()},
        {number: list(studies.values()) for number, studies in by_number.items()},
        {number: _reported(sources) for number, sources in said.items()},
        frozenset(number for number, sources in said.items() if _contradict(sources)),
    )


def _reported(sources: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The items of the reports."""
    reports = [items for source, items in sources.items() if not source.startswith(_STUDY)]
    return frozenset[str]().union(*reports)


def _contradict(sources: Mapping[str, frozenset[str]]) -> bool:
    """Whether two of those that say what they are say different things."""
    return len({items for items in sources.values() if items}) > 1


def number_of(fact: Fact) -> _Number | None:
    """Institution and accession number of a row; None when either is not known."""
    if fact.kind != "imaging" or not fact.issuer or not fact.more:
        return None
    accession = more_of(fact.more).accession
    return (fact.issuer, accession) if accession else None


def _is_study(fact: Fact) -> bool:
    return fact.source.startswith(_STUDY)


def _is_void(fact: Fact) -> bool:
    return fact.status in ("cancelled", "entered-in-error")


def _items(fact: Fact) -> frozenset[str]:
    """The items of the resource that a row is of."""
    return frozenset(more_of(fact.more).item.split())


def exam_time(fact: Fact, studies: Sequence[StoredFact]) -> tuple[int, int, str]:
    """The report's own time; that of its studies when it states none. And which time it is."""
    time_of = more_of(fact.more).time_of
    started = [study.fact for study in studies if study.fact.time]
    if fact.time or not started:
        return fact.time, fact.time_high, time_of
    return min(s.time for s in started), max(s.time_high for s in started), "started"


def zone_known(fact: Fact, studies: Sequence[StoredFact]) -> bool:
    """Whether the zone of the time is known that `exam_time` gives."""
    if fact.time or not studies:
        return not more_of(fact.more).zone
    return not any(more_of(study.fact.more).zone for study in studies if study.fact.time)


def side(fact: Fact, studies: Sequence[StoredFact]) -> str:
    """The report's side, else that of its studies; B when they have several."""
    sides = {study.fact.laterality for study in studies} - {""}
    if fact.laterality or not sides:
        return fact.laterality
    return sides.pop() if len(sides) == 1 else "B"


def region(fact: Fact, studies: Sequence[StoredFact]) -> str:
    """The regions that its studies show, joined by +; else that of the report's item."""
    regions = {
        one for study in studies for one in more_of(study.fact.more).region.split("+") if one
    }
    return "+".join(sorted(regions))[:LONGEST] if regions else more_of(fact.more).region


def contrast(fact: Fact, studies: Sequence[StoredFact]) -> str:
    """What DICOM and the report's code say together; "" where they contradict each other.

    An agent in the images goes with `with` and `without-with`, and overrules a plain code; images
    that say that none was given cannot go with a code that says that one was.
    """
    ordered = more_of(fact.more).contrast
    seen = {more_of(study.fact.more).contrast for study in studies} - {""}
    if "with" in seen:
        return ordered if ordered in ("with", "without-with") else "with"
    if "none" in seen:
        return "none" if ordered in ("", "none") else ""
    return ordered


def images(fact: Fact, studies: Sequence[StoredFact]) -> bool | None:
    """True when an Endpoint is named for any study, False when all say there are no images."""
    facts = [fact, *(study.fact for study in studies)]
    if any(one.flags & IMAGES for one in facts):
        return True
    told = [one for one in facts if _is_study(one)]
    return False if told and all(one.flags & NO_IMAGES for one in told) else None


def endpoints(facts: Iterable[Fact]) -> list[str]:
    """Logical ids of the Endpoints that rows name, each once."""
    return list(dict.fromkeys(id for one in facts for id in more_of(one.more).endpoints.split()))


def endpoint_pairs(facts: Iterable[Fact]) -> list[tuple[str, str]]:
    """The pairs of the register that tell whether images can be fetched."""
    return [(f"Endpoint/{id}", what) for id in endpoints(facts) for what in (STATE, CHECK)]


def retrievable(
    fact: Fact,
    studies: Sequence[StoredFact],
    register: Mapping[tuple[str, str], Sequence[Evaluation]],
) -> bool | None:
    """Whether images can be fetched: by an active Endpoint whose last check passed.

    False when every Endpoint is known not to serve, or there is nothing to fetch; None when that
    is not known: no Endpoint is named, or one was never checked as it stands now.
    """
    known = images(fact, studies)
    if not known or fact.kind != "imaging":
        return known
    found = [serves(id, register) for id in endpoints([fact, *(study.fact for study in studies)])]
    if any(found):
        return True
    return False if found and None not in found else None
