"""SOAP envelopes around documents: read and answered by a table (mappings/cda/soap.toml).

SOAP 1.1 and 1.2 (W3C), document style, no attachments. Platforms shape the submission of documents
each in their own way, so names of operation, action and document, and the shape of the answer, are
data; nothing here is called official.
"""

from __future__ import annotations

import re
import tomllib
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.errors import GatewayError, Issue, NotSupported, Structure, Unprocessable
from fhir_gateway.fhir.xhtml import attribute as escaped
from fhir_gateway.fhir.xml_parse import parse_xml, xml_bytes
from fhir_gateway.mapping.cda_parse import Node, local

SOAP_11 = "http://schemas.xmlsoap.org/soap/envelope/"
SOAP_12 = "http://www.w3.org/2003/05/soap-envelope"
_XOP = "http://www.w3.org/2004/08/xop/include"
MEDIA = {SOAP_11: "text/xml", SOAP_12: "application/soap+xml"}

#: Who a block of the Header is meant for: its attribute, and the names of whoever reads it first or
#: last.
_ROLE = {SOAP_11: "actor", SOAP_12: "role"}
_OURS = frozenset({
    "", "http://schemas.xmlsoap.org/soap/actor/next",
    f"{SOAP_12}/role/next", f"{SOAP_12}/role/ultimateReceiver",
})  # fmt: skip
MUST_UNDERSTAND = "soap-must-understand"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,79}")
_DECLARED = re.compile(r"""(<\?xml\b[^>]{0,200}?\bencoding\s*=\s*["'])[A-Za-z0-9._\-]+(["'])""")
_RESPONSE = ("operation", "code", "text", "document", "report", "warning")


class Envelope(NamedTuple):
    """One shape of submission. `response` are the names of the answer's elements, `headers` the
    blocks of the SOAP Header that may insist on being understood."""

    operations: tuple[str, ...]
    document: tuple[str, ...]
    action: tuple[str, ...]
    actions: tuple[str, ...]
    fault_status: int
    namespace: str
    accepted: str
    response: Mapping[str, str]
    headers: tuple[str, ...] = ()


class Submission(NamedTuple):
    """The document of an envelope, and how it is answered."""

    soap: str
    envelope: Envelope
    document: bytes


def read_envelopes(path: Path) -> list[Envelope]:
    """The table of envelopes. Raises Unprocessable with every fault of it."""
    faults: list[str] = []
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _faulty(path, [f"the file cannot be read: {type(error).__name__}"]) from None
    found = said.get("envelope")
    if not isinstance(found, list) or not found or set(said) != {"envelope"}:
        faults.append("it holds [[envelope]] and nothing else")
        found = []
    made = [_envelope(one, f"envelope {n}", faults) for n, one in enumerate(found, start=1)]
    if faults:
        raise _faulty(path, faults)
    return made


def _faulty(path: Path, faults: Sequence[str]) -> Unprocessable:
    return Unprocessable(issues=tuple(
        Issue("invalid", f"{path.name}: {fault}", rule="mapping-table") for fault in faults
    ))  # fmt: skip


def _envelope(said: Any, where: str, faults: list[str]) -> Envelope:
    said = said if isinstance(said, dict) else {}
    known = {"operations", "document", "action", "actions", "fault_status", "headers", "response"}
    faults += [f"{where}: {name} is no key of it" for name in said if name not in known]
    response = said.get("response")
    response = response if isinstance(response, dict) else {}
    names = {name: response.get(name, "") for name in _RESPONSE}
    faults += [
        f"{where}: response.{name} is the name of an element"
        for name, value in names.items()
        if not (isinstance(value, str) and _NAME.fullmatch(value))
    ]
    operations, document = _names(said, "operations", where, faults), _names(
        said, "document", where, faults)  # fmt: skip
    faults += [
        f"{where}: {name} is missing"
        for name, value in (("operations", operations), ("document", document))
        if not value
    ]
    actions = said.get("actions", [])
    status = said.get("fault_status", 0)
    if status not in (0, 500):
        faults.append(f"{where}: fault_status is 0 or 500")
    action = _names(said, "action", where, faults)
    if bool(action) != bool(actions) or not isinstance(actions, list):
        faults.append(f"{where}: action and actions go together")
        actions = []
    return Envelope(
        operations,
        document,
        action,
        tuple(str(one) for one in actions),
        status,
        str(response.get("namespace", "")),
        str(response.get("accepted", "AA")),
        names,
        _names(said, "headers", where, faults),
    )


