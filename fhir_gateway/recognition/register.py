"""The register of quality evaluations: who passed for which items, where and when.

One evaluation round of one institution is a FHIR VerificationResult (target: the Organization;
validator: the quality control body; status validated or val-fail), with extensions for items,
areas, period and round. `derive` turns it into rows; the register makes the mark, whatever is
printed on a report. hl7.org/fhir/R4/verificationresult.html,
docs/adr/0011-quality-evaluations-are-verification-results.md
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue, Unprocessable
from fhir_gateway.fhir.datatypes import Reference, parse_reference
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived, Evaluation
from fhir_gateway.terminology.area import AREA_SYSTEM
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue, Item

ITEM_URL = f"{CANONICAL}/StructureDefinition/evaluation-item"
AREA_URL = f"{CANONICAL}/StructureDefinition/evaluation-area"
PERIOD_URL = f"{CANONICAL}/StructureDefinition/evaluation-period"
ROUND_URL = f"{CANONICAL}/StructureDefinition/evaluation-round"

#: No item is longer; a longer text would not fit into a key of the register.
_CODE_LENGTH = 40

#: VerificationResult.status that is an outcome; the others (in-process, attested) are not yet.
_PASSED: Mapping[str, bool] = {"validated": True, "val-fail": False, "reval-fail": False}

COLUMNS = ("institution", "item", "area", "start", "end", "passed", "evaluator", "round")
_TRUTH = {"true": True, "1": True, "yes": True, "通过": True, "合格": True}
_TRUTH |= {"false": False, "0": False, "no": False, "未通过": False, "不合格": False}


def derive(resource: dict[str, Any], derived: Derived) -> None:
    """Adds one row per institution, item and area of a VerificationResult that has an outcome."""
    if resource.get("resourceType") != "VerificationResult":
        return
    passed = _PASSED.get(resource.get("status", ""))
    if passed is None:
        return
    extensions = resource.get("extension", ())
    period: dict[str, str] = next(iter(_values(extensions, PERIOD_URL, "valuePeriod")), {})
    rounds = _values(extensions, ROUND_URL, "valueString")
    items = [c for c in _values(extensions, ITEM_URL, "valueCoding") if c.get("system") in SYSTEMS]
    areas = _values(extensions, AREA_URL, "valueCoding")
    derived.evaluations += [
        Evaluation(
            institution=institution,
            item=item.get("code", "")[:_CODE_LENGTH],
            area=area.get("code", ""),
            start=period.get("start", "")[:10],
            end=period.get("end", "")[:10],
            passed=passed,
            evaluator=_evaluator(resource),
            round=rounds[0] if rounds else "",
        )
        for institution in _targets(resource)
        for item in items
        for area in areas
    ]


def _values(extensions: Iterable[Mapping[str, Any]], url: str, name: str) -> list[Any]:
    return [e[name] for e in extensions if e.get("url") == url and name in e]


def _targets(resource: Mapping[str, Any]) -> list[str]:
    parsed = (parse_reference(t.get("reference", "")) for t in resource.get("target", ()))
    return [p.id for p in parsed if isinstance(p, Reference) and p.type == "Organization"]


def _evaluator(resource: Mapping[str, Any]) -> str:
    """The quality control body: its display, else its reference."""
    for validator in resource.get("validator", ()):
        organization: Mapping[str, Any] = validator.get("organization", {})
        return str(organization.get("display") or organization.get("reference") or "")
    return ""


class Round(NamedTuple):
    """One evaluation round: what `verification_result` is built from."""

    institution: str
    area: str
    start: str
    end: str
    passed: bool
    evaluator: str
    round: str


def verification_result(evaluated: Round, items: Sequence[Item]) -> dict[str, Any]:
    """The VerificationResult of a round, with an id that the same round always gets."""
    period = {"start": evaluated.start, "end": evaluated.end}
    extension: list[dict[str, Any]] = [
        {"url": ITEM_URL, "valueCoding": item.coding()} for item in items
    ]
    extension.append(
        {"url": AREA_URL, "valueCoding": {"system": AREA_SYSTEM, "code": evaluated.area}}
    )
    extension.append(
        {"url": PERIOD_URL, "valuePeriod": {name: day for name, day in period.items() if day}}
    )
    if evaluated.round:
        extension.append({"url": ROUND_URL, "valueString": evaluated.round})
    name = "\n".join(str(part) for part in evaluated)
    return {
        "resourceType": "VerificationResult",
        "id": f"evaluation-{blake2b(name.encode(), digest_size=10).hexdigest()}",
        "extension": extension,
        "target": [{"reference": f"Organization/{evaluated.institution}"}],
        "status": "validated" if evaluated.passed else "val-fail",
        "statusDate": evaluated.start,
        "validationType": {"coding": [_CODES["primary"]]},
        "validator": [{"organization": {"display": evaluated.evaluator}}],
    }


_CODES = {
    "primary": {
        "system": "http://terminology.hl7.org/CodeSystem/validation-type",
        "code": "primary",
    }
}


def load_evaluations_csv(path: Path | str, catalogue: Catalogue) -> list[dict[str, Any]]:
    """The VerificationResults in a table of evaluations, one for each round.

    `item` is a catalogue code, a class of the catalogue, or `*` for all items of this edition: an
    evaluation covers the items that were in the catalogue when it was entered, later ones never.
    Raises Unprocessable with every fault: file, line and column.
    """
    path = Path(path)
    issues: list[Issue] = []
    rounds: dict[Round, dict[str, Item]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            sentence = f"{path.name}: the columns must be {', '.join(COLUMNS)}"
            raise Invalid(sentence, rule="evaluation-columns")
        for cells in reader:
            place = f"{path.name} line {reader.line_num}"
            items = _read_row(cells, catalogue, place, issues)
            if items:
                rounds.setdefault(_round(cells), {}).update((i.code, i) for i in items)
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return [verification_result(one, list(items.values())) for one, items in rounds.items()]


def _round(cells: Mapping[str, str]) -> Round:
    return Round(
        institution=cells["institution"],
        area=cells["area"],
        start=cells["start"],
        end=cells["end"],
        passed=_TRUTH[cells["passed"].lower()],
        evaluator=cells["evaluator"],
        round=cells["round"],
    )


def _read_row(
    cells: Mapping[str, str], catalogue: Catalogue, place: str, issues: list[Issue]
) -> list[Item]:
    """The items of a row; empty, with its faults added, when the row has any."""
    before = len(issues)

    def fault(column: str, sentence: str) -> None:
        issues.append(Issue("invalid", f"{place}, {column}: {sentence}", rule="evaluation-row"))

    for column in ("institution", "item", "area", "start", "passed", "evaluator"):
        if not cells[column]:
            fault(column, "must not be empty")
    for column in ("start", "end"):
        if cells[column] and not _is_day(cells[column]):
            fault(column, "must be a day, YYYY-MM-DD")
    if cells["end"] and cells["end"] < cells["start"]:
        fault("end", "lies before the start")
    if cells["passed"] and cells["passed"].lower() not in _TRUTH:
        fault("passed", "must be true or false")
    items = _items(cells["item"], catalogue)
    if cells["item"] and not items:
        fault("item", "is no item and no class of the catalogue")
    return items if len(issues) == before else []


def _items(name: str, catalogue: Catalogue) -> list[Item]:
    if name in catalogue.items:
        return [catalogue.items[name]]
    return [item for item in catalogue.items.values() if name in ("*", item.item_class)]


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
