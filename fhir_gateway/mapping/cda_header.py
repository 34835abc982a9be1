"""The header of a CDA document: what it is, whose, by whom, and which versions it replaces.

CDA R2 4.2 and, for China, WS/T 500: the numbers of the person, the report, the order and the
specimen all stand in recordTarget/patientRole/id, told apart by their OID (mappings/cda).
"""

from __future__ import annotations

from typing import NamedTuple

from fhir_gateway.errors import Unprocessable
from fhir_gateway.mapping.cda_parse import Node, at, attribute, every, fault, is_null, text_of
from fhir_gateway.mapping.cda_tables import DOCUMENT, RESULTS, Tables, Template

#: Versions that relatedDocument speaks of.
REPLACES, APPENDS, TRANSFORMS = "RPLC", "APND", "XFRM"


class Id(NamedTuple):
    """An instance identifier: OID or UUID, and the number below it."""

    root: str
    extension: str

    @property
    def system(self) -> str:
        """The system of the identifier as FHIR has it."""
        return oid_uri(self.root) if self.extension else "urn:ietf:rfc:3986"

    @property
    def value(self) -> str:
        """The value in that system."""
        return self.extension or oid_uri(self.root)


class Signed(NamedTuple):
    """A person who wrote or signed, and when (as sent)."""

    name: str
    time: str
    role: str = ""


class Related(NamedTuple):
    """A document that this one replaces, adds to, or was transformed from."""

    kind: str
    id: Id
    set: Id | None
    version: int


class Header(NamedTuple):
    """What a document says of itself. `time` and the other times stand as they were sent."""

    root: Node
    template: Template
    template_id: str
    id: Id
    set: Id | None
    version: int
    title: str
    time: str
    confidentiality: str
    language: str
    author: Signed
    legal: Signed
    signed: tuple[Signed, ...]
    custodian: Id
    custodian_name: str
    related: tuple[Related, ...]
    numbers: dict[str, list[tuple[str, str]]]  # role -> (type, number), best first

    def number(self, role: str) -> str:
        """The first number of a role, "" when the document has none."""
        found = self.numbers.get(role)
        return found[0][1] if found else ""

    @property
    def is_signed(self) -> bool:
        """Whether anybody answers for it."""
        return bool(self.legal.name or self.legal.time or self.signed)

    def relation(self, kind: str) -> Related | None:
        """The first related document of a kind."""
        return next((one for one in self.related if one.kind == kind), None)

    @property
    def corrects(self) -> bool:
        """Whether an earlier version was sent before, here or elsewhere."""
        return self.version > 1 or self.relation(REPLACES) is not None


def oid_uri(root: str) -> str:
    """An OID or UUID as a URI."""
    return f"urn:oid:{root}" if "." in root or root.isdigit() else f"urn:uuid:{root.lower()}"


def read_header(root: Node, tables: Tables) -> Header:
    """The header. Raises Unprocessable where the document does not say what it is or whose."""
    own = _id(at(root, "id"))
    if own is None:
        raise fault(root, "the document has no id", "cda-id")
    author = at(root, "author")
    template_id, template = _template(root, tables)
    organization = at(root, "custodian", "assignedCustodian", "representedCustodianOrganization")
    return Header(
        root=root,
        template=template,
        template_id=template_id,
        id=own,
        set=_id(at(root, "setId")),
        version=_version(at(root, "versionNumber")),
        title=text_of(at(root, "title")) or template.name,
        time=attribute(at(root, "effectiveTime"), "value"),
        confidentiality=attribute(at(root, "confidentialityCode"), "code"),
        language=attribute(at(root, "languageCode"), "code"),
        author=_signed(author, "assignedAuthor"),
        legal=_signed(at(root, "legalAuthenticator"), "assignedEntity"),
        signed=tuple(_signed(one, "assignedEntity") for one in every(root, "authenticator")),
        custodian=_id(at(organization, "id")) or Id("", ""),
        custodian_name=text_of(at(organization, "name")),
        related=tuple(
            one for node in every(root, "relatedDocument") for one in _related(node)
        ),
        numbers=_numbers(root, tables),
    )  # fmt: skip


def _template(root: Node, tables: Tables) -> tuple[str, Template]:
    """What the document is: by its template, else by its code."""
    named = [attribute(one, "root") for one in every(root, "templateId")]
    found = [(oid, tables.templates[oid]) for oid in named if oid in tables.templates]
    code = at(root, "code")
    said, system = attribute(code, "code"), attribute(code, "codeSystem")
    if not found:
        found = [(oid, one) for oid, one in tables.templates.items()
                 if one.code and (one.code, one.system) == (said, system)]  # fmt: skip
    oid, template = found[0] if found else (named[0] if named else "", None)
    if template is None:
        name = attribute(code, "displayName")
        return oid, Template(DOCUMENT, said, system, name, "")
    if template.code and said and template.kind != RESULTS and template.code != said:
        raise fault(code, f"the template says {template.code}; code says otherwise", "cda-code")
    return oid, template._replace(
        code=said or template.code,
        system=system or template.system,
        name=attribute(code, "displayName") or template.name,
    )


def _id(node: Node | None) -> Id | None:
    root = attribute(node, "root")
    return Id(root, attribute(node, "extension")) if root and not is_null(node) else None


def _version(node: Node | None) -> int:
    text = attribute(node, "value")
    if not text:
        return 1
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise fault(node, "versionNumber is a whole number", "cda-version")
    return int(text)


def _signed(node: Node | None, entity: str) -> Signed:
    person = at(node, entity)
    name = text_of(at(person, "assignedPerson", "name"))
    role = attribute(at(person, "code"), "displayName")
    return Signed(name, attribute(at(node, "time"), "value"), role)


def _related(node: Node) -> list[Related]:
    parent = at(node, "parentDocument")
    id = _id(at(parent, "id"))
    kind = attribute(node, "typeCode")
    if id is None or kind not in (REPLACES, APPENDS, TRANSFORMS):
        if is_null(at(parent, "id")) and kind in ("", REPLACES, APPENDS, TRANSFORMS):
            return []  # a template that was left empty
        raise fault(node, "a related document is RPLC, APND or XFRM, with its id", "cda-related")
    return [Related(kind, id, _id(at(parent, "setId")), _version(at(parent, "versionNumber")))]


def _numbers(root: Node, tables: Tables) -> dict[str, list[tuple[str, str]]]:
    """The numbers of person, report, order and specimen by role, the best of each first."""
    role = at(root, "recordTarget", "patientRole")
    found: dict[str, list[tuple[int, str, str]]] = {}
    for node in (*every(role, "id"), *every(role, "patient", "id")):
        oid, number = attribute(node, "root"), attribute(node, "extension")
        if not number or is_null(node):
            continue
        known = tables.numbers.get(oid)
        if known is None:
            found.setdefault("patient", []).append((99, f"oid:{oid}", number))
        else:
            found.setdefault(known.role, []).append((known.rank, known.type, number))
    return {
        name: [(type, number) for _, type, number in sorted(pairs, key=lambda one: one[0])]
        for name, pairs in found.items()
    }


def check_subject(header: Header) -> Node:
    """The patientRole. Raises Unprocessable without one, or for a document about several."""
    targets = every(header.root, "recordTarget")
    if len(targets) != 1 or at(targets[0], "patientRole") is None:
        raise Unprocessable(
            "A document is about one person: it has one recordTarget with a patientRole",
            expression="ClinicalDocument/recordTarget",
            rule="cda-subject",
        )
    return at(targets[0], "patientRole")
