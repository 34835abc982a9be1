"""A CDA document as a source of origins: attributes and texts of its elements, each changed once.

A place is written as a path below ClinicalDocument, `recordTarget/patientRole/id[2]@extension`,
after its line. What only says how elements relate to one another (classCode and its like) is left
out; so is a part of the document from which nothing follows when it is taken away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.cda import map_cda, read_cda
from fhir_gateway.mapping.cda_document import document_reference, series_id
from fhir_gateway.mapping.cda_parse import Document, Node
from fhir_gateway.mapping.origins import Atom
from fhir_gateway.mapping.origins_v2 import tables_of, varied
from fhir_gateway.mapping.tables import Table
from fhir_gateway.security.institution import Institution

#: Attributes that say how elements relate, not what they say.
_STRUCTURE = frozenset({
    "classCode", "moodCode", "typeCode", "determinerCode", "contextControlCode",
    "contextConductionInd", "inversionInd", "ID",
})  # fmt: skip

#: Elements that can be taken away as a whole.
_WHOLE = frozenset({
    "recordTarget", "author", "custodian", "legalAuthenticator", "authenticator", "participant",
    "documentationOf", "inFulfillmentOf", "relatedDocument", "componentOf", "component", "entry",
    "entryRelationship", "performer", "specimen", "text", "templateId",
})  # fmt: skip


class CdaSource:
    """A parsed document of an institution. Its tree is changed while it is read, and put back."""

    def __init__(
        self, document: Document, institution: Institution, *, mappings: str,
        others: frozenset[str] = frozenset(),
    ) -> None:  # fmt: skip
        self.document, self.institution = document, institution
        self.mappings, self.others = mappings, others
        self.tables: Mapping[str, Table] = tables_of(f"{mappings}/v2")
        self.atoms: Sequence[Atom] = [*_atoms(document.root, "", "")]

    def map(self, atom: Atom | None, text: str) -> list[dict[str, Any]]:
        """The resources with one attribute or text changed. Raises GatewayError as the mapping
        does."""
        if atom is None:
            return self._mapped(self.institution)
        node, name = atom.where
        if atom.whole:
            return self._without(node)
        before = node.text if name is None else node.get(name)
        _put(node, name, text or None)
        try:
            return self._mapped(self.institution)
        finally:
            _put(node, name, before)

    def _without(self, node: Node) -> list[dict[str, Any]]:
        parent = node.getparent()
        at = parent.index(node)
        parent.remove(node)
        try:
            return self._mapped(self.institution)
        finally:
            parent.insert(at, node)

    def _mapped(self, institution: Institution) -> list[dict[str, Any]]:
        read = read_cda(self.document, mappings=self.mappings)
        taken = map_cda(read, institution, mappings=self.mappings, others=self.others)
        document = document_reference(
            institution,
            read.header,
            self.document.raw,
            taken.told,
            head=series_id(institution, read.header),
            structured=taken.structured,
        )
        return [*taken.mapped.resources, *taken.studies, document]

    def elsewhere(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The resources for another entry of the institution, as far as it stays the custodian."""
        found = []
        for part, other in varied(self.institution):
            try:
                found.append((part, self._mapped(other)))
            except GatewayError:
                continue  # the document names its custodian so
        return found


def _put(node: Node, name: str | None, text: str | None) -> None:
    if name is None:
        node.text = text
    elif text is None:
        del node.attrib[name]
    else:
        node.set(name, text)


def _atoms(node: Node, path: str, inside: str) -> Iterator[Atom]:
    """What an element says itself, and its elements, in the order of the document."""
    if path:
        place = f"line {node.sourceline}: {path}"
        if _local(node) in _WHOLE:
            yield Atom(place, "", (node, None), whole=True, inside=inside)
            inside = place
        for name, text in node.attrib.items():
            if text.strip() and name.rpartition("}")[2] not in _STRUCTURE:
                shown = f"{place}@{name.rpartition('}')[2]}"
                yield Atom(shown, text.strip(), (node, name), inside=inside)
        if node.text and node.text.strip():
            yield Atom(place, " ".join(node.text.split()), (node, None), inside=inside)
    children = [child for child in node if isinstance(child.tag, str)]
    names = Counter(map(_local, children))
    seen: Counter[str] = Counter()
    for child in children:
        name = _local(child)
        seen[name] += 1
        number = f"[{seen[name]}]" if names[name] > 1 else ""
        yield from _atoms(child, f"{path}/{name}{number}" if path else f"{name}{number}", inside)


def _local(node: Node) -> str:
    return str(node.tag).rpartition("}")[2]
