"""Which fields and elements are asked for, by what people write: `OBX-5`, `Observation.value`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from fhir_gateway.errors import Invalid
from fhir_gateway.mapping.origins import Atom, Origin

_V2 = re.compile(
    r"(?P<name>[A-Z][A-Z0-9]{2})(?:\[(?P<n>\d+)\])?"
    r"(?:-(?P<field>\d+)(?:\((?P<r>\d+)\))?(?:\.(?P<c>\d+))?)?"
)
_INDEX = re.compile(r"\[\d+\]")

#: So many fields are named to who asked for one that is not there.
_TOLD = 12


def fields_at(atoms: Iterable[Atom], asked: str) -> list[Atom]:
    """The fields that are meant: `OBX-5`, `OBX[2]-5.1`, `PID`; of a table `结果`, `line 3`; of a
    document `line 8`, or elements as they follow one another: `effectiveTime`, `setId@root`.

    Raises Invalid where the message has none, with some that it has: those most like it first.
    """
    atoms = list(atoms)
    pattern = _V2.fullmatch(asked.strip().upper())
    if pattern is not None and any(_V2.fullmatch(atom.place) for atom in atoms):
        found = [atom for atom in atoms if _is_within(atom.place, pattern)]
    else:
        path = _path(asked)
        found = [
            atom for atom in atoms if asked in _words(atom.place) or _follows(atom.place, path)
        ]
    if not found:
        known = list(dict.fromkeys(_short(atom.place) for atom in atoms if not atom.whole))
        near = get_close_matches(asked, known, _TOLD, 0.5)
        some = ", ".join(dict.fromkeys([*near, *known[: _TOLD - len(near)]]))
        more = f" and {len(known) - _TOLD} more" if len(known) > _TOLD else ""
        raise Invalid(f"The message has no {asked}; it has {some}{more}", rule="convert-field")
    return found


def _is_within(place: str, pattern: re.Match[str]) -> bool:
    found = _V2.fullmatch(place)
    return found is not None and all(
        value is None or found[name] == value for name, value in pattern.groupdict().items()
    )


def _words(place: str) -> tuple[str, ...]:
    line, _, column = place.partition(", column ")
    return (place, line, column, place.partition(": ")[0])


def _path(place: str) -> list[str]:
    """The elements and the attribute of a place in a document, numbers left out."""
    return re.split(r"[/@]", _INDEX.sub("", place.partition(": ")[2] or place))


def _follows(place: str, path: list[str]) -> bool:
    """Whether the place is in a document and has these names, one behind the other."""
    if ": " not in place:
        return False
    names, count = _path(place), len(path)
    return any(names[at : at + count] == path for at in range(len(names) - count + 1))


def _short(place: str) -> str:
    found = _V2.fullmatch(place)
    if found is not None:
        return f"{found['name']}-{found['field']}"
    if ": " not in place:
        return place.partition(", column ")[2] or place
    names = _path(place)
    return names[-2] if "@" in place else names[-1]


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
