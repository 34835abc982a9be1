"""Extensions by their definitions: whether they are known, where they may stand, what they hold
(hl7.org/fhir/R4/extensibility.html, defining-extensions.html#context).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_gateway.errors import Invalid
from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.fhir.fhirpath import Env, compile_items
from fhir_gateway.fhir.fhirpath_values import Trouble
from fhir_gateway.fhir.profile_context import Library, Place, Run


def judge_extension(
    run: Run, value: Mapping[str, Any], place: Place, parent: Mapping[str, Any]
) -> None:
    """Judges one extension. A part of a complex extension has no absolute url and is judged with
    the whole."""
    known, url = run.context.known, value.get("url")
    if known is None or not isinstance(url, str) or ":" not in url:
        return
    modifier = place.name == "modifierExtension"
    profile = known.profile(url)
    if profile is None:
        if modifier:
            says = "is a modifier that is not known here: the rest may not mean what it says"
            run.add(place, "not-supported", "modifier-extension-unknown", says)
        else:
            says = f"was not judged: no definition of {url} is known here"
            run.add(place, "not-supported", "extension-unknown", says, "information")
        return
    _check_context(run, known.find(url) or {}, place, parent, known)
    profile.judge(run, value, None, place)


def _check_context(
    run: Run,
    structure: Mapping[str, Any],
    place: Place,
    parent: Mapping[str, Any],
    known: Library,
) -> None:
    contexts = structure.get("context")
    if not isinstance(contexts, list) or not contexts:
        return
    if any(isinstance(one, Mapping) and _fits(run, one, place, parent, known) for one in contexts):
        return
    allowed = ", ".join(
        str(one.get("expression")) for one in contexts[:8] if isinstance(one, Mapping)
    )
    says = f"does not belong here: this extension is for {allowed}"
    run.add(place, "structure", "extension-context", says)


def _fits(
    run: Run,
    context: Mapping[str, Any],
    place: Place,
    parent: Mapping[str, Any],
    known: Library,
) -> bool:
    kind, expression = context.get("type"), str(context.get("expression"))
    if kind == "extension":
        return parent.get("url") == expression
    if kind == "fhirpath":
        return _is_selected(run, expression, parent, known)
    return place.above is not None and _is_element(expression.rpartition("#")[2], place.above)


def _is_element(expression: str, holder: Place) -> bool:
    """Whether an element is named by its type, or by its path from a type."""
    if definitions().is_a(holder.type, expression):
        return True
    wanted = expression.replace("[x]", "")
    below, place = "", holder
    while place.above is not None:
        below = f".{place.name}{below}"
        place = place.above
        if wanted.endswith(below) and definitions().is_a(place.type, wanted[: -len(below)]):
            return True
    return False


def _is_selected(run: Run, expression: str, parent: Mapping[str, Any], known: Library) -> bool:
    type = str(run.resource.get("resourceType"))
    item = (type, run.resource, None)
    try:
        found = compile_items(expression)(Env(run, item, known), (item,))
    except (Invalid, Trouble):
        return True  # where it may stand is not known
    return any(one[1] is parent for one in found)
