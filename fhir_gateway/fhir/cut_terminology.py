"""Cut the package's code systems and value sets to what the terminology service answers from.

Part of the cut at set-up (fhir.cut): output is `r4/terminology.json`, which `fhir.terminology`
reads. Left out are examples, resources without content, translations
into other languages than Chinese and English, long definitions, and the content of SNOMED CT,
which needs a licence: a value set that lists concepts of it keeps only the system's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fhir_gateway.fhir.terminology import ConceptRow, R4Terminology, SystemRow

_Resource = Mapping[str, Any]

SNOMED = "http://snomed.info/sct"
_REPLACED_BY = "http://hl7.org/fhir/StructureDefinition/codesystem-replacedby"
_LANGUAGES = ("zh", "en")

#: Longer definitions stay in the package: they are two thirds of its size and nobody codes by them.
LONGEST_DEFINITION = 400

#: What a ValueSet keeps.
_KEPT = (
    "resourceType", "id", "url", "version", "name", "title", "status", "experimental", "date",
    "publisher", "description", "immutable", "copyright",
)  # fmt: skip
_WITHOUT_SNOMED = "The concepts of SNOMED CT that HL7 lists here are not carried by this server."


def cut_terminology(systems: Iterable[_Resource], sets: Iterable[_Resource]) -> R4Terminology:
    """What the gateway keeps of the package's terminology."""
    rows = tuple(_system(one) for one in systems if _has_content(one))
    versions: dict[str, set[str]] = {}
    for row in rows:
        versions.setdefault(row.url, set()).add(row.version)
    kept = [_value_set(one, versions) for one in sets if not _is_example(one)]
    return R4Terminology(rows, tuple(msgspec.Raw(msgspec.json.encode(one)) for one in kept))


def write_terminology(cut: R4Terminology, folder: Path) -> Path:
    """Writes terminology.json. The file appears whole or not at all."""
    target, draft = folder / "terminology.json", folder / "terminology.json.part"
    draft.write_bytes(msgspec.json.encode(cut, order="deterministic"))
    draft.replace(target)
    return target


def _is_example(resource: _Resource) -> bool:
    id: str = resource["id"]
    return id == "example" or id.startswith("example-") or "//acme" in resource["url"]


def _has_content(system: _Resource) -> bool:
    return system["content"] not in ("not-present", "supplement") and not _is_example(system)


def _system(resource: _Resource) -> SystemRow:
    url, _, url_version = resource["url"].partition("|")  # v2 tables of several versions
    content = "complete" if resource["content"] == "complete" else "fragment"
    rows = list(_concepts(resource))
    return SystemRow(
        url=url,
        version=url_version or resource.get("version", ""),
        title=resource.get("title") or resource["name"],
        content=content,
        case_sensitive=resource.get("caseSensitive", True),
        notice=resource.get("copyright", "") if "DICOM" in resource.get("copyright", "") else "",
        value_set=resource.get("valueSet", ""),
        identifiers=tuple(one["value"] for one in resource.get("identifier", ())),
        concepts=msgspec.Raw(msgspec.json.encode(rows)),
    )


def _concepts(resource: _Resource) -> Iterator[ConceptRow]:
    """The concepts in their order, the hierarchy as parents."""
    nested = list(_walk(resource, ()))
    above: dict[str, dict[str, None]] = {}
    for concept, parents in nested:
        above.setdefault(concept["code"], {}).update(dict.fromkeys(parents))
        for child in _values(concept, "child"):
            above.setdefault(child, {})[concept["code"]] = None
    seen: set[str] = set()
    for concept, _ in nested:
        if concept["code"] not in seen:  # a table of v2 has a code twice
            seen.add(concept["code"])
            yield _row(concept, tuple(above[concept["code"]]))


def _walk(parent: _Resource, above: tuple[str, ...]) -> Iterator[tuple[_Resource, tuple[str, ...]]]:
    for concept in parent.get("concept", ()):
        yield concept, above
        yield from _walk(concept, (concept["code"],))


