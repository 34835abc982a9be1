"""Segments of HL7 v2 messages that the gateway itself writes: escaped, and in a character set.

HL7 v2.5.1 chapter 2.6 (encoding), 2.7 (escape sequences), 2A.2.22 (times). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from fhir_gateway.errors import Unprocessable
from fhir_gateway.mapping.tables import table
from fhir_gateway.mapping.v2_charset import codec_of

#: What no message may hold: controls, non-characters, half of a pair (as in v2_charset).
_IMPOSSIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffd-\uffff\ud800-\udfff]"
)


class Signs(NamedTuple):
    """The delimiters of a message: MSH-1, and MSH-2 sign by sign."""

    field: str = "|"
    component: str = "^"
    repetition: str = "~"
    escape: str = "\\"
    subcomponent: str = "&"

    @property
    def encoding(self) -> str:
        """MSH-2."""
        return "".join(self[1:])

    def text(self, text: str) -> str:
        """A text as one subcomponent: delimiters and line ends escaped, controls as blanks."""
        names = dict(zip(self, "FSRET", strict=True))
        lines = text.replace("\r\n", "\n").replace("\r", "\n")
        clean = _IMPOSSIBLE.sub(" ", lines.replace("\t", " "))
        found = "".join(
            f"{self.escape}{names[sign]}{self.escape}" if sign in names else sign for sign in clean
        )
        found = found.replace("\n", f"{self.escape}.br{self.escape}")
        return f"{self.escape}X2222{self.escape}" if found == '""' else found

    def components(self, *texts: str) -> str:
        """Texts as the components of one field; empty ones at the end are left out."""
        return self.component.join(self.text(one) for one in texts).rstrip(self.component)

    def segment(self, name: str, fields: Mapping[int, str]) -> str:
        """A segment by the numbers of its fields, which are written already."""
        last = max((n for n, text in fields.items() if text), default=0)
        return self.field.join((name, *(fields.get(n, "") for n in range(1, last + 1))))


SIGNS = Signs()


def repeated(signs: Signs, values: Sequence[str]) -> str:
    """Fields that are written already as repetitions of one."""
    return signs.repetition.join(value for value in values if value)


def time_of(text: Any, zone: str) -> str:
    """A FHIR instant or dateTime as a v2 time in a zone, to the second; "" for what is none."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    if moment.tzinfo is None:
        return moment.strftime("%Y%m%d%H%M%S") if len(str(text)) > 10 else moment.strftime("%Y%m%d")
    return moment.astimezone(ZoneInfo(zone)).strftime("%Y%m%d%H%M%S%z")


def label_of(charset: str, folder: str) -> tuple[str, str]:
    """The codec of a character set and its name of HL7 table 0211. Raises Invalid for others."""
    codec = codec_of(charset, folder)
    rows = table(folder, "charsets").values()
    return codec, next(row.display for row in rows if row.code == codec)


def encoded(lines: Sequence[str], codec: str, label: str) -> bytes:
    """The bytes of a message.

    Raises Unprocessable for a text that the character set cannot write: a wrong character in a
    name is worse than a message that has to wait.
    """
    text = "".join(f"{line}\r" for line in lines)
    try:
        return text.encode(codec)
    except UnicodeEncodeError as error:
        place = text[: error.start].rpartition("\r")[2].partition(text[3])[0]
        raise Unprocessable(
            f"{place} holds a character that {label} cannot write: register the institution with "
            "the character set GB 18030-2000 or UNICODE UTF-8",
            rule="v2-charset",
        ) from None