def _names(said: Mapping[str, Any], name: str, where: str, faults: list[str]) -> tuple[str, ...]:
    found = said.get(name, [])
    good = isinstance(found, list) and all(
        isinstance(one, str) and _NAME.fullmatch(one) for one in found
    )
    if not good:
        faults.append(f"{where}: {name} is a list of names of elements")
    return tuple(found) if good else ()


# -- the request -----------------------------------------------------------------------------------


def read_request(raw: bytes, envelopes: Sequence[Envelope]) -> Submission:
    """The document of a submission. Raises Structure for what is no envelope, NotSupported for an
    operation or action of no table, Unprocessable without a document."""
    root = parse_xml(raw)
    soap = next((one for one in MEDIA if root.tag == f"{{{one}}}Envelope"), "")
    if not soap:
        raise Structure(
            "The root element must be Envelope of SOAP 1.1 or 1.2",
            expression="Envelope",
            rule="soap-envelope",
        )
    operations = [one for body in root.findall(f"{{{soap}}}Body") for one in body]
    if len(operations) != 1:
        raise Structure(
            f"The SOAP Body holds one operation, not {len(operations)}",
            expression="Envelope/Body",
            rule="soap-envelope",
        )
    operation = operations[0]
    name = local(operation)
    envelope = next((one for one in envelopes if name in one.operations), None)
    if envelope is None:
        raise NotSupported(
            "This operation is not in mappings/cda/soap.toml",
            expression="Envelope/Body",
            rule="soap-operation",
        )
    _check_headers(root, soap, envelope)
    _check_action(operation, envelope)
    return Submission(soap, envelope, _document(operation, envelope))


def soap_of(raw: bytes) -> str:
    """The version of SOAP of bytes that could not be read as an envelope, for the fault."""
    return SOAP_12 if SOAP_12.encode() in raw[:4_096] else SOAP_11


def _check_headers(root: Node, soap: str, envelope: Envelope) -> None:
    """Raises NotSupported for a block of the Header that must be understood and is not, where it is
    meant for this receiver (SOAP 1.1 4.2.3, SOAP 1.2 part 1 2.4)."""
    for block in (one for header in root.findall(f"{{{soap}}}Header") for one in header):
        if not isinstance(block.tag, str):  # a comment
            continue
        must = (block.get(f"{{{soap}}}mustUnderstand") or "").strip() in ("1", "true")
        role = block.get(f"{{{soap}}}{_ROLE[soap]}") or ""
        if must and role.strip() in _OURS and local(block) not in envelope.headers:
            raise NotSupported(
                f"The header {local(block)} must be understood (mustUnderstand) and is not known "
                "here: leave it out, or have it named under headers in mappings/cda/soap.toml",
                expression=f"Envelope/Header/{local(block)}",
                rule=MUST_UNDERSTAND,
            )


def _below(node: Node | None, path: Sequence[str]) -> Node | None:
    for name in path:
        found = (one for one in (node if node is not None else ()) if local(one) == name)
        node = next(found, None)
    return node


def _check_action(operation: Node, envelope: Envelope) -> None:
    node = _below(operation, envelope.action) if envelope.action else None
    said = "" if node is None else "".join(node.itertext()).strip()
    if envelope.action and said not in envelope.actions:
        raise NotSupported(
            f"The action is one of {', '.join(envelope.actions)}",
            expression="/".join(("Envelope/Body", local(operation), *envelope.action)),
            rule="soap-action",
        )


