"""Targets of references: types, profiles and aggregation (hl7.org/fhir/R4/references.html)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.path import reference_type
from fhir_gateway.fhir.profile_context import Judge, Library, Place, Resource, Run, passes
from fhir_gateway.fhir.profile_tree import BASE, is_base

_SHOWN = 6


def aggregation_judge(kinds: set[Any]) -> Judge:
    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        text = value.get("reference") if isinstance(value, dict) else None
        if not isinstance(text, str):
            return
        if text.startswith("#") and "contained" not in kinds:
            run.add(place, "structure", "aggregation", "must not name a contained resource")
        elif not text.startswith("#") and kinds == {"contained"}:
            run.add(place, "structure", "aggregation", "must name a contained resource")

    return judge


def target_of(run: Run, reference: Any) -> Resource | None:
    """What a reference names, where it is at hand: contained, or what the context resolves."""
    text = reference.get("reference") if isinstance(reference, dict) else reference
    if not isinstance(text, str):
        return None
    if not text.startswith("#"):
        return run.resolve(text)
    for holder in (run.resource, run.root):
        if text == "#":
            return run.root
        for one in holder.get("contained", ()):
            if isinstance(one, dict) and one.get("id") == text[1:]:
                return one
    return None


def target_judge(urls: Sequence[str], type: str, known: Library) -> Judge:
    """A reference must name one of these types, and where the target is at hand, of these
    profiles."""
    allowed = _Targets(urls, known)

    def judge(run: Run, value: Any, sibling: Any, place: Place) -> None:
        target = target_of(run, value)
        if target is not None:
            named: str | None = str(target.get("resourceType"))
        else:  # the url of a canonical says nothing of what is found there
            named = None if type == "canonical" else reference_type(value)
        where = place if type == "canonical" else Place(place, "reference", -1, "string")
        if named is None:
            return
        fitting = allowed.of(named)
        if not fitting:
            run.add(where, "value", "reference-target", f"must name {allowed.names}")
        elif target is not None and "" not in fitting:
            profiles = [known.profile(url) for url in fitting]
            inner = Place(None, named, -1, named)
            if None not in profiles and not any(
                passes(run, one.judge, target, None, inner) for one in profiles if one is not None
            ):
                says = f"must name a {named} that conforms to {' or '.join(fitting)}"
                run.add(where, "value", "target-profile", says)

    return judge


class _Targets:
    """The profiles of a reference's targets, by type; "" stands for all of the type."""

    def __init__(self, urls: Sequence[str], known: Library) -> None:
        self.urls, self.known = urls, known
        self.names = " or ".join(url.rpartition("/")[2] for url in urls[:_SHOWN])
        self._types: dict[str, str] | None = None

    def of(self, named: str) -> list[str]:
        """The profiles that a target of this type may have."""
        if self._types is None:
            self._types = {url: self._type(url) for url in self.urls}
        is_a = definitions().is_a
        fitting = {
            "" if is_base(url) or not type else url
            for url, type in self._types.items()
            if not type or is_a(named, type)
        }
        return sorted(fitting)

    def _type(self, url: str) -> str:
        """The resource type of a profile, "" when it is not known here."""
        if is_base(url):
            return url.partition("|")[0].removeprefix(BASE)
        found = self.known.find(url)
        return "" if found is None else str(found.get("type") or "")
