"""HL7 v2 messages in ER7 ("pipe and hat"): bytes -> Message. HL7 v2.5.1 chapter 2, 2.6 to 2.8.

Reading is strict where a mistake could change a result (delimiters, charset, segment shape) and
lenient where it could not (line ends, empty lines, framing bytes). Text is decoded before it is
split: in GB 18030 the second byte of a character may be `|`, `^`, `~` or `\\`.

A place in a message is written `OBX[3]-5.1`: the third OBX segment, field 5, component 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from fhir_gateway.errors import GatewayError, Structure, TooLong, Unprocessable
from fhir_gateway.mapping.v2_charset import Decoded, decode

_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_ENCODING = re.compile(r"[!-/:-@\[-`{-~]{1,5}")
_FRAME = b"\x0b\x1c\r\n \t\x00"
_MESSAGE_START = re.compile(rb"(?:^|[\r\n\x0b])(?=MSH[^A-Za-z0-9\s])")
_FILE_SEGMENTS = re.compile(rb"(?:^|(?<=[\r\n]))(?:FHS|BHS|BTS|FTS)[^\r\n]*[\r\n]*")

#: More segments than any report has, fewer than would hold the process up.
MAX_SEGMENTS = 20_000


class Delimiters(NamedTuple):
    """MSH-1 and MSH-2. What MSH-2 leaves out is NUL, which no decoded text contains."""

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment; `fields[n]` is field n as sent, escaped. `number` counts from 1 by name."""

    name: str
    number: int
    fields: list[str]
    delimiters: Delimiters
    codec: str = "utf-8"

    def field(self, n: int) -> str:
        """Field n as sent, "" when absent or nothing but HL7 nulls `""` and repetition signs."""
        raw = self.fields[n] if n < len(self.fields) else ""
        sign = self.delimiters.repetition
        if not raw or raw[0] not in (sign, '"'):
            return raw
        return raw if any(part not in ("", '""') for part in raw.split(sign)) else ""

    def repetitions(self, n: int) -> list[str]:
        """The repetitions of field n as sent, without empty ones."""
        if n >= len(self.fields) or not self.fields[n]:
            return []
        raw = self.field(n)
        if not raw:
            return []
        if self.delimiters.repetition not in raw:
            return [raw]
        return [part for part in raw.split(self.delimiters.repetition) if part not in ("", '""')]

    def parts(self, raw: str) -> list[str]:
        """The components of one repetition, unescaped; subcomponents stay together."""
        return [self.unescape(part) for part in raw.split(self.delimiters.component)]

    def pieces(self, raw: str) -> list[list[str]]:
        """The components of one repetition in their subcomponents, unescaped: an `&` that was
        escaped is text and parts nothing."""
        sign = self.delimiters.subcomponent
        return [
            [self.unescape(piece).strip() for piece in part.split(sign)]
            for part in raw.split(self.delimiters.component)
        ]

    def text(self, n: int, component: int = 1, subcomponent: int = 1) -> str:
        """One subcomponent of the first repetition of field n, unescaped and stripped."""
        if n >= len(self.fields) or not self.fields[n]:  # most fields
            return ""
        raw = self.field(n)
        if not raw:
            return ""
        _, component_sign, repetition_sign, escape, sub_sign = self.delimiters
        if not (
            component_sign in raw or repetition_sign in raw or sub_sign in raw or escape in raw
        ):
            return raw.strip() if component == 1 == subcomponent else ""
        raw = raw.split(repetition_sign, 1)[0]
        pieces = raw.split(component_sign)
        if component > len(pieces):
            return ""
        subs = pieces[component - 1].split(sub_sign)
        if subcomponent > len(subs):
            return ""
        value = subs[subcomponent - 1].strip()
        return "" if value == '""' else self.unescape(value)

    def whole(self, n: int) -> str:
        """Field n as one text, repetitions on lines of their own; for text that nobody may cut."""
        raw = self.fields[n] if n < len(self.fields) else ""
        if not raw:
            return ""
        signs = self.delimiters
        if raw[0] != '"' and signs.repetition not in raw and signs.escape not in raw:
            return raw.strip()
        return "\n".join(self.unescape(part) for part in self.repetitions(n)).strip()

    def plain(self, n: int) -> str:
        """Field n as one text that nobody splits: laboratories write ranges as `3.9~6.1`."""
        return self.unescape(self.field(n)).strip()

    def unescape(self, raw: str) -> str:
        """Text without escape sequences. Raises Unprocessable for \\X..\\ that is no text."""
        if self.delimiters.escape not in raw:
            return raw
        return _unescape(self, raw)

    def where(self, n: int, component: int = 0) -> str:
        """The place of a field, such as `OBX[3]-5.1`."""
        return f"{self.name}[{self.number}]-{n}" + (f".{component}" if component else "")


class Message(NamedTuple):
    """A message: its header segment, all segments, and how its bytes were read."""

    header: Segment
    segments: list[Segment]
    decoded: Decoded

    def first(self, name: str) -> Segment | None:
        """The first segment of this name."""
        return next((segment for segment in self.segments if segment.name == name), None)


def flaw(error: GatewayError, condition: str, *, reject: bool = False) -> GatewayError:
    """The error with a condition of HL7 table 0357; `reject` makes it AR instead of AE."""
    error.condition = condition
    if reject:
        error.acknowledgement = "AR"
    return error


def missing(segment: Segment, n: int, what: str) -> GatewayError:
    """A required field that is not there (condition 101)."""
    place = segment.where(n)
    return flaw(
        Unprocessable(f"{what} ({place}) is missing", expression=place, rule="v2-required"), "101"
    )