def _document(operation: Node, envelope: Envelope) -> bytes:
    place = "/".join(("Envelope/Body", local(operation), *envelope.document))
    node = _below(operation, envelope.document)
    beside = (
        [one for one in node.getparent() if local(one) == local(node)] if node is not None else []
    )
    held = list(node) if node is not None else []
    if len(beside) > 1 or len(held) > 1:
        raise Unprocessable(
            "An envelope holds one document; send each in an envelope of its own",
            expression=place,
            rule="soap-document",
        )
    if held:
        _check_attached(held[0], place)
        return xml_bytes(held[0])
    text = "" if node is None else (node.text or "").strip().removeprefix("\ufeff").lstrip()
    if text.startswith("<"):
        return _DECLARED.sub(r"\1UTF-8\2", text, count=1).encode()
    try:
        found = b64decode("".join(text.split()), validate=True)
    except ValueError:
        found = b""
    if not found:
        raise Unprocessable(
            "The document stands here as an element, as text (CDATA), or in Base64",
            expression=place,
            rule="soap-document",
        )
    return found


def _check_attached(node: Node, place: str) -> None:
    """Raises NotSupported where the document is an attachment (W3C XOP, MTOM)."""
    if node.tag == f"{{{_XOP}}}Include":
        raise NotSupported(
            "The document is an attachment (MTOM), which is not read here; send it in the envelope",
            expression=place,
            rule="soap-document",
        )


# -- the answer ------------------------------------------------------------------------------------


class Said(NamedTuple):
    """What an answer tells: a sentence, the document, the reports, warnings."""

    text: str
    document: str
    reports: Sequence[str]
    issues: Sequence[Issue]


def response(request: Submission, said: Said) -> bytes:
    """The answer to a document that is stored."""
    names = request.envelope.response
    parts = [
        (names["code"], request.envelope.accepted),
        (names["text"], said.text),
        (names["document"], said.document),
        *((names["report"], one) for one in said.reports),
        *((names["warning"], _sentence(one)) for one in said.issues),
    ]
    inner = "".join(f"<{name}>{escaped(text)}</{name}>" for name, text in parts)
    operation, space = names["operation"], escaped(request.envelope.namespace)
    return _enveloped(request.soap, f'<{operation} xmlns="{space}">{inner}</{operation}>')


def fault(soap: str, error: GatewayError, issues: Sequence[Issue]) -> bytes:
    """A SOAP Fault with our rules and sentences (SOAP 1.1 4.4, SOAP 1.2 part 1 5.4)."""
    code = _fault_code(soap, error, issues)
    text = escaped(issues[0].diagnostics)
    detail = "".join(
        f'<issue rule="{escaped(one.rule or one.code)}"'
        + (f' expression="{escaped(one.expression)}"' if one.expression else "")
        + f">{escaped(one.diagnostics)}</issue>"
        for one in issues
    )
    outcome = f'<outcome xmlns="urn:fhir-gateway:cda">{detail}</outcome>'
    if soap == SOAP_12:
        return _enveloped(soap, (
            f"<soap:Fault><soap:Code><soap:Value>{code}</soap:Value></soap:Code><soap:Reason>"
            f'<soap:Text xml:lang="en">{text}</soap:Text></soap:Reason>'
            f"<soap:Detail>{outcome}</soap:Detail></soap:Fault>"
        ))  # fmt: skip
    return _enveloped(soap, (
        f"<soap:Fault><faultcode>{code}</faultcode><faultstring>{text}</faultstring>"
        f"<detail>{outcome}</detail></soap:Fault>"
    ))  # fmt: skip


def _fault_code(soap: str, error: GatewayError, issues: Sequence[Issue]) -> str:
    """Whose fault it was, in the words of the version."""
    if issues[0].rule == MUST_UNDERSTAND:
        return "soap:MustUnderstand"
    if error.status < 500:
        return "soap:Sender" if soap == SOAP_12 else "soap:Client"
    return "soap:Receiver" if soap == SOAP_12 else "soap:Server"


def _sentence(issue: Issue) -> str:
    return f"{issue.rule or issue.code}: {issue.diagnostics}"


def _enveloped(soap: str, body: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<soap:Envelope xmlns:soap="{soap}">'
        f"<soap:Body>{body}</soap:Body></soap:Envelope>"
    ).encode()
