"""A small city for the tests of recognition: a catalogue, a rule set and cases read from YAML.

Cases stand in tests/cases/recognition, one file for each criterion with the clause that it rests
on. They name only what differs from a plain lab result (or imaging report) that can be recognised:

    ordered, query, candidates   what is asked and what is on file
    parameters                   of the shipped rule set, by criterion: [name, value, key] rows
    versions: first              the rule set as it was before any criterion had a second version;
                                 none: no rule set is in force
    expect                       outcome, reason, lines …: what is not named is not compared
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
from ruamel.yaml import YAML

from fhir_gateway.fhir.datatypes import date_range
from fhir_gateway.recognition.model import Candidate, Identity, OrderedItem, Query
from fhir_gateway.recognition.rules import PARAMETER_URL, RuleSet, load_rule_set
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Evaluation
from fhir_gateway.terminology.catalogue import Item, load_catalogue

TESTS = Path(__file__).parents[1]
CASES = TESTS / "cases" / "recognition"
PROFILES = TESTS.parent / "profiles"
AS_OF = "2026-11-20T10:00:00+08:00"
EXAM = "2026-11-18T08:00:00+08:00"
PUBLISHED = "published:TEST"
REACHING = ("100000", "110000", "110105", "JJJ")


def _lab(code: str, **fields: Any) -> Item:
    usual = {"specimen": "血清/血浆", "scale": "quantitative", "ucum_unit": "mmol/L"}
    usual |= {"item_class": "临床化学", "validity_days": 7, "validity_source": PUBLISHED}
    return Item(kind="lab", code=code, name_zh=code, name_en=code, **(usual | fields))


def _imaging(code: str, **fields: Any) -> Item:
    usual = {"laterality": "unpaired", "contrast": "none", "item_class": "放射"}
    usual |= {"modality": "CT", "validity_days": 30, "validity_source": PUBLISHED}
    return Item(kind="imaging", code=code, name_zh=code, name_en=code, **(usual | fields))


ITEMS = (
    _lab("K"),
    _lab("K-COMPILED", validity_source="compiled"),
    _lab("K-FREE"),
    _lab("OFF-LIST", listed=False),
    _lab("ENDLESS", validity_days=0, validity_source=""),
    _lab("CT-DNA", specimen="生殖道拭子/尿液", scale="qualitative", ucum_unit=""),
    _lab("L088", specimen="全血(EDTA)", scale="qualitative", ucum_unit="", validity_days=3650),
    _imaging("CT-HEAD", body_part_dicom="HEAD"),
    _imaging("CT-HEAD-WITH", body_part_dicom="HEAD", contrast="with"),
    _imaging("CT-TRUNK", body_part_dicom="TRUNK"),
    _imaging("ANY-CONTRAST", contrast=""),
    _imaging("KNEE", laterality="R/L/B"),
    _imaging("HANDS", laterality="B"),
    _imaging("US-THYROID", modality="US", default_recognition="view-only"),
)
#: An item that stood on the list once: results carry it, and no catalogue has it.
GONE = _lab("GONE")
CATALOGUE = replace(
    load_catalogue(PROFILES.parent / "terminology"),
    items=MappingProxyType({item.code: item for item in ITEMS}),
    edition="test",
)


def plan_definition() -> dict[str, Any]:
    """Rule set 1.0.0 as shipped."""
    text = (PROFILES / "PlanDefinition" / "recognition-1.0.0.json").read_text(encoding="utf-8")
    return json.loads(text.replace("{CANONICAL}", CANONICAL))


def newest(names: Iterable[str]) -> set[str]:
    """Of each criterion the version that no other has followed."""
    found: dict[str, int] = {}
    for name, _, version in (one.partition("@") for one in names):
        found[name] = max(int(version), found.get(name, 0))
    return {f"{name}@{version}" for name, version in found.items()}


def parameter(name: str, value: Any, key: str | None = None) -> dict[str, Any]:
    """One criterion-parameter extension."""
    kind = {bool: "valueBoolean", int: "valueInteger"}.get(type(value), "valueString")
    parts = [{"url": "name", "valueCode": name}, {"url": "value", kind: value}]
    if key is not None:
        parts.insert(1, {"url": "key", "valueCode": key})
    return {"url": PARAMETER_URL, "extension": parts}


def rule_set(overrides: dict[str, list[list[Any]]] | None = None, versions: str = "") -> RuleSet:
    """Rule set 1.0.0, active, with the parameters of some criteria replaced; "first" gives each
    criterion in its first version, without those that came later."""
    return _rule_set(json.dumps(overrides or {}), versions)


#: A change limit for the item of most cases.
LIMITS = {"newest-first": [["percent", "6", "K"], ["source", "TEST"]]}
#: Criteria of the first rule set that have no second version, and so no parameter of one.
_SINCE = ("zone-known", "region-comparable", "examination-certain", "wider-examination",
          "context-known", "newest-first")  # fmt: skip
_SINCE_PARAMETERS = ("conflict", "own_record", "stated", "unless_known", "count")


@lru_cache(maxsize=256)
def _rule_set(overrides: str, versions: str) -> RuleSet:
    plan = plan_definition() | {"status": "active"}
    for name, rows in (LIMITS | json.loads(overrides)).items():
        action = next(a for a in plan["action"] if code_of(a) == name.partition("@")[0])
        action["extension"] = [parameter(*row) for row in rows]
    if versions == "first":
        plan["action"] = [_first(a) for a in plan["action"] if code_of(a) not in _SINCE]
    return load_rule_set(plan)


def _first(action: dict[str, Any]) -> dict[str, Any]:
    """A rule as it was: its criterion's first version, without parameters that came later."""
    action["code"][0]["coding"][0]["version"] = "1"
    given = [one for one in action.get("extension", ()) if name_of(one) not in _SINCE_PARAMETERS]
    if code_of(action) == "images-retrievable":
        given = []
    return {key: value for key, value in action.items() if key != "extension"} | (
        {"extension": given} if given else {}
    )


