"""What a new message changes of what an earlier one said. HL7 v2.5.1 2.5.3: empty says nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fhir_gateway.errors import Conflict
from fhir_gateway.mapping.doors import INTAKE_SYSTEM, intake_tags
from fhir_gateway.terminology.naming import NO_NAMES, Naming

Resource = dict[str, Any]

#: Elements that the gateway writes itself; they are made anew for each version.
_OWN = frozenset({"meta", "text"})


def update(stored: Resource, new: Resource) -> Resource:
    """The new resource, with the elements that it leaves empty as they were stored.

    Identifiers are joined: those of a system that the new resource names replace the stored ones.
    """
    merged = {k: v for k, v in stored.items() if k not in _OWN} | new
    if "identifier" in stored:
        merged["identifier"] = _identifiers(new.get("identifier", []), stored["identifier"])
    return merged


def fill(stored: Resource, new: Resource) -> Resource:
    """The stored resource, with what only the new one knows: for sources that know less."""
    merged = {k: v for k, v in new.items() if k not in _OWN}
    merged |= {k: v for k, v in stored.items() if k not in _OWN}
    merged["identifier"] = _identifiers(stored.get("identifier", []), new.get("identifier", []))
    return {k: v for k, v in merged.items() if v not in (None, "", [], {})}


def _identifiers(first: Iterable[Resource], second: Iterable[Resource]) -> list[Resource]:
    own = list(first)
    systems = {item.get("system") for item in own}
    return own + [item for item in second if item.get("system") not in systems]


def check_same_person(
    stored: Resource, new: Resource, documents: Iterable[str], naming: Naming = NO_NAMES
) -> None:
    """Raises Conflict when one patient number stands for two people.

    That is: another identity document, or, where documents cannot be compared, another name and
    another birth date. `documents` are the preferred identifier systems of identity documents.
    """
    systems = frozenset(documents)
    before, after = _numbers(stored, systems, naming), _numbers(new, systems, naming)
    if before and after:
        same = bool(before & after)
    else:
        same = not (_differs(stored, new, "birthDate") and _names(stored).isdisjoint(_names(new)))
    if not same:
        raise Conflict(
            "The institution's patient number stands for another person here; nothing was stored",
            expression="PID[1]-3",
            rule="patient-identity",
        )


def contradictions(
    stored: Resource, stated: Resource, documents: Iterable[str], naming: Naming = NO_NAMES
) -> list[str]:
    """The elements by which a message about a patient's number speaks of somebody else; none when
    it fits. Such a message moves results, so one thing that it says and nothing that agrees is
    enough: another document, or without documents another name, another birth date, or both.
    """
    systems = frozenset(documents)
    before, after = _numbers(stored, systems, naming), _numbers(stated, systems, naming)
    if before and after:
        return [] if before & after else ["identifier"]
    names = _names(stored), _names(stated)
    compared = {
        "name": names[0].isdisjoint(names[1]) if all(names) else None,
        "birthDate": _differs(stored, stated, "birthDate") if _both(stored, stated) else None,
    }
    if False in compared.values():
        return []
    return [element for element, differs in compared.items() if differs]


def _both(stored: Resource, stated: Resource) -> bool:
    return bool(stored.get("birthDate") and stated.get("birthDate"))


def _numbers(patient: Resource, systems: frozenset[str], naming: Naming) -> set[str]:
    named = (
        naming.normal(item.get("system", ""), item.get("value", ""))
        for item in patient.get("identifier", ())
    )
    return {value.upper() for system, value in named if system in systems}


def _differs(stored: Resource, new: Resource, element: str) -> bool:
    return bool(stored.get(element) and new.get(element)) and stored[element] != new[element]


def _names(patient: Resource) -> set[str]:
    names = patient.get("name", ())
    return {"".join(name.get("text", "").split()).casefold() for name in names} - {""}


def finalised(stored: Resource, new: Resource) -> Resource:
    """The stored result, final now: nothing of it is said anew but when it was issued."""
    status = stored["status"] if stored["status"] in _SETTLED else new["status"]
    kept = {k: v for k, v in stored.items() if k not in _OWN}
    said = {k: v for k, v in new.items() if k == "issued" or k not in kept}
    merged = kept | said | {"status": status}
    return _tagged(merged, stored, intake_tags(new))


def voided(stored: Resource, tags: Iterable[str] = ()) -> Resource:
    """The stored resource, in error, with tags of intake that say why."""
    kept = {k: v for k, v in stored.items() if k not in _OWN}
    return _tagged(kept | {"status": "entered-in-error"}, stored, tags)


def _tagged(merged: Resource, stored: Resource, tags: Iterable[str]) -> Resource:
    """The resource with the labels and tags of the stored one, and these tags of intake."""
    known = intake_tags(stored)
    more = [{"system": INTAKE_SYSTEM, "code": tag} for tag in tags if tag not in known]
    meta = {k: v for k, v in stored.get("meta", {}).items() if k in ("profile", "security", "tag")}
    if more:
        meta["tag"] = [*meta.get("tag", ()), *more]
    rest = {k: v for k, v in merged.items() if k != "meta"}
    return {**rest, "meta": meta} if meta else rest


#: What a message that finalises leaves as it is.
_SETTLED = frozenset({"final", "corrected", "amended"})

#: A report with one of these no longer stands by results that it does not name.
_REPLACING = frozenset({"corrected", "amended"})
_VOID = frozenset({"cancelled", "entered-in-error"})

#: How far a report or a result has come; what is not named stands beside final.
_STAGES = {
    **dict.fromkeys(("registered", "partial", "preliminary"), 0),
    **dict.fromkeys(("amended", "corrected", "appended"), 2),
    "entered-in-error": 3,
}


def is_older(stored: Resource, status: str, issued_us: int | None, stored_us: int | None) -> bool:
    """Whether a message about a report says less than what is stored: it was issued earlier, or,
    where the times do not tell the two apart, its status comes before the one that is stored."""
    if are_told_apart(issued_us, stored_us):
        return issued_us < stored_us  # type: ignore[operator] # both are there
    return is_before(status, stored)


def are_told_apart(issued_us: int | None, stored_us: int | None) -> bool:
    """Whether two times say which of two reports is the later one."""
    return issued_us is not None and stored_us is not None and issued_us != stored_us


def is_before(status: str, stored: Resource) -> bool:
    """Whether a status is one that comes before that of what is stored: preliminary, final,
    corrected, taken back."""
    return _STAGES.get(status, 1) < _STAGES.get(stored.get("status", ""), 1)


def results(stored: Resource, new: Resource) -> tuple[list[Resource], list[str]]:
    """(results of the report, references that it withdraws).

    A correction replaces: what it leaves out is withdrawn. A void report withdraws all. Any other
    adds to what earlier messages of the same report brought.
    """
    named = new.get("result", [])
    known = {item["reference"] for item in named}
    others = [item for item in stored.get("result", ()) if item["reference"] not in known]
    if new["status"] in _REPLACING:
        return named, [item["reference"] for item in others]
    if new["status"] in _VOID:
        return named + others, [item["reference"] for item in others]
    return named + others, []
