"""Identifier systems and their other names: one number, one spelling in the index.

Each file of profiles/NamingSystem is a NamingSystem (hl7.org/fhir/R4/namingsystem.html) with the
preferred system of one kind of number and its aliases. What is stored stays as it came; index rows,
identity keys and searches speak of the preferred system, and of the number in its usual form where
the file names one. docs/identifiers.md, docs/adr/0022.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

from fhir_gateway.errors import Issue, Unprocessable
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.identifier import fold_id_number

#: The extension of a NamingSystem that says how its numbers are compared.
FORM_URL = f"{CANONICAL}/StructureDefinition/identifier-value-form"

_OID = re.compile(r"(?:urn:oid:)?([0-2](?:\.(?:0|[1-9][0-9]*))+)", re.IGNORECASE)


def _upper(text: str) -> str:
    """Half-width, upper case, without blanks; what is not of Latin letters stays as it is."""
    folded = "".join(unicodedata.normalize("NFKC", text).upper().split())
    return folded if folded.isascii() else text


#: How numbers are compared. Each form of a form is itself.
FORMS: Mapping[str, Callable[[str], str]] = {
    "exact": lambda text: text,
    "id-number": fold_id_number,
    "upper": _upper,
}


class IdentifierSystem(NamedTuple):
    """One kind of number. `types` are the (system, code) of NamingSystem.type."""

    id: str
    preferred: str
    aliases: tuple[str, ...] = ()
    form: str = "exact"
    types: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Naming:
    """All identifier systems that are known. Compared by identity: there is one in a process."""

    systems: tuple[IdentifierSystem, ...]
    digest: int  # of what index rows depend on: 31 bits, 0 for no system
    _by_name: Mapping[str, IdentifierSystem]
    _folding: tuple[IdentifierSystem, ...]

    def find(self, system: str) -> IdentifierSystem | None:
        """The kind of number that a system stands for, by any of its names."""
        found = self._by_name.get(system)
        if found is not None or not system or system[0] not in _BEGINS_OID:
            return found
        return self._by_name.get(_spelled(system))

    def preferred(self, system: str) -> str:
        """The system's preferred name; an OID as a URI; any other system as it is."""
        found = self.find(system)
        if found is not None:
            return found.preferred
        return _spelled(system) if system and system[0] in _BEGINS_OID else system

    def normal(self, system: str, value: str) -> tuple[str, str]:
        """System and number as the index has them."""
        found = self._by_name.get(system) or self.find(system)
        if found is None:
            return self.preferred(system), value
        return found.preferred, FORMS[found.form](value)

    def meant(self, value: str) -> list[tuple[str, str]]:
        """(system, number) of what a number without a system may be, spelled otherwise here."""
        pairs = ((one.preferred, FORMS[one.form](value)) for one in self._folding)
        return [(system, number) for system, number in pairs if number != value]

    def typed(self, system: str, value: str) -> tuple[str, str]:
        """(form, number) of an identifier, for rows that do not tell of its system."""
        found = self.find(system)
        if found is None or found.form == "exact":
            return "", value
        return found.form, FORMS[found.form](value)

    def spellings(self, value: str) -> list[tuple[str, str]]:
        """All (form, number) that `typed` can have made of a number that is asked for."""
        forms = dict.fromkeys(one.form for one in self._folding)
        return [("", value), *((form, FORMS[form](value)) for form in forms)]


_BEGINS_OID = "012uU"


def _spelled(system: str) -> str:
    """An OID as RFC 3061 spells it as a URI; anything else as it is."""
    match = _OID.fullmatch(system)
    return f"urn:oid:{match[1]}" if match else system


def naming_of(systems: Iterable[IdentifierSystem]) -> Naming:
    """The table of these systems. Raises Unprocessable when one name stands for two of them."""
    systems = tuple(sorted(systems))
    by_name: dict[str, IdentifierSystem] = {}
    issues = []
    for one in systems:
        for name in (one.preferred, *one.aliases):
            other = by_name.setdefault(_spelled(name), one)
            if other is not one:
                sentence = f"NamingSystem/{one.id}: {name} stands for NamingSystem/{other.id} too"
                issues.append(Issue("invalid", sentence, rule="naming-alias"))
    if issues:
        raise Unprocessable(issues=tuple(issues))
    folding = tuple(one for one in systems if one.form != "exact")
    return Naming(systems, _digest(systems), by_name, folding)


def _digest(systems: Iterable[IdentifierSystem]) -> int:
    told = [(one.preferred, sorted(one.aliases), one.form, sorted(one.types)) for one in systems]
    if not told:
        return 0
    digest = blake2b(repr(sorted(told)).encode(), digest_size=4).digest()
    return (int.from_bytes(digest, "big") & 0x7FFF_FFFF) or 1


#: Nothing is known: every system stands for itself.
NO_NAMES = naming_of(())


def naming_from(resources: Iterable[Mapping[str, Any]]) -> Naming:
    """The table of the NamingSystems among these resources that are in use and name identifiers.

    Raises Unprocessable with every fault of all of them.
    """
    systems, issues = list[IdentifierSystem](), list[Issue]()
    for resource in resources:
        if resource.get("resourceType") != "NamingSystem" or resource.get("kind") != "identifier":
            continue
        if resource.get("status") == "retired":
            continue
        try:
            systems.append(_read(resource))
        except Unprocessable as error:
            issues += error.issues
    if issues:
        raise Unprocessable(issues=tuple(issues))
    return naming_of(systems)


def _read(resource: Mapping[str, Any]) -> IdentifierSystem:
    """One NamingSystem. Raises Unprocessable for one that cannot be used."""
    id = str(resource.get("id", ""))
    names = [(one, _system_of(one)) for one in resource.get("uniqueId", ())]
    preferred = [name for one, name in names if name and one.get("preferred") is True]
    form = next((one.get("valueCode", "") for one in resource.get("extension", ())
                 if one.get("url") == FORM_URL), "exact")  # fmt: skip
    if len(preferred) != 1:
        raise _unfit(id, "has to have one uniqueId that is preferred", "naming-preferred")
    if form not in FORMS:
        raise _unfit(id, f"the form of its values must be one of {', '.join(FORMS)}", "naming-form")
    aliases = tuple(sorted({name for _, name in names if name} - {preferred[0]}))
    types = tuple(
        (coding.get("system", ""), coding.get("code", ""))
        for coding in resource.get("type", {}).get("coding", ())
    )
    return IdentifierSystem(id, preferred[0], aliases, form, types)


def _unfit(id: str, why: str, rule: str) -> Unprocessable:
    return Unprocessable(f"NamingSystem/{id}: {why}", rule=rule)


def _system_of(unique: Mapping[str, Any]) -> str:
    """The Identifier.system that a uniqueId means; "" when it is no system (type other)."""
    value = str(unique.get("value", ""))
    spelled = {"oid": _spelled(value), "uri": value, "uuid": f"urn:uuid:{value}"}
    return spelled.get(str(unique.get("type")), "")
