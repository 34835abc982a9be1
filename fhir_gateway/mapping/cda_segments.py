"""What a document says, put into the segments of a v2 message, with the place each came from.

A report in a document, in a message and in a table is mapped by the same functions, so it is the
same record with the same ids whichever door it came by (mapping.tabular does the same). Separators
are control characters that no XML can hold: nothing in a text is ever one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fhir_gateway.errors import GatewayError, Issue
from fhir_gateway.mapping.cda_parse import Node, path_of, where
from fhir_gateway.mapping.v2 import Delimiters, Message, Segment
from fhir_gateway.mapping.v2_charset import Decoded

_SIGNS = Delimiters("\x01", "\x02", "\x03", "\x00", "\x04")

#: A field: one text, its components, or repetitions of components; a component may have parts.
Value = str | Sequence["str | Sequence[str]"]

_PLACE = re.compile(r"([A-Z][A-Z0-9]{2})\[(\d+)\](?:-(\d+)(?:\.(\d+))?)?")


@dataclass(slots=True)
class Writer:
    """The segments so far, and the element that each field was read of."""

    segments: list[Segment] = field(default_factory=list)
    origins: dict[tuple[str, int, int], Node] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    warnings: list[Issue] = field(default_factory=list)

    def add(self, name: str, values: Mapping[int, tuple[Value, Node | None]]) -> Segment:
        """Adds a segment of field -> (value, the element it was read of)."""
        number = self.counts[name] = self.counts.get(name, 0) + 1
        fields = [name, *[""] * max(values, default=0)]
        for n, (value, node) in values.items():
            fields[n] = written(value)
            if node is not None:
                self.origins[name, number, n] = node
                self.origins.setdefault((name, number, 0), node)
        segment = Segment(name, number, fields, _SIGNS)
        self.segments.append(segment)
        return segment

    def message(self) -> Message:
        """The segments as a message that was read already."""
        return Message(self.segments[0], self.segments, Decoded("", "utf-8", "", None))

    def warn(self, node: Node, sentence: str, rule: str) -> None:
        """Notes something doubtful that does not stop the document."""
        place = path_of(node)
        said = f"{where(node)}: {sentence}"
        self.warnings.append(Issue("invalid", said, place, rule, "warning"))

    def told(self, error: GatewayError) -> GatewayError:
        """The error with lines and elements of the document in place of segments and fields."""
        return type(error)(issues=tuple(self.told_issue(one) for one in error.issues))

    def told_issue(self, issue: Issue) -> Issue:
        """An issue in the words of the document."""
        expression = issue.expression or ""
        found = _PLACE.search(expression)
        node = self._origin(found) if found else None
        return Issue(
            issue.code,
            _PLACE.sub(self._place, issue.diagnostics),
            path_of(node) if node is not None else "ClinicalDocument" if found else expression,
            issue.rule,
            issue.severity,
        )

    def _place(self, found: re.Match[str]) -> str:
        node = self._origin(found)
        return where(node) if node is not None else "the document"

    def _origin(self, found: re.Match[str]) -> Node | None:
        segment, number, n = found[1], int(found[2]), int(found[3] or 0)
        own = self.origins.get((segment, number, n))
        return own if own is not None else self.origins.get((segment, number, 0))


def written(value: Value) -> str:
    """A field as it stands in a segment."""
    if isinstance(value, str):
        return value
    return _SIGNS.component.join(
        one if isinstance(one, str) else _SIGNS.subcomponent.join(one) for one in value
    ).rstrip(_SIGNS.component)


def repeated(values: Sequence[Value]) -> str:
    """Several repetitions of a field."""
    return _SIGNS.repetition.join(written(value) for value in values)


def header(writer: Writer) -> None:
    """MSH of a report."""
    writer.add("MSH", {
        1: (_SIGNS.field, None), 9: (["ORU", "R01"], None), 10: ("cda", None), 12: ("2.5.1", None),
    })  # fmt: skip
