"""recordTarget and encompassingEncounter as PID and PV1 (CDA R2 4.2.2.11, 4.2.3.2; WS/T 500)."""

from __future__ import annotations

from fhir_gateway.mapping.cda_header import Header, check_subject, oid_uri
from fhir_gateway.mapping.cda_parse import Node, at, attribute, every, fault, is_null, text_of
from fhir_gateway.mapping.cda_segments import Value, Writer, repeated
from fhir_gateway.mapping.v2_person import authority
from fhir_gateway.security.institution import Institution

_PERSON = ("patient", "document", "health-card")
_UNKNOWN = "oid:"


def add_person(
    writer: Writer, header: Header, institution: Institution, others: frozenset[str]
) -> None:
    """Adds PID, and PV1 where the document names a visit. Numbers that `others` assigned are left
    out with a warning.

    Raises Unprocessable for a document that names nobody by a number.
    """
    role = check_subject(header)
    person = at(role, "patient")
    numbers, left_out = _numbers(header, institution, others)
    if left_out:
        writer.warn(role, "another institution assigned a number of the person; it was left out",
                    "cda-other-number")  # fmt: skip
    if not numbers:
        raise fault(role, "the person has no number: patientRole/id or patient/id, with an "
                    "extension", "cda-patient")  # fmt: skip
    name, sex = at(person, "name"), at(person, "administrativeGenderCode")
    born = at(person, "birthTime")
    writer.add("PID", {
        3: (repeated(numbers), role),
        5: (_name(name), name),
        7: (attribute(born, "value"), born),
        8: (_code(sex), sex),
        11: (" ".join(text_of(at(role, "addr")).split()), role),
        13: (_telecom(role), role),
    })  # fmt: skip
    _add_visit(writer, header, role)


def _numbers(
    header: Header, institution: Institution, others: frozenset[str]
) -> tuple[list[Value], bool]:
    """PID-3, the person's own number first, and whether one was left out. An OID of no table is the
    institution's own where it is the only number, or the registered one."""
    own = institution.system("patient")
    theirs = _of_others(header, others)
    found = [(kind, pair) for kind in _PERSON for pair in header.numbers.get(kind, ())]
    pairs = [pair for kind, pair in found if kind != "patient" or pair[1] not in theirs]
    known = [pair for pair in pairs if not pair[0].startswith(_UNKNOWN)]
    strange = [pair for pair in pairs if pair[0].startswith(_UNKNOWN)]
    registered = [pair for pair in strange if oid_uri(pair[0][len(_UNKNOWN) :]) == own]
    first = registered or ([] if known else strange[:1])
    rest = [(type.removeprefix(_UNKNOWN), number) for type, number in strange
            if (type, number) not in first]  # fmt: skip
    # a number without type is the institution's own; the table's types say what the others are
    values: list[Value] = [[number] for _, number in first]
    values += [[number, "", "", "", type] for type, number in (*known, *rest)]
    return values, len(pairs) < len(found)


def _of_others(header: Header, others: frozenset[str]) -> set[str]:
    """Numbers that other institutions assigned, by OID or assigningAuthorityName; what an id says
    of a number without either may be the person's here."""
    role = at(header.root, "recordTarget", "patientRole")
    theirs, ours = set[str](), set[str]()
    for node in (*every(role, "id"), *every(role, "patient", "id")):
        names = (attribute(node, "root"), attribute(node, "assigningAuthorityName"))
        strange = any(authority(name) in others for name in names)
        (theirs if strange else ours).add(attribute(node, "extension"))
    return theirs - ours


def _name(node: Node | None) -> Value:
    """Family and given name where they stand apart, else the whole."""
    family = " ".join(text_of(one) for one in every(node, "family"))
    given = " ".join(text_of(one) for one in every(node, "given"))
    return [family, given] if family and given else text_of(node)


def _code(node: Node | None) -> str:
    return "" if is_null(node) else attribute(node, "code") or attribute(node, "displayName")


def _telecom(role: Node) -> str:
    texts = [attribute(one, "value").removeprefix("tel:") for one in every(role, "telecom")]
    return repeated([text for text in texts if text and ":" not in text and "@" not in text])


def _add_visit(writer: Writer, header: Header, role: Node) -> None:
    visit = at(header.root, "componentOf", "encompassingEncounter")
    number = attribute(at(visit, "id"), "extension")
    if visit is None or not number:
        return
    period, code = at(visit, "effectiveTime"), at(visit, "code")
    kind = at(role, "patientType", "patienttypeCode")
    said = kind if kind is not None else code
    facility = at(visit, "location", "healthCareFacility")
    start = attribute(at(period, "low"), "value") or attribute(period, "value")
    writer.add("PV1", {
        2: (_class(said), said),
        3: (_place(facility), facility),
        19: (number, visit),
        44: (start, visit),
        45: (attribute(at(period, "high"), "value"), visit),
    })  # fmt: skip


#: ActCode of an encounter -> HL7 table 0004.
_CLASSES = {"AMB": "O", "IMP": "I", "ACUTE": "I", "EMER": "E", "PRENC": "P"}


def _class(node: Node | None) -> str:
    code = attribute(node, "code")
    return _CLASSES.get(code, "") or attribute(node, "displayName") or code


def _place(facility: Node | None) -> Value:
    """Names of where the visit is, the smallest place last: department, ward, room and bed."""
    place = text_of(at(facility, "location", "name"))
    names: list[str] = []
    node = at(facility, "serviceProviderOrganization")
    while node is not None and len(names) < 8:
        if name := text_of(at(node, "name")):
            names.append(name)
        node = at(node, "asOrganizationPartOf", "wholeOrganization")
    return [" ".join([*reversed(names[:-1] or names), place]).strip()] if names or place else ""
