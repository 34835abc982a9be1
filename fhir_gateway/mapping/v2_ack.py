"""The acknowledgement of a v2 message: MSH, MSA, ERR (HL7 v2.5.1 2.9, 2.15.1, 2.15.5, 2.15.8).

Original mode: AA stored, AE the content is wrong, AR it was not looked at or may be sent again.
Enhanced mode (MSH-15 or MSH-16 valued): CA, CE, CR say the same of the commit, and AA, AE, AR
follow as a message of their own, each where it was asked for. What is echoed of the request
(applications, facilities, control id) is echoed as it came, so the answer is written with the
request's own delimiters and character set.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fhir_gateway.errors import GatewayError, Issue

#: HL7 table 0357, message error condition codes.
CONDITIONS = {
    "0": "Message accepted",
    "100": "Segment sequence error",
    "101": "Required field missing",
    "102": "Data type error",
    "103": "Table value not found",
    "200": "Unsupported message type",
    "201": "Unsupported event code",
    "202": "Unsupported processing id",
    "203": "Unsupported version id",
    "204": "Unknown key identifier",
    "205": "Duplicate key identifier",
    "206": "Application record locked",
    "207": "Application internal error",
}

_PLACE = re.compile(r"([A-Z][A-Z0-9]{2})(?:\[(\d+)\])?(?:-(\d+)(?:\.(\d+))?)?")
_SEVERITIES = {"fatal": "F", "error": "E", "warning": "W", "information": "I"}
_SAFE_SIGN = re.compile(r"[!-/:-@\[-`{-~]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")

#: More lines than anybody reads.
MAX_LINES = 50


class Header(NamedTuple):
    """What an acknowledgement echoes; read even from messages that are refused."""

    separator: str = "|"
    encoding: str = "^~\\&"
    sending: tuple[str, str] = ("", "")  # MSH-3, MSH-4
    receiving: tuple[str, str] = ("", "")  # MSH-5, MSH-6
    kind: str = ""  # MSH-9.1
    event: str = ""  # MSH-9.2
    control_id: str = ""
    processing: str = "P"
    version: str = "2.5.1"
    accept: str = ""  # MSH-15, table 0155: AL always, NE never, ER errors only, SU success only
    application: str = ""  # MSH-16
    label: str = ""  # MSH-18
    codec: str = "utf-8"
    stated: str = ""  # MSH-7

    @property
    def facility(self) -> str:
        """The first component of MSH-4."""
        return self.sending[1].split(self.encoding[:1] or "^")[0].strip()


def read_header(raw: bytes, codec: str = "") -> Header:
    """The header of whatever was sent; never fails. `codec` is how the message was read."""
    line = re.split(rb"[\r\n]", raw[:4_000].lstrip(b"\xef\xbb\xbf\x0b\r\n "), maxsplit=1)[0]
    if not line.startswith(b"MSH") or not _SAFE_SIGN.match(chr(line[3]) if len(line) > 3 else ""):
        return Header()
    text, read_as = _decode(line, codec)
    separator = text[3]
    fields = _CONTROLS.sub("", text).split(separator)
    fields += [""] * (19 - len(fields))
    encoding = fields[1] if len(fields[1]) in (4, 5) else "^~\\&"
    event = fields[8].split(encoding[0])
    return Header(
        separator=separator,
        encoding=encoding,
        sending=(fields[2], fields[3]),
        receiving=(fields[4], fields[5]),
        kind=event[0].strip(),
        event=event[1] if len(event) > 1 else "",
        control_id=fields[9].strip()[:199],
        processing=fields[10] or "P",
        version=fields[11] or "2.5.1",
        accept=fields[14].strip().upper(),
        application=fields[15].strip().upper(),
        label=fields[17],
        codec=read_as,
        stated=fields[6].strip(),
    )


def _decode(line: bytes, codec: str) -> tuple[str, str]:
    for candidate in (codec, "utf-8", "gb18030"):
        try:
            if candidate:
                return line.decode(candidate), candidate
        except UnicodeDecodeError:
            continue
    return line.decode("latin-1"), "latin-1"


def by_mode(header: Header, answer: bytes, *, stored: bool) -> list[bytes]:
    """The answers that the sender asked for, in order, from that of the original mode.

    The receiver commits before it answers, so the accept and the application acknowledgement say
    the same: CA goes with AA, CE with AE, CR with AR. An answer that nobody wants is not there.
    """
    if not header.accept and not header.application:
        return [answer]
    found = []
    if _is_wanted(header.accept, stored=stored):
        found.append(_accepting(header, answer))
    if _is_wanted(header.application, stored=stored):
        found.append(answer)
    return found


def _is_wanted(condition: str, *, stored: bool) -> bool:
    """Table 0155; what is valued and not of the table is taken for AL: rather told than silent."""
    if condition in ("", "NE"):
        return False
    return {"ER": not stored, "SU": stored}.get(condition, True)


def _accepting(header: Header, answer: bytes) -> bytes:
    """The accept acknowledgement: an ACK with the code of the commit and a control id of its own.

    The id follows from the answer's, so that a message that is sent again gets the same bytes.
    """
    text, codec = _decode(answer, header.codec)  # of refused bytes the control id may be any
    segments = text.split("\r")
    fields = segments[0].split(header.separator)
    fields[9] = f"{fields[9][1:]}c"
    fields[8] = header.encoding[0].join(part for part in ("ACK", header.event, "ACK") if part)
    segments = [segment for segment in segments if not segment.startswith(_TOLD)]
    segments[0] = header.separator.join(fields)
    code = segments[1].split(header.separator)
    code[1] = f"C{code[1][1:]}"
    segments[1] = header.separator.join(code)
    return "\r".join(segments).encode(codec)


#: Messages whose application acknowledgement has a type of its own, and that type,
#: with its event and structure.
REPLIES = {
    ("ORM", "O01"): ("ORR", "O02", "ORR_O02"),
    ("OML", "O21"): ("ORL", "O22", "ORL_O22"),
    **{("SRM", event): ("SRR", event, "SRR_S01") for event in ("S01", "S02", "S03", "S04", "S05")},
}

#: Segments that tell more than whether a message was accepted.
_TOLD = ("ORC", "SCH", "RGS", "AIL")


def acknowledge(
    header: Header,
    *,
    time: str,
    control_id: str,
    warnings: Sequence[Issue] = (),
    orders: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The AA of a message that is stored; of orders it says OK to each by its two numbers."""
    lines = [(issue, "0") for issue in warnings]
    answer = _write(header, "AA", time, control_id, "", lines)
    sign = header.separator
    said = [sign.join(("ORC", "OK", *(_escape(header, n) for n in both))) for both in orders]
    return answer + "".join(f"{line}\r" for line in said).encode(header.codec, "replace")


