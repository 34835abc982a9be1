"""What was probably meant: the right url for a wrong one, the right spelling of a code.

Only for messages. Nothing is ever judged by what was probably meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from weakref import WeakKeyDictionary

from fhir_gateway.terminology.service_library import Library, Resource
from fhir_gateway.terminology.service_names import folded, names_of
from fhir_gateway.terminology.system import System

_NOISE = re.compile(r"^(https?|urn:oid|urn:uuid)[:/]+|^www\.|[/#?]+$|^urn:|^oid:", re.IGNORECASE)

#: Names under which well-known systems are met on the wire.
_ALIASES: Mapping[str, str] = {
    "loinc": "http://loinc.org", "ln": "http://loinc.org", "lnc": "http://loinc.org",
    "2.16.840.1.113883.6.1": "http://loinc.org",
    "ucum": "http://unitsofmeasure.org",
    "2.16.840.1.113883.6.8": "http://unitsofmeasure.org",
    "unitsofmeasure.org/ucum.html": "http://unitsofmeasure.org",
    "dcm": "http://dicom.nema.org/resources/ontology/DCM",
    "dicom": "http://dicom.nema.org/resources/ontology/DCM",
    "1.2.840.10008.2.16.4": "http://dicom.nema.org/resources/ontology/DCM",
    "bcp47": "urn:ietf:bcp:47", "ietf:bcp47": "urn:ietf:bcp:47", "mime": "urn:ietf:bcp:13",
}  # fmt: skip

#: Concepts of a system that are looked through for a name.
_MOST_NAMES = 20_000


#: The urls of systems by what is left of them and of their other names, for each library.
_bare_names: WeakKeyDictionary[Library, Mapping[str, str]] = WeakKeyDictionary()


def likely_system(library: Library, url: str) -> str:
    """The url of a system that is here and that a wrong url probably means, "" for none."""
    names = _bare_names.get(library)
    if names is None:
        names = _bare_names[library] = _names(library)
    bare = _bare(url)
    alias = _ALIASES.get(bare, "")
    if alias and library.system(alias) is not None:
        return alias
    tail = bare.rpartition("/")[2]
    return names.get(bare) or (names.get(f"…{tail}", "") if len(tail) > 3 else "")


def _names(library: Library) -> Mapping[str, str]:
    """Names of systems; the last part of a url, after …, where one system alone has it."""
    found: dict[str, str] = {}
    tails: dict[str, str] = {}
    for url, versions in library.systems().items():
        bare = _bare(url)
        tail = bare.rpartition("/")[2]
        tails[tail] = "" if tail in tails else url
        for system in versions:
            identifiers: frozenset[str] = getattr(system, "identifiers", frozenset())
            for name in (url, *identifiers):
                found.setdefault(_bare(name), url)
    return {f"…{tail}": url for tail, url in tails.items() if url} | found


def system_of_value_set(library: Library, url: str) -> str:
    """The system of a value set whose url stands in the place of a system's."""
    value_set: Resource | None = library.value_set(url) if library.has_value_set(url) else None
    if value_set is None:
        return ""
    includes = value_set.get("compose", {}).get("include", ())
    systems = dict.fromkeys(one["system"] for one in includes if one.get("system"))
    return ", ".join(systems)


def _bare(url: str) -> str:
    """A url without what people get wrong: scheme, www, what it ends with, case."""
    text = url.strip()[:500]
    for _ in range(3):
        text = _NOISE.sub("", text)
    return text.casefold()


def likely_code(system: System, code: str) -> str:
    """A code of the system that differs from this one in case and blanks alone, or that its grammar
    takes it for; "" for none."""
    near = getattr(system, "near", None)  # a grammar knows what a spelling may mean
    if near is not None and (likely := near(code)):
        return str(likely)
    for other in _spellings(code):
        found = system.find(other)
        if found is not None:
            return found.code
    return ""


def _spellings(code: str) -> Iterator[str]:
    bare = code.strip()
    yield from dict.fromkeys([bare, bare.upper(), bare.lower(), bare.capitalize()])


def code_named(system: System, display: str, names: dict[str, str]) -> str:
    """The code that a name belongs to, "" for none. `names` is filled at the first question
    and kept by the caller."""
    if not names:
        listing = system.concepts()
        for number, concept in enumerate(listing if listing is not None else ()):
            if number >= _MOST_NAMES:
                break
            for name in names_of(concept, system):
                names.setdefault(folded(name.value), concept.code)
        names.setdefault("", "")
    return names.get(folded(display), "")
