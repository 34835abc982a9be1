"""Local codes that no map knows, as they stand in a resource: what the work list is made of.

A resource that the coder has flagged gives a row of the global index for each such code, under its
owner, so that an institution's codes are found and counted without reading what it has stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fhir_gateway.fhir.keys import key64, parameter_key
from fhir_gateway.terminology.catalogue import SYSTEMS
from fhir_gateway.terminology.coder import DATA_QUALITY, UNMAPPED_ITEM, UNMAPPED_ORDER
from fhir_gateway.terminology.local_map import Use, is_standard
from fhir_gateway.terminology.mapped_by import mapped_by
from fhir_gateway.terminology.specimen import specimen_of

#: The types that are flagged, and which map their codes belong to.
USE_OF: Mapping[str, Use] = {
    "Observation": "result",
    "DiagnosticReport": "result",
    "ImagingStudy": "result",
    "ServiceRequest": "order",
}
_ROWS = "unmapped-code"
_FLAGS = frozenset({UNMAPPED_ITEM, UNMAPPED_ORDER})


class Local(NamedTuple):
    """A local code as a resource has it: without `code` it is known by its name alone."""

    use: Use
    system: str
    code: str
    name: str
    specimen: str = ""
    unit: str = ""
    method: str = ""

    @property
    def key(self) -> int:
        """What tells codes apart in the index."""
        return key64(f"{self.use}\n{self.system}\n{self.code or '=' + self.name}")


def parameter_of(type: str) -> int:
    """The number of the rows of a type."""
    return parameter_key(type, _ROWS)


def unmapped_rows(
    resource: Mapping[str, Any], owner: int, spelled: Mapping[str, bytes] | None = None
) -> list[tuple[int, int, int]]:
    """Rows (parameter, owner, code) for the global index; none for what is not flagged. Hot.

    `spelled` are the members as JSON, where they are at hand: a code that was met before is known.
    """
    meta = resource.get("meta")
    if not meta or "tag" not in meta or resource["resourceType"] not in USE_OF or not owner:
        return []
    if not _is_flagged(meta["tag"]):
        return []
    type = resource["resourceType"]
    number = parameter_of(type)
    if type in _ONE_CODE:  # a key says no more than that
        said = spelled.get("code") if spelled is not None else None
        key = _known.get((type, said)) if said is not None else None
        if key is None:
            key = local_code(USE_OF[type], resource.get("code")).key
            if said is not None:
                _remember((type, said), key)
        return [(number, owner, key)]
    return list(dict.fromkeys((number, owner, one.key) for one in unmapped_codes(resource)))


#: Types with one code of their own.
_ONE_CODE = frozenset({"Observation", "DiagnosticReport"})

#: Keys of codes by type and bytes, and how many are remembered.
_known: dict[tuple[str, bytes], int] = {}
_MOST = 8_192


def _remember(name: tuple[str, bytes], key: int) -> None:
    if len(_known) >= _MOST:
        _known.clear()
    _known[name] = key


def _is_flagged(tags: Sequence[Mapping[str, Any]]) -> bool:
    return any(tag.get("code") in _FLAGS and tag.get("system") == DATA_QUALITY for tag in tags)


def unmapped_codes(resource: Mapping[str, Any]) -> Iterator[Local]:
    """The local codes of a flagged resource, with what it says beside them."""
    type = resource["resourceType"]
    use, specimen = USE_OF[type], specimen_of(resource)
    if type == "Observation":
        quantity, method = resource.get("valueQuantity", {}), resource.get("method", {})
        local = local_code(use, resource.get("code"))
        unit = quantity.get("unit") or quantity.get("code") or ""
        names = [one.get("display", "") for one in method.get("coding", ())]
        text = method.get("text") or next(filter(None, names), "")
        yield local._replace(specimen=specimen, unit=unit, method=text)
    elif type == "DiagnosticReport":
        yield local_code(use, resource.get("code"))._replace(specimen=specimen)
    elif type == "ImagingStudy":
        yield from (local_code(use, one) for one in resource.get("procedureCode", ()))
    else:
        yield from (one._replace(specimen=specimen) for one in _ordered(resource))


def _ordered(resource: Mapping[str, Any]) -> Iterator[Local]:
    """The code of an order, or where its details say what it is those that nobody knows."""
    details = resource.get("orderDetail", ())
    known = [_has_item(detail) for detail in details]
    if resource.get("code") and not any(known):
        yield local_code("order", resource["code"])
        return
    for detail, is_known in zip(details, known, strict=True):
        local = local_code("order", detail)
        if not is_known and local.code and not is_standard(local.system):
            yield local


def _has_item(concept: Mapping[str, Any]) -> bool:
    return any(coding.get("system") in SYSTEMS for coding in concept.get("coding", ()))


def local_code(use: Use, concept: Mapping[str, Any] | None) -> Local:
    """The institution's own code in a CodeableConcept, else any code, else its name."""
    concept = concept or {}
    codings = [
        one
        for one in concept.get("coding", ())
        if one.get("code") and one.get("system") not in SYSTEMS and mapped_by(one) is None
    ]
    own = [one for one in codings if not is_standard(one.get("system", ""))]
    text = concept.get("text", "")
    for one in (*own, *codings):
        return Local(use, one.get("system", ""), one["code"], one.get("display") or text)
    names = [text, *(one.get("display", "") for one in concept.get("coding", ()))]
    return Local(use, "", "", next(filter(None, names), ""))