def name_of(extension: dict[str, Any]) -> str:
    """The name of the parameter that an extension gives."""
    return str(extension["extension"][0]["valueCode"])


def code_of(action: dict[str, Any]) -> str:
    """The criterion of a rule, without its version."""
    return str(action["code"][0]["coding"][0]["code"])


RULE_SET = rule_set()


def evaluation(item: str, **fields: Any) -> Evaluation:
    usual = {"institution": "hospital", "item": item, "area": "110000", "passed": True}
    usual |= {"start": "2026-01-01", "end": "2026-12-31", "evaluator": "QC", "round": "2026-1"}
    return Evaluation(**(usual | fields))


def query(ordered: dict[str, Any] | None = None, **fields: Any) -> Query:
    line = msgspec.convert({"key": "1", "item": "K"} | (ordered or {}), OrderedItem)
    usual: dict[str, Any] = {"as_of": AS_OF, "zone": "Asia/Shanghai", "context": []}
    usual |= {"identity": {"documented": True}, "receiver_within": REACHING} | fields
    return Query(
        patient="patient",
        home=1,
        items=(line,),
        receiver="receiver",
        receiver_area="110105",
        as_of_us=date_range(usual["as_of"])[0],
        zone=usual["zone"],
        context=frozenset(usual["context"]),
        identity=msgspec.convert(usual["identity"], Identity),
        t=7,
        receiver_within=tuple(usual["receiver_within"]),
        context_known=usual.get("context_known", True),
        born=usual.get("born", ""),
    )


def candidate(item: str, number: int = 0, /, **fields: Any) -> Candidate:
    """A result that can be recognised, but for `fields`; `time` is a FHIR date or dateTime."""
    item = fields.pop("item", item)
    entry = CATALOGUE.items.get(item, GONE)
    low, high = date_range(fields.pop("time", EXAM))
    if fields.pop("undated", False):
        low = 0
    issued = fields.pop("issued", "2026-11-18T15:00:00+08:00")
    rows = fields.pop("evaluations", [{}])
    lab = entry.kind == "lab"
    usual: dict[str, Any] = {
        "source": f"{'Observation' if lab else 'DiagnosticReport'}/{item}-{number}",
        "rid": number,
        "version": 1,
        "patient": "patient",
        "item": item,
        "kind": entry.kind,
        "time": low,
        "time_high": high,
        "issued": date_range(issued)[0] if issued else 0,
        "status": "final",
        "report_status": "final" if lab else "",
        "issuer": "hospital",
        "specimen": "serum" if "血清" in entry.specimen else "",
        "unit": entry.ucum_unit,
        "value": "5.10",
        "images": None if lab else True,
        "retrievable": None if lab else True,
        "evaluations": tuple(evaluation(item, **row) for row in rows),
    }
    return Candidate(**(usual | fields))


#: Files that are about the whole answer to an order line, and about no criterion.
WHOLE = frozenset({"whole-item", "first-versions"})


@lru_cache(maxsize=1)
def files() -> dict[str, dict[str, Any]]:
    """The files of cases by name; each names its criterion and the clause that the rule cites."""
    reader = YAML(typ="safe")
    return {path.stem: reader.load(path) for path in sorted(CASES.glob("*.yaml"))}


def cases() -> list[Any]:
    """Every case of every file, with the file's name in its own."""
    return [
        case | {"id": f"{name}: {case['name']}"}
        for name, file in files().items()
        for case in file["cases"]
    ]


def rules_of(case: dict[str, Any]) -> RuleSet | None:
    """The rule set that a case is decided by; None for one that falls in a gap."""
    versions = case.get("versions", "")
    return None if versions == "none" else rule_set(case.get("parameters"), versions)


def found_of(case: dict[str, Any]) -> list[Candidate]:
    """The results of a case; they are of the ordered item but where one says another."""
    item = case.get("ordered", {}).get("item", "K")
    return [candidate(item, n, **fields) for n, fields in enumerate(case["candidates"])]
