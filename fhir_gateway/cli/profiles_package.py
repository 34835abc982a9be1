"""The FHIR package of the project: what stands in it, and how its parts are made.

Everything comes from the data folders and from the tables by which the gateway answers: profiles
and extensions with their snapshots, code systems, value sets, identifier systems, rule sets,
operations, a CapabilityStatement of what a gateway must offer, and the good examples. The same
folders give the same bytes (hl7.org/fhir/R4/implementationguide.html, packages.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fhir_gateway import __version__
from fhir_gateway.app import profile_resources
from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.snapshot import snapshot
from fhir_gateway.fhir.structures import structure
from fhir_gateway.fhir.wire import parse
from fhir_gateway.interactions.capabilities import capability_statement
from fhir_gateway.rest.operations import offered, operation_resources
from fhir_gateway.settings import CANONICAL, Settings
from fhir_gateway.terminology.builtin import builtin_concept_maps
from fhir_gateway.terminology.code_system import Vocabulary, frame
from fhir_gateway.terminology.package import FHIR_VERSION, fhir_package
from fhir_gateway.terminology.system import Concept
from fhir_gateway.terminology.value_set import load_vocabulary, terminology_resources

Resource = dict[str, Any]
_PARENT = "http://hl7.org/fhir/concept-properties#parent"

TITLE = "Profiles for mutual recognition of laboratory and imaging results"
ABOUT = (
    "Profiles, extensions, terminology and operations of the FHIR gateway project. Drafts of a "
    "project, not a standard of any authority."
)
#: The host of the canonical root, read from the right, as packages are named.
PACKAGE = ".".join(reversed((urlsplit(CANONICAL).hostname or "").split("."))) + ".profiles"


def package(settings: Settings) -> bytes:
    """The package as a .tgz. Raises Unprocessable for a profile that has no snapshot."""
    resources = published(settings)
    examples = [example for _, example in good_examples(settings.profiles)]
    about = {"description": ABOUT, "canonical": CANONICAL, "author": "FHIR gateway project",
             "license": "Apache-2.0", "url": CANONICAL}  # fmt: skip
    return fhir_package(
        PACKAGE,
        __version__,
        TITLE,
        [*resources, implementation_guide(resources, examples)],
        about=about,
        examples=examples,
        notices=tuple(load_vocabulary(settings.terminology).catalogue.notices),
    )


def published(settings: Settings) -> list[Resource]:
    """All resources of the package but the guide itself, profiles with snapshots."""
    vocabulary = load_vocabulary(settings.terminology)
    resources = [
        *with_snapshots(profile_resources(settings.profiles)),
        *terminology_resources(vocabulary),
        *table_resources(vocabulary),
        *builtin_concept_maps(vocabulary),
        *operation_resources(),
    ]
    return [*resources, requirements(settings, resources)]


def with_snapshots(resources: Iterable[Resource]) -> Iterator[Resource]:
    """The resources, each StructureDefinition with its snapshot.

    Raises Unprocessable, naming the profile, when one contradicts what it rests on.
    """
    found = list(resources)
    own = {one["url"]: one for one in found if one["resourceType"] == "StructureDefinition"}

    def resolve(url: str) -> Mapping[str, Any] | None:
        return own.get(url) or structure(url)

    for one in found:
        if one["resourceType"] != "StructureDefinition" or "snapshot" in one:
            yield one
            continue
        try:
            elements = snapshot(one, resolve)
        except Unprocessable as error:
            issues = [
                replace(issue, diagnostics=f"{one['id']}: {issue.diagnostics}")
                for issue in error.issues
            ]
            raise Unprocessable(issues=tuple(issues)) from None
        differential = one["differential"]
        rest = {name: value for name, value in one.items() if name != "differential"}
        yield {**rest, "snapshot": {"element": elements}, "differential": differential}


def table_resources(vocabulary: Vocabulary) -> Iterator[Resource]:
    """The value tables of the terminology folder, each as CodeSystem and ValueSet of all codes.

    The gateway answers from the tables themselves; others need them as resources.
    """
    catalogue = vocabulary.catalogue
    for system in vocabulary.tables.systems:
        url, notice = system.value_set, {"copyright": system.notice}
        rows = list(system.concepts())
        named = frame(catalogue, "CodeSystem", url, system.title, f"{system.title}.") | notice
        yield named | {
            "url": system.url,
            "caseSensitive": system.case_sensitive,
            "valueSet": url,
            "content": system.content,
            "count": len(rows),
            "property": [{"code": "parent", "uri": _PARENT, "type": "code"}],
            "concept": [_concept(one, system.parents(one.code)) for one in rows],
        }
        all_codes = frame(catalogue, "ValueSet", url, system.title, f"All codes: {system.title}.")
        yield all_codes | notice | {"compose": {"include": [{"system": system.url}]}}


def _concept(concept: Concept, parents: Sequence[str]) -> Resource:
    made: Resource = {"code": concept.code, "display": concept.display}
    if concept.definition:
        made["definition"] = concept.definition
    names = [
        {"language": one.language, "value": one.value}
        for one in concept.designations
        if one.language and one.value
    ]
    if names:
        made["designation"] = names
    if parents:
        made["property"] = [{"code": "parent", "valueCode": code} for code in parents]
    return made


def good_examples(folder: str) -> Iterator[tuple[str, Resource]]:
    """(file, resource) of the good examples, our canonical root filled in."""
    for file, example in examples_of(folder):
        if file.rpartition("/")[2].startswith("good-"):
            yield file, example


def examples_of(folder: str) -> Iterator[tuple[str, Resource]]:
    """(file, resource) of all examples, in the order of their names."""
    root = Path(folder) / "examples"
    for path in sorted(root.glob("*/*.json")):
        raw = path.read_bytes().replace(b"{CANONICAL}", CANONICAL.encode())
        yield path.relative_to(root).as_posix(), parse(raw)


def requirements(settings: Settings, resources: Iterable[Resource]) -> Resource:
    """What a gateway offers, as requirements: the CapabilityStatement without the instance."""
    stated = parse(
        capability_statement(settings, operations=offered(), base=CANONICAL, started_us=0)
    )
    profiles = _profiles_by_type(resources)
    rest = stated["rest"][0]
    rest.pop("security", None)
    rest["resource"] = [
        {**one, "supportedProfile": profiles[one["type"]]} if one["type"] in profiles else one
        for one in rest["resource"]
    ]
    head = {
        "resourceType": "CapabilityStatement",
        "id": "gateway-requirements",
        "url": f"{CANONICAL}/CapabilityStatement/gateway-requirements",
        "version": __version__,
        "name": "FhirGatewayRequirements",
        "title": "What a gateway offers",
        "status": "draft",
        "experimental": True,
        "date": _date(resources),
        "publisher": "FHIR gateway project",
        "description": "What the gateway answers, whoever runs it: made from its own tables.",
        "kind": "requirements",
    }
    kept = ("fhirVersion", "format", "patchFormat", "rest")
    return head | {name: stated[name] for name in kept if name in stated}


def _profiles_by_type(resources: Iterable[Resource]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in resources:
        if one["resourceType"] == "StructureDefinition" and one["type"] != "Extension":
            found.setdefault(one["type"], []).append(one["url"])
    return found


def implementation_guide(resources: Iterable[Resource], examples: Iterable[Resource]) -> Resource:
    """The ImplementationGuide that lists what the package holds."""
    found = list(resources)
    listed = [
        {"reference": {"reference": _name(one)}, "name": _title(one), "exampleBoolean": False}
        for one in sorted(found, key=_name)
    ]
    listed += [
        {
            "reference": {"reference": _name(one)},
            "name": one["id"],
            "exampleCanonical": one["meta"]["profile"][0],
        }
        for one in sorted(examples, key=_name)
    ]
    return {
        "resourceType": "ImplementationGuide",
        "id": PACKAGE,
        "url": f"{CANONICAL}/ImplementationGuide/{PACKAGE}",
        "version": __version__,
        "name": "FhirGatewayProfiles",
        "title": TITLE,
        "status": "draft",
        "experimental": True,
        "date": _date(found),
        "publisher": "FHIR gateway project",
        "description": ABOUT,
        "packageId": PACKAGE,
        "license": "Apache-2.0",
        "fhirVersion": [FHIR_VERSION],
        "definition": {"resource": listed},
    }


def _name(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _title(resource: Resource) -> str:
    return str(resource.get("title") or resource.get("name") or resource["id"])


def _date(resources: Iterable[Resource]) -> str:
    """The newest date of what is published: no clock goes into the package."""
    return max(str(one.get("date", ""))[:10] for one in resources)
