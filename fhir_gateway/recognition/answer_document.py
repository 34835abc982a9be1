"""What the receiver files in its chart: the results it recognised, as they were when it decided.

A document Bundle (hl7.org/fhir/R4/documents.html, composition.html): the Composition first, then
results, reports and studies in the version that was decided on, the institutions and the Patient
as they were at that commit. The same answer gives the same bytes whenever it is asked for, and
their SHA-256 stands in the answer. `document` is pure; `read_pieces` reads what goes in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from html import escape
from typing import Any, NamedTuple

from fhir_gateway.errors import Deleted
from fhir_gateway.fhir.wire import instant, parse, render
from fhir_gateway.recognition.answer_model import DoctorAnswer, unversioned
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.store import Reader, Stored
from fhir_gateway.terminology.catalogue import Catalogue

DOCUMENT_SYSTEM = f"{CANONICAL}/NamingSystem/recognition-document"

#: Answers with which something is filed.
FILED = frozenset({"accepted", "cited"})

_LOINC = "http://loinc.org"
_TYPES: Mapping[str, tuple[str, str]] = {
    "lab": ("11502-2", "Laboratory report"),
    "imaging": ("18748-4", "Diagnostic imaging study"),
    "": ("11503-0", "Medical records"),
}
_TITLE = "互认结果归档件"


class Pieces(NamedTuple):
    """What goes into a document: versions of resources in their order, and when it was decided."""

    stored: tuple[Stored, ...]
    decided: int  # µs


async def read_pieces(reader: Reader, answer: DoctorAnswer, t: int, decided: int) -> Pieces:
    """The versions that an answer relies on, and what they refer to as it was at commit `t`.

    Raises Deleted when one of them was erased since.
    """
    found: dict[str, Stored] = {}
    for reference in (*answer.results, *answer.reports):
        await _add(reader, found, reference, t, required=True)
    for stored in list(found.values()):
        resource = parse(stored.whole())
        for name in _studies(resource):
            await _add(reader, found, name, t)
    others = [f"Organization/{answer.institution}", f"Patient/{answer.patient}"]
    for stored in list(found.values()):
        others += _others(parse(stored.whole()))
    for name in sorted(set(others)):
        await _add(reader, found, name, t)
    return Pieces(tuple(found.values()), decided)


async def _add(
    reader: Reader, found: dict[str, Stored], reference: str, t: int, *, required: bool = False
) -> None:
    name, _, version = reference.partition("/_history/")
    type, _, id = name.partition("/")
    if name in found or not id:
        return
    stored = await reader.vread(type, id, int(version)) if version else None
    if stored is None and not version:
        stored = await version_at(reader, name, t)
    if stored is not None and not stored.deleted:
        found[name] = stored
    elif required:
        raise Deleted("What was recognised was erased: the document is no more", rule="erased")


async def version_at(reader: Reader, name: str, t: int) -> Stored | None:
    """The version of "Type/id" that was current at commit `t`; None when there was none."""
    type, _, id = name.partition("/")
    changes = await reader.changes(type=type, id=id, until_t=t, limit=1)
    return changes[0].stored if changes else None


def _studies(resource: Mapping[str, Any]) -> Iterator[str]:
    """The studies of an imaging report, and the results of one that was recognised as a whole."""
    if resource["resourceType"] == "DiagnosticReport":
        for one in resource.get("imagingStudy", ()):
            yield _local(one, "ImagingStudy")


def _others(resource: Mapping[str, Any]) -> Iterator[str]:
    yield _local(resource.get("subject"), "Patient")
    for performer in resource.get("performer", ()):
        yield _local(performer, "Organization")


def _local(reference: Mapping[str, Any] | None, type: str) -> str:
    text = str((reference or {}).get("reference", ""))
    return unversioned(text) if text.startswith(f"{type}/") else ""


def document(answer: DoctorAnswer, pieces: Pieces, catalogue: Catalogue, base: str) -> bytes:
    """The document as JSON. `base` is the address that its entries are under."""
    entries = [_entry(f"{base}/{one.type}/{one.id}", one.whole()) for one in pieces.stored]
    digest = sha256(b",".join(entries)).hexdigest()
    first = render(_composition(answer, pieces, catalogue))
    entries.insert(0, _entry(f"{base}/Composition/{answer.id}", first))
    head = render({
        "resourceType": "Bundle",
        "identifier": {
            "system": DOCUMENT_SYSTEM,
            "value": f"{answer.decision}.{answer.line}.{digest[:16]}",
        },
        "type": "document",
        "timestamp": instant(pieces.decided),
    })  # fmt: skip
    return b'%b,"entry":[%b]}' % (head[:-1], b",".join(entries))


def digest_of(body: bytes) -> str:
    """The SHA-256 of a document, as it stands in the answer."""
    return sha256(body).hexdigest()


def _entry(url: str, resource: bytes) -> bytes:
    return b'{"fullUrl":%b,"resource":%b}' % (render(url), resource)


def _composition(answer: DoctorAnswer, pieces: Pieces, catalogue: Catalogue) -> dict[str, Any]:
    kinds = {catalogue.items[one].kind for one in answer.items if one in catalogue.items}
    code, display = _TYPES[kinds.pop() if len(kinds) == 1 else ""]
    issuers = {one for stored in pieces.stored for one in _others(parse(stored.whole()))}
    issuers = {one for one in issuers if one.startswith("Organization/") and _has(pieces, one)}
    resource: dict[str, Any] = {
        "resourceType": "Composition",
        "id": answer.id,
        "identifier": {"system": DOCUMENT_SYSTEM, "value": f"{answer.decision}.{answer.line}"},
        "status": "final",
        "type": {"coding": [{"system": _LOINC, "code": code, "display": display}]},
        "subject": {"reference": f"Patient/{answer.patient}"},
        "date": answer.authored,
        "author": [_author(answer, pieces)],
        "title": _TITLE,
        "custodian": {"reference": issuers.pop()} if len(issuers) == 1 else None,
        "section": list(_sections(answer, pieces, catalogue)),
    }
    return {name: value for name, value in resource.items() if value is not None}


def _has(pieces: Pieces, name: str) -> bool:
    return any(f"{one.type}/{one.id}" == name for one in pieces.stored)


def _author(answer: DoctorAnswer, pieces: Pieces) -> dict[str, Any]:
    """The institution that files it, and who decided, by the name that its workstation gives."""
    name = f"Organization/{answer.institution}"
    author = {"reference": name} if _has(pieces, name) else {}
    return {**author, "display": answer.user or answer.institution or "fhir-gateway"}


def _sections(answer: DoctorAnswer, pieces: Pieces, catalogue: Catalogue) -> Iterator[Any]:
    wanted = {"Observation", "DiagnosticReport", "ImagingStudy"}
    held = [one for one in pieces.stored if one.type in wanted]
    items = [catalogue.items[one] for one in answer.items if one in catalogue.items]
    yield {
        "title": "、".join(item.name_zh for item in items) or _TITLE,
        "text": {"status": "generated", "div": _narrative(answer, held)},
        "entry": [{"reference": f"{one.type}/{one.id}"} for one in held],
    }


def _narrative(answer: DoctorAnswer, held: Sequence[Stored]) -> str:
    rows = "".join(
        f"<li>{escape(f'{one.type}/{one.id}')}，版本 {one.version}，"
        f"SHA-256 {sha256(one.whole()).hexdigest()}</li>"
        for one in held
    )
    said = _paragraphs([
        f"决定 GuidanceResponse/{answer.decision}，申请 {answer.key}",
        f"答复 Task/{answer.id}，{answer.authored}",
    ])  # fmt: skip
    return f'<div xmlns="http://www.w3.org/1999/xhtml">{said}<ul>{rows}</ul></div>'


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts)
