"""From draft orders to the items that are asked about.

An order line is one ServiceRequest. Its catalogue items come from a coding that it already has, or
from the order map of the institution that orders (context.Coder); a panel gives several items
under one key. What no map knows stays in the question as an item without a code: such a line is
*cannot-decide*, never "no earlier result". hl7.org/fhir/R4/servicerequest.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from fhir_gateway.context import Coder, Gateway
from fhir_gateway.errors import Invalid, Issue
from fhir_gateway.fhir.datatypes import local_day
from fhir_gateway.fhir.wire import render
from fhir_gateway.interactions.local_codes import follow
from fhir_gateway.recognition.facts import laterality
from fhir_gateway.recognition.facts_imaging import contrast_of_words, own_words
from fhir_gateway.recognition.model import CONTEXTS, OrderedItem
from fhir_gateway.recognition.vocabulary import catalogue_of
from fhir_gateway.settings import CANONICAL
from fhir_gateway.terminology.catalogue import SYSTEMS, Item, ordered_items
from fhir_gateway.terminology.specimen import canonical_specimen, specimen_of

#: Codes of what may be said of the patient's situation, in reasonCode or as a parameter.
CONTEXT_SYSTEM = f"{CANONICAL}/CodeSystem/recognition-context"

#: ServiceRequest.priority that means an emergency.
EMERGENCY_PRIORITIES = frozenset({"stat", "asap"})

#: Words that order forms print as the reason, compared as a whole: free text is not interpreted.
CONTEXT_WORDS = {
    "急诊": "emergency", "急救": "emergency", "抢救": "emergency",
    "术前": "pre-operation", "术前检查": "pre-operation", "手术前检查": "pre-operation",
    "输血前": "pre-transfusion", "输血前检查": "pre-transfusion", "备血": "pre-transfusion",
    "司法鉴定": "forensic", "伤残鉴定": "forensic", "病退鉴定": "forensic",
    "新入院": "inpatient-new", "入院常规": "inpatient-new",
    "妊娠": "pregnancy", "孕检": "pregnancy",
    "重症监护": "intensive-care", "血液透析": "dialysis", "透析": "dialysis", "新生儿": "newborn",
    "化疗": "chemotherapy", "化疗前": "chemotherapy", "抗凝治疗": "anticoagulation",
}  # fmt: skip


class Order(NamedTuple):
    """One order line: its items share its key; `context` is what the order says of the patient."""

    key: str
    display: str
    items: tuple[OrderedItem, ...]
    context: frozenset[str]


class _Coding(msgspec.Struct):
    system: str = ""
    code: str = ""
    display: str = ""


class _Concept(msgspec.Struct):
    coding: list[_Coding] = []
    text: str = ""


class _Reference(msgspec.Struct):
    reference: str = ""
    display: str = ""


class _Contained(msgspec.Struct):
    id: str = ""
    type: _Concept | UnsetType = UNSET


class _Meta(msgspec.Struct):
    tag: list[_Coding] = []


class _Draft(msgspec.Struct):
    """The elements of a ServiceRequest that are read here or by a coder, without any null; the
    others may be wrong without harm, because the order is not stored."""

    code: _Concept = msgspec.field(default_factory=_Concept)
    orderDetail: list[_Concept] = []
    category: list[_Concept] = []
    bodySite: list[_Concept] = []
    reasonCode: list[_Concept] = []
    specimen: list[_Reference] = []
    contained: list[_Contained] = []
    meta: _Meta = msgspec.field(default_factory=_Meta)
    priority: str = ""
    doNotPerform: bool = False


_READ = _Draft.__struct_fields__

#: Longer orders are rare, and are not worth the memory.
_KEPT_BYTES = 2_048

_AT = re.compile(r"^(?P<what>.*) - at `\$(?P<path>.*)`$")


class _Meaning(NamedTuple):
    """What an order says, whoever it is for."""

    display: str
    specimen: str
    side: str
    codes: tuple[str | None, ...]
    context: frozenset[str]
    wanted: bool
    contrast: str  # as the order's own words say it


async def read_orders(
    gateway: Gateway,
    drafts: Sequence[tuple[str, str, dict[str, Any]]],
    institution: str | None,
) -> list[Order]:
    """The order lines in (key, expression, ServiceRequest) triples, mapped for the institution.

    An order that names no day is one of today: what its code means may depend on that. Orders that
    say "do not perform" are left out. Raises Invalid with every element that has a wrong type.
    """
    await follow(gateway, institution)
    today = local_day(gateway.clock.now(), gateway.settings.zone).isoformat()
    items = catalogue_of(gateway).items
    orders, issues = [], []
    for key, expression, resource in drafts:
        # a workstation orders the same few hundred things, each time for somebody else
        read = render({name: resource[name] for name in _READ if name in resource})
        mean = _meaning if len(read) <= _KEPT_BYTES else _meaning.__wrapped__
        try:
            day = resource.get("authoredOn")
            day = day[:10] if isinstance(day, str) and day else today
            meaning = mean(gateway.coders, institution or "", read, day)
        except msgspec.ValidationError as error:
            issues.append(_issue(error, expression))
            continue
        if meaning.wanted:
            orders.append(_order(key, meaning, items))
    if issues:
        raise Invalid(issues=tuple(issues))
    return orders


def _issue(error: msgspec.ValidationError, expression: str) -> Issue:
    match = _AT.match(str(error))
    what, path = (match["what"], match["path"]) if match else (str(error), "")
    return Issue("invalid", what.replace("`", ""), f"{expression}{path}", "type")


def _order(key: str, meaning: _Meaning, known: Mapping[str, Item]) -> Order:
    display, specimen, side, codes, context, *_ = meaning
    contrast = _contradicted(meaning, known) if meaning.contrast else ""
    items = tuple([OrderedItem(key, code, display, specimen, side, contrast) for code in codes])
    return Order(key, display, items, context)


def _contradicted(meaning: _Meaning, known: Mapping[str, Item]) -> str:
    """The contrast that the words of an order ask for, where its one item is another: with an
    agent or without. A plain examination may not answer for the agent that the doctor wrote."""
    entry = known.get(meaning.codes[0] or "")
    if entry is None or not entry.contrast or len(meaning.codes) > 1:
        return ""
    return meaning.contrast if (meaning.contrast == "none") != (entry.contrast == "none") else ""


@lru_cache(maxsize=4_096)
def _meaning(coders: tuple[Coder, ...], institution: str, read: bytes, day: str) -> _Meaning:
    """What the elements mean that are read of an order of this day.

    A part that no map knows is an item without a code, beside those that are known. Raises
    ValidationError for a wrong type.
    """
    elements = msgspec.json.decode(read)
    draft = msgspec.convert(elements, _Draft)
    resource = {"resourceType": "ServiceRequest", "authoredOn": day, **elements}
    codes: list[str | None] = [*ordered_items(resource)]
    unknown = False
    if not draft.doNotPerform:
        # also where some codes are of the catalogue: a detail beside them may be of no map
        unknown = any([coder(resource, institution)[1] for coder in coders])
        codes = [*ordered_items(resource)]
    if codes and unknown:
        codes.append(None)
    return _Meaning(
        display=_display(draft.code),
        specimen=canonical_specimen(specimen_of(resource)) if draft.specimen else "",
        side=laterality(resource.get("bodySite", ())),
        codes=tuple(codes) or (None,),
        context=_context(draft),
        wanted=not draft.doNotPerform,
        contrast=contrast_of_words(own_words(elements.get("code"), SYSTEMS)),
    )


def _display(code: _Concept) -> str:
    return code.text or next((coding.display for coding in code.coding if coding.display), "")


def _words(concepts: Iterable[_Concept]) -> Iterable[str]:
    for concept in concepts:
        for coding in concept.coding:
            yield coding.display.strip()
        yield concept.text.strip()


def _context(draft: _Draft) -> frozenset[str]:
    found = {"emergency"} if draft.priority in EMERGENCY_PRIORITIES else set()
    for concept in draft.reasonCode:
        for coding in concept.coding:
            if coding.system == CONTEXT_SYSTEM and coding.code in CONTEXTS:
                found.add(coding.code)
    found.update(CONTEXT_WORDS[word] for word in _words(draft.reasonCode) if word in CONTEXT_WORDS)
    return frozenset(found)


def read_contexts(codes: Sequence[str]) -> frozenset[str]:
    """Codes given by a caller. Raises Invalid for one that is not in the table."""
    unknown = [code for code in codes if code not in CONTEXTS]
    if unknown:
        known = ", ".join(CONTEXTS)
        raise Invalid(
            f"A context is one of {known}",
            expression="Parameters.parameter.context",
            rule="context",
        )
    return frozenset(codes)