def refuse(header: Header, error: GatewayError, *, time: str, control_id: str) -> bytes:
    """The AE or AR of a message that is not stored; one ERR for each issue."""
    lines = [(issue, error.condition) for issue in error.issues]
    text = error.issues[0].diagnostics
    return _write(header, error.acknowledgement, time, control_id, text, lines)


def _write(
    header: Header,
    code: str,
    time: str,
    control_id: str,
    text: str,
    lines: Sequence[tuple[Issue, str]],
) -> bytes:
    sign = header.encoding[0]
    kind = sign.join(part for part in ("ACK", header.event, "ACK") if part)
    if reply := REPLIES.get((header.kind, header.event)):
        kind = sign.join(reply)
    (application, facility), (sender, place) = header.receiving, header.sending
    msh = ["MSH", header.encoding, application, facility, sender, place, time, "", kind, control_id,
           header.processing, header.version]  # fmt: skip
    if header.label:
        msh += ["", "", "", "", "", header.label]
    msa = ["MSA", code, header.control_id]
    if text:
        msa.append(_escape(header, text[:80]))
    old = header.version.startswith(("2.1", "2.2", "2.3", "2.4"))
    write = _old_error if old else _error
    errors = [write(header, issue, condition) for issue, condition in lines[:MAX_LINES]]
    segments = [msh, msa, *errors]
    body = "".join(header.separator.join(fields) + "\r" for fields in segments)
    return body.encode(header.codec, "replace")


def _error(header: Header, issue: Issue, condition: str) -> list[str]:
    """ERR of v2.5 and later: location, condition, severity, our rule, what to do."""
    sign = header.encoding[0]
    found = _PLACE.fullmatch(issue.expression or "")
    place = ""
    if found:
        segment, number, field, component = (found[n] for n in (1, 2, 3, 4))
        repetition = "1" if component else ""
        parts = [segment, number or "1", field or "", repetition, component or ""]
        place = sign.join(parts).rstrip(sign)
    elif issue.expression:
        text = f"{issue.diagnostics} ({issue.expression})"
        issue = Issue(issue.code, text, None, issue.rule, issue.severity)
    coded = sign.join((condition, CONDITIONS.get(condition, ""), "HL70357"))
    severity = _SEVERITIES[issue.severity]
    rule = _escape(header, issue.rule or issue.code)
    return ["ERR", "", place, coded, severity, rule, "", "", _escape(header, issue.diagnostics)]


def _old_error(header: Header, issue: Issue, condition: str) -> list[str]:
    """ERR of v2.1 to v2.4: one field, segment^number^field^code&text&table."""
    sign = header.encoding[0]
    sub = header.encoding[3:4] or "&"
    found = _PLACE.fullmatch(issue.expression or "")
    place = [found[n] or "" for n in (1, 2, 3)] if found else ["", "", ""]
    coded = sub.join((condition, CONDITIONS.get(condition, ""), "HL70357"))
    return ["ERR", sign.join((*place, coded))]


def _escape(header: Header, text: str) -> str:
    """Chapter 2.7, with the request's own delimiters."""
    names = dict(zip(header.separator + header.encoding[:4], "FSRET", strict=True))
    escape = header.encoding[2]
    written = "".join(f"{escape}{names[c]}{escape}" if c in names else c for c in text)
    return _CONTROLS.sub(" ", written)
