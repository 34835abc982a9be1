"""What is looked at in every resource beside its structure: codes, units, national numbers.

The functions that judging asks for (fhir.profile_context.Context): a code that its system does not
have or has retired, a display that is the name of another code, a wrong url of a system that is
here, a unit that is none or measures something else than the catalogue's item, a check digit.
What is not known here is told as information, never as an error. Pure; answers are remembered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhir_gateway.errors import Severity
from fhir_gateway.fhir.profile_context import Finding
from fhir_gateway.terminology.catalogue import SYSTEMS, Catalogue, Item
from fhir_gateway.terminology.identifier_checks import check_number
from fhir_gateway.terminology.naming import Naming
from fhir_gateway.terminology.service import Terminology
from fhir_gateway.terminology.service_likely import (
    code_named,
    likely_code,
    likely_system,
    system_of_value_set,
)
from fhir_gateway.terminology.service_names import folded, names_of
from fhir_gateway.terminology.system import Concept, System
from fhir_gateway.terminology.unit import compare_units, property_of

UCUM = "http://unitsofmeasure.org"

#: HL7's own tables, which go on growing outside of R4.
_GROWING = (
    "http://terminology.hl7.org/CodeSystem/v2-",
    "http://terminology.hl7.org/CodeSystem/v3-",
)

#: Answers that are remembered; then all are forgotten, for codes come from anybody.
REMEMBERED = 20_000
_LONGEST = 120

Findings = tuple[Finding, ...]
_NOTHING: Findings = ()
_Named = tuple[str, str, str, str]


class Looks:
    """The looks of one terminology, catalogue and table of identifier systems."""

    def __init__(self, terminology: Terminology, catalogue: Catalogue, naming: Naming) -> None:
        self._terminology = terminology
        self._catalogue = catalogue
        self._naming = naming
        self._codings: dict[_Named, Findings] = {}
        self._urls: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {}  # by system: the code that a name belongs to

    def coding(self, coding: Mapping[str, Any]) -> Findings:
        """What is wrong with a Coding."""
        system, code = coding.get("system"), coding.get("code")
        if not system or not code:
            return _NOTHING
        key = (system, code, coding.get("version") or "", coding.get("display") or "")
        found = self._codings.get(key)
        if found is None:
            if len(self._codings) >= REMEMBERED:
                self._codings.clear()
            found = self._codings[key] = tuple(self._judge(*key))
        return found

    def quantity(self, quantity: Mapping[str, Any]) -> Findings:
        """What is wrong with the unit of a Quantity: a code that UCUM does not have."""
        code = quantity.get("code")
        if quantity.get("system") != UCUM or not code:
            return _NOTHING
        key = (UCUM, code, "", "")
        found = self._codings.get(key)
        if found is None:
            found = self.coding({"system": UCUM, "code": code})
        return found

    def identifier(self, identifier: Mapping[str, Any]) -> Findings:
        """What is wrong with a national number: its form and check digit."""
        system, value = identifier.get("system"), identifier.get("value")
        known = self._naming.find(system) if system and value else None
        if known is None:
            return _NOTHING
        wrong = check_number(known.id, str(value))
        if wrong is None:
            return _NOTHING
        return (Finding(wrong.rule, "invariant", "error", wrong.says, ".value"),)

    def whole(self, resource: Mapping[str, Any]) -> Findings:
        """What is wrong between the parts of a resource: the unit of a result and its item."""
        if resource.get("resourceType") != "Observation":
            return _NOTHING
        found = list(self._unit(resource, ""))
        for number, component in enumerate(resource.get("component", ())):
            found += self._unit(component, f".component[{number}]")
        return tuple(found)

    # -- codes -----------------------------------------------------------------------------------

    def _judge(self, url: str, code: str, version: str, display: str) -> Iterator[Finding]:
        library = self._terminology.library
        system = library.system(url, version) or library.system(url)
        if system is None:
            yield self._unknown_system(url)
            return
        concept = system.find(code)
        if concept is None:
            yield self._unknown_code(system, code)
            return
        if concept.inactive:
            says = f"is a retired code of {system.url}: send the code that took its place"
            yield Finding("code-retired", "business-rule", "warning", says, ".code")
        if display:
            yield from self._display(system, concept, display)

    def _unknown_system(self, url: str) -> Finding:
        likely = self._likely(url)
        if likely:
            says = f"is a wrong url of a code system: write {likely}"
            return Finding("system-url", "code-invalid", "warning", says, ".system")
        says = "names a code system that is not known here, so the code was not judged"
        return Finding("system-unknown", "not-supported", "information", says, ".system")

    def _likely(self, url: str) -> str:
        """The system that a wrong url means, "" for none."""
        found = self._urls.get(url)
        if found is None:
            if len(self._urls) >= REMEMBERED:
                self._urls.clear()
            library = self._terminology.library
            found = system_of_value_set(library, url) or likely_system(library, url)
            self._urls[url] = found
        return found

    def _unknown_code(self, system: System, code: str) -> Finding:
        if system.content != "complete":
            says = f"is not in the part of {system.url} that is here, so it was not judged"
            return Finding("code-unknown", "not-supported", "information", says, ".code")
        likely = likely_code(system, code)
        more = f": write {likely}" if likely else ": look the code up in it"
        says = f"is no code of {system.url}{more}"
        severity: Severity = "error"
        if system.url.startswith(_GROWING) and not likely:
            severity = "warning"
            says = f"is no code of {system.url} as R4 publishes it; a later table may have it"
        return Finding("code-unknown", "code-invalid", severity, says, ".code")

    def _display(self, system: System, concept: Concept, display: str) -> Iterator[Finding]:
        """A name that is none of the code's. Where it is the name of another item of the
        catalogue nobody knows which of the two was measured: that is an error."""
        names = [name.value for name in names_of(concept, system)]
        wanted = folded(display)
        if not names or any(folded(name) == wanted for name in names):
            return
        other = code_named(system, display, self._names.setdefault(system.url, {}))
        right = _shown(names[0])
        says = f"is no name of this code, which is called {right}"
        severity: Severity = "warning"
        if other:
            says = f"is the name of another code, {other}; this code is called {right}"
            if self._catalogue.by_coding(system.url, concept.code) is not None:
                severity = "error"
        yield Finding("display", "invalid", severity, says, ".display")

    # -- units -----------------------------------------------------------------------------------

    def _unit(self, part: Mapping[str, Any], below: str) -> Iterator[Finding]:
        quantity = part.get("valueQuantity")
        if not quantity:
            return
        item = self._item(part.get("code"))
        if item is None or not item.ucum_unit:
            return
        unit = quantity.get("code") if quantity.get("system") == UCUM else None
        unit = unit or quantity.get("unit") or quantity.get("code") or ""
        if not unit or compare_units(unit, item.ucum_unit) is not False:
            return
        found, wanted = property_of(unit), property_of(item.ucum_unit)
        where = f"{below}.value"
        if found == wanted:
            says = f"is in another power of ten than the catalogue's unit {item.ucum_unit}"
            yield Finding("unit-scale", "value", "information", says, where)
            return
        says = (
            f"has a unit of another kind of quantity ({found}) than item {item.code}, which is "
            f"given in {item.ucum_unit} ({wanted}): send the result in such a unit"
        )
        yield Finding("unit", "value", "error", says, where)

    def _item(self, concept: Any) -> Item | None:
        for coding in concept.get("coding", ()) if concept else ():
            if coding.get("system") not in SYSTEMS:
                continue
            item = self._catalogue.by_coding(coding.get("system"), coding.get("code"))
            if item is not None:
                return item
        return None


def _shown(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}…"