def wrong(segment: Segment, n: int, sentence: str, *, condition: str = "102") -> GatewayError:
    """A field whose content cannot be used (102 data type, 103 table value)."""
    place = segment.where(n)
    return flaw(Unprocessable(f"{place}: {sentence}", expression=place, rule="v2-field"), condition)


def split_messages(raw: bytes) -> list[bytes]:
    """The messages of a file: FHS/BHS envelopes and MLLP framing removed, cut before each MSH."""
    body = raw.removeprefix(b"\xef\xbb\xbf")
    starts = [match.end() for match in _MESSAGE_START.finditer(body)]
    ends = [*starts[1:], len(body)][: len(starts)]
    pieces = [body[start:end] for start, end in zip(starts, ends, strict=True)]
    return [_FILE_SEGMENTS.sub(b"", piece).strip(_FRAME) + b"\r" for piece in pieces]


def parse(raw: bytes, *, default_charset: str, folder: str) -> Message:
    """The message. Raises Structure, TooLong or Unprocessable, with its condition of table 0357."""
    body = raw.removeprefix(b"\xef\xbb\xbf").strip(_FRAME)
    if not body.startswith(b"MSH"):
        raise flaw(
            Structure(
                "The message does not begin with an MSH segment",
                expression="MSH[1]",
                rule="v2-no-msh",
            ),
            "100",
            reject=True,
        )
    decoded = decode(body, default=default_charset, folder=folder)
    lines = _lines(decoded.text)
    if len(lines) > MAX_SEGMENTS:
        raise TooLong(f"A message may have at most {MAX_SEGMENTS} segments", rule="v2-segments")
    delimiters = _delimiters(lines[0])
    segments = _segments(lines, delimiters, decoded.codec)
    return Message(segments[0], segments, decoded)


def _lines(text: str) -> list[str]:
    """Segments end with CR; files and HTTP clients also send LF or CR LF."""
    text = text.replace("\r\n", "\r")
    lines = text.split("\r") if "\r" in text else text.split("\n")
    return [line.strip("\n") for line in lines if line.strip()]


def _delimiters(line: str) -> Delimiters:
    field = line[3:4]
    encoding = line[4:].split(field, 1)[0] if field else ""
    signs = field + encoding
    good = _ENCODING.fullmatch(encoding) and _ENCODING.fullmatch(field)
    if not good or len(set(signs)) < len(signs):
        raise flaw(
            Structure(
                "MSH-1 and MSH-2 must be distinct punctuation marks such as |^~\\&",
                expression="MSH[1]-2",
                rule="v2-delimiters",
            ),
            "102",
            reject=True,
        )
    padded = (encoding + "\0\0\0\0")[:4]
    return Delimiters(field, padded[0], padded[1], padded[2], padded[3])


def _segments(lines: list[str], delimiters: Delimiters, codec: str) -> list[Segment]:
    counts: dict[str, int] = {}
    segments: list[Segment] = []
    for ordinal, line in enumerate(lines, start=1):
        name, mark = line[:3], line[3:4]
        if not _SEGMENT_NAME.fullmatch(name) or mark not in ("", delimiters.field):
            raise flaw(
                Structure(
                    f"Segment {ordinal} does not begin with a segment name and the field separator",
                    rule="v2-segment",
                ),
                "100",
                reject=True,
            )
        counts[name] = number = counts.get(name, 0) + 1
        if name == "MSH" and ordinal > 1:
            raise flaw(
                Structure(
                    "One message per request: a second MSH follows",
                    expression="MSH[2]",
                    rule="v2-two-messages",
                ),
                "100",
                reject=True,
            )
        fields = line.split(delimiters.field)
        if name == "MSH":
            fields.insert(1, delimiters.field)
        segments.append(Segment(name, number, fields, delimiters, codec))
    return segments


_FIXED = {"F": 0, "S": 1, "R": 2, "E": 3, "T": 4}
_SKIPPED = re.compile(r"H|N|\.(?:in|ti|fi|nf|sk|ce)[+-]?\d*")
_BREAKS = re.compile(r"\.(?:br|sp)\+?\d*")
_HEX = re.compile(r"X(?:[0-9A-Fa-f]{2})+")


def _unescape(segment: Segment, raw: str) -> str:
    """Chapter 2.7. A sequence that HL7 does not define stays as it was sent."""
    sign = segment.delimiters.escape
    pieces = raw.split(sign)
    out = [pieces[0]]
    index = 1
    while index < len(pieces):
        code = pieces[index]
        known = _replace(segment, code) if index + 1 < len(pieces) else None
        if known is None:
            out.append(sign + code)
            index += 1
        else:
            out += [known, pieces[index + 1]]
            index += 2
    return "".join(out)


def _replace(segment: Segment, code: str) -> str | None:
    if code in _FIXED:
        signs = segment.delimiters
        return (signs.field, signs.component, signs.repetition, signs.escape, signs.subcomponent)[
            _FIXED[code]
        ]
    if _BREAKS.fullmatch(code):
        return "\n"
    if _SKIPPED.fullmatch(code):
        return ""
    if _HEX.fullmatch(code):
        return _hex(segment, bytes.fromhex(code[1:]))
    return None


def _hex(segment: Segment, data: bytes) -> str:
    try:
        text = data.decode(segment.codec)
    except UnicodeDecodeError:
        text = "\0"
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if any(c < " " and c not in "\n\t" for c in text):
        place = f"{segment.name}[{segment.number}]"
        raise flaw(
            Unprocessable(
                f"{place}: an escape sequence \\X..\\ holds bytes that are no text",
                expression=place,
                rule="v2-escape",
            ),
            "102",
        )
    return text