def _values(concept: _Resource, code: str) -> list[Any]:
    return [
        value
        for entry in concept.get("property", ())
        if entry["code"] == code
        for name, value in entry.items()
        if name.startswith("value")
    ]


def _row(concept: _Resource, parents: tuple[str, ...]) -> ConceptRow:
    code: str = concept["code"]
    display = concept.get("display", code)
    definition = concept.get("definition", "").strip()
    same = definition.rstrip(".") == display
    status = next(iter(_values(concept, "status")), "")
    return ConceptRow(
        code,
        display,
        "" if same or len(definition) > LONGEST_DEFINITION else definition,
        parents,
        status if status in ("deprecated", "retired") else "",
        True in _values(concept, "notSelectable") or True in _values(concept, "abstract"),
        _names(concept),
        _replacement(concept),
    )


def _names(concept: _Resource) -> dict[str, str]:
    return {
        one["language"]: one["value"]
        for one in concept.get("designation", ())
        if one.get("language") in _LANGUAGES and one["value"] != concept.get("display")
    }


def _replacement(concept: _Resource) -> str:
    for extension in concept.get("extension", ()):
        if extension["url"] == _REPLACED_BY:
            return str(extension["valueCoding"]["code"])
    return ""


def _value_set(resource: _Resource, versions: Mapping[str, set[str]]) -> dict[str, Any]:
    kept = {name: resource[name] for name in _KEPT if name in resource}
    includes = [_include(one, versions) for one in resource["compose"]["include"]]
    excludes = [_include(one, versions) for one in resource["compose"].get("exclude", ())]
    kept["compose"] = {name: value for name, value in resource["compose"].items() if name in _DATES}
    kept["compose"]["include"] = includes
    if excludes:
        kept["compose"]["exclude"] = excludes
    if any(_needs_snomed(one) for one in _parts(resource)):
        kept["description"] = f"{kept['description']} {_WITHOUT_SNOMED}"
    return kept


_DATES = ("lockedDate", "inactive")


def _parts(resource: _Resource) -> list[_Resource]:
    compose = resource["compose"]
    return [*compose["include"], *compose.get("exclude", ())]


def _needs_snomed(include: _Resource) -> bool:
    return include.get("system") == SNOMED and ("concept" in include or "filter" in include)


def _include(include: _Resource, versions: Mapping[str, set[str]]) -> dict[str, Any]:
    """Part of a compose, without what explains it to people.

    A version that the package itself does not have (task-code 3.6.0) is left out.
    """
    kept = {
        name: include[name]
        for name in ("system", "version", "valueSet", "filter")
        if name in include and not (name == "filter" and _needs_snomed(include))
    }
    url, _, version = include.get("system", "").partition("|")
    if version:  # v2 tables of several versions
        kept |= {"system": url, "version": version}
    if url in versions and kept.get("version", "") not in versions[url]:
        kept.pop("version", None)
    if "filter" in kept:
        kept["filter"] = [_corrected(one) for one in kept["filter"]]
    if "concept" in include and not _needs_snomed(include):
        kept["concept"] = [_listed(one) for one in include["concept"]]
    return kept


def _corrected(condition: _Resource) -> _Resource:
    """R4 asks for units of time by the year; UCUM's canonical unit of time is the second."""
    if (condition["property"], condition["value"]) == ("canonical", "a"):
        return {**condition, "value": "s"}
    return condition


def _listed(concept: _Resource) -> dict[str, Any]:
    kept = {name: concept[name] for name in ("code", "display") if name in concept}
    names = [
        {name: one[name] for name in ("language", "value")}
        for one in concept.get("designation", ())
        if one.get("language") in _LANGUAGES and one["value"] != concept.get("display")
    ]
    return kept | ({"designation": names} if names else {})
