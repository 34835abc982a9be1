"""How a field's content became a value: copied, by a table, read as a time, assembled, computed.

Judged by the two texts themselves, so that nothing is claimed that cannot be seen.
"""

from __future__ import annotations

from collections.abc import Iterable

from fhir_gateway.mapping.tables import Lookup, normal
from fhir_gateway.mapping.v2_time import read_clock, read_time
from fhir_gateway.mapping.v2_value import COMPARATORS, read_number
from fhir_gateway.terminology.unit import canonical_unit

#: How -> what it means. The order is that of certainty: the first that holds is told.
HOW = {
    "copied": "the field's own text",
    "table": "by a row of a table of mappings",
    "time": "the field's time, written as FHIR writes it",
    "number": "the field's number, written as FHIR writes it",
    "unit": "the field's unit by the list of units (terminology)",
    "part": "a part of the field's text",
    "joined": "put together of several fields",
    "added": "added by the gateway: catalogue coding, flag of a code without meaning, door",
    "key": "made of the institution and these fields: what has them is the same resource",
    "computed": "follows from these fields",
    "equal": "as these fields say; no single one of them changes it",
    "institution": "from the institution's entry in the registry",
    "unseen": "not looked at: the message is too large to be explained at once",
    "rule": "always so where these fields are there",
}

#: A shorter text lies in many others by chance.
_SHORT = 2


def relation(content: str, value: str, lookups: Iterable[Lookup]) -> tuple[str, str]:
    """(how, detail) of a value and the content of one field that it depends on; ("", "") when
    neither text shows how."""
    if normal(content) == normal(value) or "".join(content.split()) == "".join(value.split()):
        return "copied", ""
    if (detail := _by_table(content, value, lookups)) is not None:
        return "table", detail
    if _is_time(content, value):
        return "time", ""
    number = read_number(content)
    if number is not None and str(number) == value:
        return "number", ""
    if canonical_unit(content) == value:
        return "unit", ""
    return _shared(normal(content), normal(value))


def _by_table(content: str, value: str, lookups: Iterable[Lookup]) -> str | None:
    key = normal(content)
    for one in lookups:
        if one.received == key and one.row is not None and value in one.row:
            return f"{one.table}.csv, row {key}"
    return None


def _is_time(content: str, value: str) -> bool:
    moment = read_time(content, "UTC")
    if moment is not None:
        return value.startswith(moment.text[:19])
    return len(value) == len("00:00:00") and read_clock(content) == value


def _shared(content: str, value: str) -> tuple[str, str]:
    if value in COMPARATORS.values() and any(
        content.startswith(sign) for sign, meant in COMPARATORS.items() if meant == value
    ):
        return "part", ""
    if value and value in content:
        return "part", ""
    if len(content) >= _SHORT and content in value:
        return "joined", ""
    if len(content) == 1 and not content.isascii() and content in value:
        return "joined", ""
    return "", ""


def is_key(path: str) -> bool:
    """Whether a leaf is a logical id, or points to one."""
    return path == "id" or path.endswith(".reference") or path == "reference"
