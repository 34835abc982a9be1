"""Checks of the profiles: they compile, what they name is there, examples are judged as they say.

`profiles/examples/expected.csv` says what is wrong with each bad example: file, profile,
expression, rule, severity; a file with several rows has several. An example is judged by R4 and by
the profiles that it claims, with the project's terminology, exactly as the gateway judges.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.app import profile_resources
from fhir_gateway.cli.profiles_package import examples_of, with_snapshots
from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.fhir.profile_base import judge
from fhir_gateway.fhir.profile_context import Context
from fhir_gateway.fhir.profile_known import Known
from fhir_gateway.fhir.validate import issues
from fhir_gateway.settings import CANONICAL, Settings
from fhir_gateway.terminology.builtin import builtin_systems, builtin_value_sets
from fhir_gateway.terminology.looks import Looks
from fhir_gateway.terminology.naming_files import load_naming
from fhir_gateway.terminology.service import Terminology, of_resources
from fhir_gateway.terminology.value_set import load_vocabulary, terminology_resources

EXPECTED = "expected.csv"
COLUMNS = ("file", "profile", "expression", "rule", "severity")

Resource = Mapping[str, Any]
#: What is wrong and where: (expression, rule, severity).
Fault = tuple[str, str, str]


class Checked(NamedTuple):
    """What was looked at, and a sentence for each fault."""

    profiles: int
    examples: int
    faults: list[str]


def check(settings: Settings) -> Checked:
    """Looks at all profiles and examples of the profiles folder."""
    resources = list(profile_resources(settings.profiles))
    profiles = [one for one in resources if one["resourceType"] == "StructureDefinition"]
    known = Known(profiles)
    terminology, context = context_of(settings, resources, known)
    faults = [*_snapshots(resources), *_compiled(profiles, known)]
    faults += _dangling(profiles, known, terminology)
    expected = expected_faults(settings.profiles)
    examples = 0
    for file, example in examples_of(settings.profiles):
        examples += 1
        found = judged(example, known, context)
        faults += [f"{file}: {says}" for says in _differences(found, expected.pop(file, None))]
    faults += [f"{EXPECTED}: there is no {file}" for file in expected]
    return Checked(len(profiles), examples, faults)


def judged(example: Resource, known: Known, context: Context) -> list[Issue]:
    """All that is wrong with an example by R4 and by the profiles that it claims."""
    found = issues(dict(example))
    if found:
        return found
    claimed = [known.profile(url) for url in example.get("meta", {}).get("profile", ())]
    return judge(example, context, tuple(one for one in claimed if one is not None))


def expected_faults(folder: str) -> dict[str, set[Fault]]:
    """What is wrong with each bad example, by its file."""
    found: dict[str, set[Fault]] = {}
    path = Path(folder) / "examples" / EXPECTED
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            fault = (row["expression"], row["rule"], row["severity"])
            found.setdefault(row["file"], set()).add(fault)
    return found


def counts(folder: str) -> dict[str, tuple[int, int]]:
    """How many good and bad examples each profile has, by its id."""
    found: dict[str, tuple[int, int]] = {}
    for file, _ in examples_of(folder):
        profile, _, name = file.partition("/")
        good, bad = found.get(profile, (0, 0))
        isgood = name.startswith("good-")
        found[profile] = (good + isgood, bad + (not isgood))
    return found


def described(structure: Resource) -> Iterator[str]:
    """The elements that a profile names, one line each, and its rules below them."""
    yield f"{structure['url']}|{structure.get('version', '')}  {structure.get('title', '')}"
    elements = {one["id"]: one for one in structure["snapshot"]["element"]}
    for given in structure["differential"]["element"]:
        element = elements[given["id"]]
        fixed = next((element[name] for name in element if name.startswith("fixed")), "")
        bound = element.get("binding", {}) if "binding" in given else {}
        says = [f"= {fixed}"] if fixed else []
        says += [f"{bound['strength']}: {bound['valueSet']}"] if bound else []
        limits = f"{element['min']}..{element['max']:3}"
        yield f"  {element['id']:58} {limits} {'  '.join(says)}".rstrip()
        for rule in given.get("constraint", ()):
            yield f"      {rule['severity']} {rule['key']}: {rule['human']}"


def context_of(
    settings: Settings, resources: Iterable[Resource], known: Known
) -> tuple[Terminology, Context]:
    """What a fresh gateway with these folders knows."""
    vocabulary = load_vocabulary(settings.terminology)
    own = [one for one in resources if one["resourceType"] in ("CodeSystem", "ValueSet")]
    own += [*terminology_resources(vocabulary), *builtin_value_sets()]
    terminology = of_resources(own, builtin_systems(vocabulary))
    looks = Looks(terminology, vocabulary.catalogue, load_naming(settings.profiles))
    context = Context(
        member=terminology.is_member,
        coding=looks.coding,
        quantity=looks.quantity,
        identifier=looks.identifier,
        whole=looks.whole,
        known=known,
    )
    return terminology, context


def _snapshots(resources: list[dict[str, Any]]) -> Iterator[str]:
    try:
        list(with_snapshots(resources))
    except GatewayError as error:
        yield from (f"{issue.expression}: {issue.diagnostics}" for issue in error.issues)


def _compiled(profiles: Iterable[Resource], known: Known) -> Iterator[str]:
    for one in profiles:
        profile = known.profile(one["url"])
        for doubt in profile.doubts if profile else ():
            yield f"{one['id']}: {doubt.diagnostics}"


def _dangling(
    profiles: Iterable[Resource], known: Known, terminology: Terminology
) -> Iterator[str]:
    """What the profiles name under our own root and nobody defines."""
    for one in profiles:
        for element in one["differential"]["element"]:
            named = [url for type in element.get("type", ()) for url in type.get("profile", ())]
            missing = [url for url in named if known.find(url) is None]
            bound = element.get("binding", {}).get("valueSet", "")
            if bound.startswith(CANONICAL) and terminology.is_member(bound, "", "") is None:
                missing.append(bound)
            yield from (f"{one['id']} {element['id']}: nobody defines {url}" for url in missing)


def _differences(found: Iterable[Issue], expected: set[Fault] | None) -> Iterator[str]:
    """What was found and should not be, and the other way round; expected None: a good one."""
    faults: dict[Fault, Issue] = {
        (issue.expression or "", issue.rule or "", issue.severity): issue for issue in found
    }
    wanted = expected or set()
    for fault in sorted(wanted - set(faults)):
        yield f"{fault[2]} {fault[1]} at {fault[0]} was not found"
    for fault, issue in faults.items():
        if issue.severity in ("error", "fatal") and fault not in wanted:
            yield f"{issue.severity} {issue.rule} at {issue.expression}: {issue.diagnostics}"
