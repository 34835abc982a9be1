"""Cut the package's invariants and bindings to what judging a resource by R4 needs.

Part of the cut at set-up (fhir.cut): output is `r4/invariants.json`, which `fhir.invariants` reads.
Invariants stand once with the type or element that states them, not with each that inherits them;
required bindings whose codes `definitions.json` lists are judged there and left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fhir_gateway.fhir.invariants import FILE, Bound, R4Invariants, Stated

_Structure = Mapping[str, Any]
#: Stated on every element of every type.
_EVERYWHERE = frozenset({"ele-1", "ext-1"})


def cut_invariants(structures: Iterable[_Structure], listed: Iterable[str]) -> R4Invariants:
    """The invariants and bindings of R4's types. `listed` are value sets that need no asking."""
    kept = [one for one in structures if _is_type(one)]
    roots = {one["type"]: _keys(one["snapshot"]["element"][0]) for one in kept}
    codes = frozenset(listed)
    invariants: dict[str, tuple[Stated, ...]] = {}
    bindings: dict[str, Bound] = {}
    for one in kept:
        for element in one["snapshot"]["element"]:
            path = element["path"].removesuffix("[x]")
            types = (
                [type["code"] for type in element.get("type", ())] if "." in path else [_base(one)]
            )
            stated = tuple(_stated(element, [roots.get(type, frozenset()) for type in types]))
            if stated:
                invariants[path] = stated
            bound = _bound(element, codes)
            if bound is not None:
                bindings[path] = bound
    return R4Invariants(dict(sorted(invariants.items())), dict(sorted(bindings.items())))


def write_invariants(cut: R4Invariants, folder: Path) -> Path:
    """Writes invariants.json. The file appears whole or not at all."""
    target, draft = folder / FILE, folder / f"{FILE}.part"
    draft.write_bytes(msgspec.json.encode(cut, order="deterministic"))
    draft.replace(target)
    return target


def _is_type(structure: _Structure) -> bool:
    return structure.get("derivation") != "constraint" and structure["kind"] != "logical"


def _keys(element: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(one["key"] for one in element.get("constraint", ()))


def _base(structure: _Structure) -> str:
    return str(structure.get("baseDefinition", "")).rpartition("/")[2]


def _stated(element: Mapping[str, Any], above: Iterable[frozenset[str]]) -> Iterator[Stated]:
    """The invariants of an element, without those that its types or bases state themselves."""
    inherited = _EVERYWHERE.union(*above)
    for one in element.get("constraint", ()):
        if one["key"] not in inherited and one.get("expression"):
            yield Stated(one["key"], one["severity"], one["human"], one["expression"])


def _bound(element: Mapping[str, Any], listed: frozenset[str]) -> Bound | None:
    binding = element.get("binding", {})
    strength, canonical = binding.get("strength"), binding.get("valueSet", "").partition("|")[0]
    if strength == "extensible" and canonical:
        return Bound(canonical, False)
    if strength == "required" and canonical and canonical not in listed:
        return Bound(canonical, True)
    return None
