"""Our verdicts beside fhirkit-rs, on HL7's examples and on ours: docs/divergences.md explains every
difference, and no other."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import fhirkit
import pytest

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_package import examples_of
from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.walk import issues
from fhir_gateway.fhir.wire import parse, render
from fhir_gateway.settings import load_settings
from fhir_gateway.terminology.builtin import builtin_systems, builtin_value_sets
from fhir_gateway.terminology.looks import Looks
from fhir_gateway.terminology.naming_files import load_naming
from fhir_gateway.terminology.service import of_resources
from fhir_gateway.terminology.value_set import load_vocabulary, terminology_resources

ROOT = Path(__file__).parents[2]
OFFICIAL = ROOT.parent / "shared" / "data" / "samples" / "fhir-r4-examples"
DIVERGENCES = ROOT / "docs" / "divergences.md"
SETTINGS = load_settings({})


@cache
def context() -> Context:
    """Everything that judging asks, of the project's own folders."""
    resources = list(profile_resources(SETTINGS.profiles))
    vocabulary = load_vocabulary(SETTINGS.terminology)
    terms = of_resources(
        [*builtin_value_sets(), *resources, *terminology_resources(vocabulary)],
        builtin_systems(vocabulary),
    )
    looks = Looks(terms, vocabulary.catalogue, load_naming(SETTINGS.profiles))
    known = Known(one for one in resources if one["resourceType"] == "StructureDefinition")
    return Context(
        member=terms.is_member, coding=looks.coding, quantity=looks.quantity,
        identifier=looks.identifier, whole=looks.whole, known=known,
    )  # fmt: skip


def ours(resource: dict[str, Any]) -> set[str]:
    """The rules of the errors that we find, by R4 alone; what definitions of extensions say is
    one rule."""
    found = [*issues(resource), *judge(resource, context())]
    wrong = [issue for issue in found if issue.severity in ("error", "fatal")]
    return {
        "extension" if "xtension[" in str(issue.expression) else str(issue.rule) for issue in wrong
    }


def theirs(resource: dict[str, Any]) -> bool:
    """Whether fhirkit finds an error."""
    found = fhirkit.validate(render(resource).decode())
    return any(str(issue).startswith(("error", "fatal")) for issue in found)


def explained(heading: str) -> set[tuple[str, str]]:
    """(first cell, second cell) of the table below a heading of the page."""
    text = DIVERGENCES.read_text(encoding="utf-8").partition(f"#### {heading}\n")[2]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", text.partition("\n#")[0], re.MULTILINE)
    return set(rows)


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="HL7's examples are not beside the project")
def test_verdicts_on_the_official_examples_differ_where_the_page_says() -> None:
    files = sorted(OFFICIAL.rglob("*.json"))
    assert len(files) > 200
    differing: set[tuple[str, str]] = set()
    for file in files:
        resource = parse(file.read_bytes())
        rules = ours(resource)
        if bool(rules) != theirs(resource):
            differing |= {(file.name, rule) for rule in rules or {"fhirkit-rs alone"}}
    assert differing == explained("Official examples")


def test_verdicts_on_our_examples_differ_by_the_rules_that_the_page_names() -> None:
    differing: set[str] = set()
    for _, resource in examples_of(SETTINGS.profiles):
        rules, other = ours(resource), theirs(resource)
        if rules and not other:
            differing |= rules
        assert rules or not other, "fhirkit-rs finds what we do not"
    assert differing == {rule for rule, _ in explained("Rules that only we have")}
