"""What the rules say with names in place of codes: areas, items, situations, sources of windows.

Decisions store codes; whoever reads a card, the answer of $recognize or earlier results reads names
(texts.py makes the sentences). What software goes by, such as window-source, stays a code there.
"""

from __future__ import annotations

import msgspec

from fhir_gateway.recognition.model import ItemOutcome, Line
from fhir_gateway.recognition.texts import outcome_sentence
from fhir_gateway.terminology.code_system import Vocabulary

#: recognition.model.CONTEXTS as a doctor calls them.
SITUATIONS = {
    "emergency": "急诊",
    "pre-operation": "拟行手术",
    "pre-transfusion": "拟输血",
    "forensic": "司法鉴定",
    "inpatient-new": "新入院",
    "pregnancy": "妊娠",
    "intensive-care": "重症监护",
    "dialysis": "透析",
    "newborn": "新生儿",
    "chemotherapy": "化疗",
    "anticoagulation": "抗凝治疗",
}
_SOURCES = {"compiled": "本目录编制", "rule-set": "规则集规定", "published:HUB": "湖北省公布"}


def source(text: str) -> str:
    """Where a window or a limit comes from."""
    kind, _, of = text.partition(":")
    if text in _SOURCES or not of:
        return _SOURCES.get(text, text)
    return {"published": f"{of}公布", "compiled": f"本目录编制，参照{of}"}.get(kind, text)


def deciding(item: ItemOutcome) -> Line | None:
    """The line that the outcome's sentence is made of; None for a reason of the whole item."""
    return next((line for line in item.lines if line.reason and line.reason == item.reason), None)


def outcome(item: ItemOutcome, vocabulary: Vocabulary) -> str:
    """The sentence of an outcome."""
    line = deciding(item)
    if line is None:
        return outcome_sentence(item)
    return outcome_sentence(msgspec.structs.replace(item, lines=[legible(line, vocabulary)]))


def legible(line: Line, vocabulary: Vocabulary) -> Line:
    """A line with names in its values; what has no name stays as it is."""
    found = {
        key: _name(key, value, vocabulary)
        for key, value in line.values.items()
        if key in _NAMED and isinstance(value, str) and value
    }
    return msgspec.structs.replace(line, values={**line.values, **found}) if found else line


_NAMED = frozenset({"area", "receiver_area", "context", "item", "source"})


def _name(key: str, value: str, vocabulary: Vocabulary) -> str:
    if key == "source":
        return source(value)
    if key == "context":
        return "、".join(SITUATIONS.get(one.strip(), one.strip()) for one in value.split(","))
    if key == "item":
        entry = vocabulary.catalogue.items.get(value)
        return entry.name_zh if entry else value
    area = vocabulary.areas.areas.get(value)
    return area.name if area else value
