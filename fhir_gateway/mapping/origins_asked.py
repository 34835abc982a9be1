"""Which fields and elements are asked for, by what people write: `OBX-5`, `Observation.value`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fhir_gateway.errors import Invalid
from fhir_gateway.mapping.origins import Atom, Origin

_V2 = re.compile(
    r"(?P<name>[A-Z][A-Z0-9]{2})(?:\[(?P<n>\d+)\])?"
    r"(?:-(?P<field>\d+)(?:\((?P<r>\d+)\))?(?:\.(?P<c>\d+))?)?"
)
_INDEX = re.compile(r"\[\d+\]")


def fields_at(atoms: Iterable[Atom], asked: str) -> list[Atom]:
    """The fields that are meant: `OBX-5`, `OBX[2]-5.1`, `PID`; of a table `结果`, `line 3`.

    Raises Invalid where the message has none, with those that it has.
    """
    atoms = list(atoms)
    pattern = _V2.fullmatch(asked.strip().upper())
    if pattern is not None and any(_V2.fullmatch(atom.place) for atom in atoms):
        found = [atom for atom in atoms if _is_within(atom.place, pattern)]
    else:
        found = [atom for atom in atoms if asked in _words(atom.place)]
    if not found:
        known = ", ".join(dict.fromkeys(_short(atom.place) for atom in atoms if not atom.whole))
        raise Invalid(f"The message has no {asked}; it has {known}", rule="convert-field")
    return found


def _is_within(place: str, pattern: re.Match[str]) -> bool:
    found = _V2.fullmatch(place)
    return found is not None and all(
        value is None or found[name] == value for name, value in pattern.groupdict().items()
    )


def _words(place: str) -> tuple[str, ...]:
    line, _, column = place.partition(", column ")
    return (place, line, column)


def _short(place: str) -> str:
    found = _V2.fullmatch(place)
    if found is None:
        return place.partition(", column ")[2] or place
    return f"{found['name']}-{found['field']}"


def is_element(origin: Origin, asked: str) -> bool:
    """Whether `Observation.value` means this value: a name that begins it, places of lists and the
    type behind [x] left out at will."""
    given, wanted = origin.element.split("."), asked.strip().split(".")
    if len(wanted) > len(given):
        return False
    return all(_is_name(one, other) for one, other in zip(given, wanted, strict=False))


def _is_name(given: str, wanted: str) -> bool:
    if "[" not in wanted:
        given = _INDEX.sub("", given)
    choice = given.removeprefix(wanted) if given.startswith(wanted) else "-"
    return choice == "" or choice[0].isupper()
