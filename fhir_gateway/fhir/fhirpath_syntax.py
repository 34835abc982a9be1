"""The grammar of FHIRPath (hl7.org/fhirpath/N1, section 13): from text to a tree of nodes.

A node is a tuple: its kind and its parts. Expressions come from anybody, so length and nesting are
bounded, and reading takes linear time.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import lru_cache
from typing import Any, NoReturn

from fhir_gateway.errors import Invalid

MAX_LENGTH = 8_192
MAX_NESTING = 32

#: ("literal", type, value) ("name", name) ("this",) ("variable", name) ("call", name, arguments)
#: ("member", left, node) ("index", left, node) ("is" or "as", left, type) ("minus", node)
#: ("op", operator, left, right) ("nothing",)
Node = tuple[Any, ...]

_TOKEN = re.compile(
    r"""\s*+(?:
    (?P<comment>//[^\n]*+|/\*(?s:.*?)\*/)
  | (?P<date>@(?:[0-9]{4}(?:-[0-9]{2}(?:-[0-9]{2})?)?(?:T[0-9:.+\-Z]*+)?|T[0-9:.]++))
  | (?P<number>[0-9]++(?:\.[0-9]++)?)
  | (?P<string>'(?:[^'\\]|\\.)*+')
  | (?P<quoted>`(?:[^`\\]|\\.)*+`|"(?:[^"\\]|\\.)*+")
  | (?P<variable>%(?:[A-Za-z_][\w\-]*+|'[^']*+'|`[^`]*+`|"[^"]*+"))
  | (?P<special>\$[a-z]+)
  | (?P<name>[A-Za-z_]\w*+)
  | (?P<mark><=|>=|!=|!~|[.,()\[\]{}|&+*/=~<>\-])
  )""",
    re.VERBOSE | re.ASCII,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}

#: Operators from the loosest to the tightest.
_LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"implies"}),
    frozenset({"or", "xor"}),
    frozenset({"and"}),
    frozenset({"in", "contains"}),
    frozenset({"=", "~", "!=", "!~"}),
    frozenset({"<=", "<", ">", ">="}),
    frozenset({"|"}),
    frozenset({"is", "as"}),
    frozenset({"+", "-", "&"}),
    frozenset({"*", "/", "div", "mod"}),
)
_UNITS = frozenset(
    {"year", "years", "month", "months", "week", "weeks", "day", "days", "hour", "hours", "minute"}
    | {"minutes", "second", "seconds", "millisecond", "milliseconds"}
)


@lru_cache(maxsize=4_096)
def parse_fhirpath(expression: str) -> Node:
    """The tree of an expression. Raises Invalid where it is not FHIRPath, or too long or deep."""
    if len(expression) > MAX_LENGTH:
        raise Invalid(f"An expression has at most {MAX_LENGTH} characters", rule="fhirpath")
    parser = _Parser(_tokens(expression))
    node = parser.expression()
    if parser.kind:
        parser.refuse()
    return node


def _tokens(expression: str) -> list[tuple[str, str, int]]:
    found, at, end = [], 0, len(expression.rstrip())
    while at < end:
        match = _TOKEN.match(expression, at)
        if match is None:
            raise Invalid(f"Not FHIRPath at character {at + 1}", rule="fhirpath")
        kind = str(match.lastgroup)
        if kind != "comment":
            found.append((kind, match[kind], match.start(kind)))
        at = match.end()
    return [*found, ("", "", end)]


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[tuple[str, str, int]]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0
        self.kind, self.text, _ = tokens[0]

    def refuse(self, wanted: str = "") -> NoReturn:
        place = self.tokens[self.at][2] + 1
        why = f", where {wanted} is wanted" if wanted else ""
        raise Invalid(f"Not FHIRPath at character {place}{why}", rule="fhirpath")

    def take(self) -> str:
        text = self.text
        self.at = min(self.at + 1, len(self.tokens) - 1)
        self.kind, self.text, _ = self.tokens[self.at]
        return text

    def expect(self, mark: str) -> None:
        if self.kind != "mark" or self.text != mark:
            self.refuse(mark)
        self.take()

    def expression(self, level: int = 0) -> Node:
        """Operators of this level and tighter, from the left."""
        if level == len(_LEVELS):
            return self.polarity()
        if level == 0:
            self.depth += 1
            if self.depth > MAX_NESTING:
                raise Invalid(f"More than {MAX_NESTING} levels of nesting", rule="fhirpath")
        left, chained = self.expression(level + 1), 0
        while self.kind in ("mark", "name") and self.text in _LEVELS[level]:
            chained += 1
            if chained > MAX_NESTING * 4:
                raise Invalid("Too many operators in a row", rule="fhirpath")
            operator = self.take()
            if operator in ("is", "as"):
                left = (operator, left, self.type_name())
            else:
                left = ("op", operator, left, self.expression(level + 1))
        if level == 0:
            self.depth -= 1
        return left

    def polarity(self) -> Node:
        if self.kind == "mark" and self.text in "+-":
            sign = self.take()
            node = self.invocations()
            return ("minus", node) if sign == "-" else node
        return self.invocations()

    def invocations(self) -> Node:
        node, chained = self.term(), 0
        while self.kind == "mark" and self.text in (".", "["):
            chained += 1
            if chained > MAX_NESTING * 2:
                raise Invalid("Too long a chain of names", rule="fhirpath")
            if self.take() == ".":
                node = ("member", node, self.invocation())
            else:
                node = ("index", node, self.expression())
                self.expect("]")
        return node

    def invocation(self) -> Node:
        if self.kind == "special":
            if self.take() != "$this":
                raise Invalid("Only $this is known of $this, $index and $total", rule="fhirpath")
            return ("this",)
        if self.kind == "quoted":
            return ("name", _unescape(self.take()))
        if self.kind != "name":
            self.refuse("a name")
        name = self.take()
        if self.kind == "mark" and self.text == "(":
            return ("call", name, self.arguments())
        return ("name", name)

    def arguments(self) -> tuple[Node, ...]:
        self.expect("(")
        found: list[Node] = []
        while not (self.kind == "mark" and self.text == ")"):
            if found:
                self.expect(",")
            found.append(self.expression())
        self.take()
        return tuple(found)

    def term(self) -> Node:
        if self.kind == "mark" and self.text == "(":
            self.take()
            node = self.expression()
            self.expect(")")
            return node
        if self.kind == "mark" and self.text == "{":
            self.take()
            self.expect("}")
            return ("nothing",)
        if self.kind == "variable":
            return ("variable", self.take()[1:].strip("'`\""))
        if self.kind == "name" and self.text in ("true", "false"):
            return ("literal", "boolean", self.take() == "true")
        return self.literal() or self.invocation()

    def literal(self) -> Node | None:
        if self.kind == "string":
            return ("literal", "string", _unescape(self.take()))
        if self.kind == "date":
            text = self.take()[1:]
            if text.startswith("T"):
                return ("literal", "time", text[1:])
            return ("literal", "dateTime" if "T" in text else "date", text.rstrip("T"))
        if self.kind != "number":
            return None
        text = self.take()
        number = Decimal(text) if "." in text or len(text) > 18 else int(text)
        if self.kind == "string" or (self.kind == "name" and self.text in _UNITS):
            unit = _unescape(self.take()) if self.kind == "string" else self.take()
            return ("literal", "Quantity", {"value": number, "unit": unit, "code": unit})
        return ("literal", "decimal" if isinstance(number, Decimal) else "integer", number)

    def type_name(self) -> str:
        if self.kind not in ("name", "quoted"):
            self.refuse("a type")
        name = _unescape(self.take()) if self.kind == "quoted" else self.take()
        if self.kind == "mark" and self.text == ".":
            self.take()
            if self.kind not in ("name", "quoted"):
                self.refuse("a type")
            part = _unescape(self.take()) if self.kind == "quoted" else self.take()
            return f"{name}.{part}"
        return name


def _unescape(text: str) -> str:
    """The content of a quoted text."""
    inner = text[1:-1] if text[:1] in "'`\"" else text
    if "\\" not in inner:
        return inner
    return _ESCAPE.sub(_escaped, inner)


def _escaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPES.get(code, code)
