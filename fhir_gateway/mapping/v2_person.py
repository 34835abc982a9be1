"""PID and PV1 as Patient and Encounter (HL7 v2.5.1 3.4.2, 3.4.3; v2-to-FHIR).

The Patient's id comes from the institution's patient number. Fields that the message leaves empty
say nothing about the patient (v2 2.5.3); intake keeps what earlier messages said.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from fhir_gateway.mapping.tables import look_up, normal
from fhir_gateway.mapping.v2 import Segment, missing
from fhir_gateway.mapping.v2_draft import Draft, clean, join_name
from fhir_gateway.mapping.v2_time import read_date

_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_TYPES = "http://terminology.hl7.org/CodeSystem/v2-0203"


def patient(draft: Draft, pid: Segment) -> dict[str, str]:
    """Adds the Patient; the reference to it. Raises Unprocessable without any number in PID-3."""
    numbers = _numbers(draft, pid)
    resource = {
        "resourceType": "Patient",
        "id": _id(draft, pid, 3, numbers),
        "extension": draft.extensions(pid),
        "identifier": [identifier for _, _, identifier in numbers],
        "name": _names(pid),
        "telecom": _telecom(pid),
        "gender": _gender(draft, pid),
        "birthDate": _birth_date(draft, pid),
        "address": _addresses(pid),
        "managingOrganization": {"reference": f"Organization/{draft.institution.id}"},
    }
    return draft.add(clean(resource))


class Named(NamedTuple):
    """A Patient whom a segment names, and what the segment says of that person beside.

    `place` is the field of the number, `fields` the place of each element of `stated` (which has
    identifier, name and birthDate, as far as they are said). `authorities` are the names and OIDs
    of who assigned the number, one tuple for each time that it is written.
    """

    id: str
    place: str
    stated: dict[str, Any]
    fields: dict[str, str]
    authorities: tuple[tuple[str, ...], ...]


def named(draft: Draft, segment: Segment, *, number: int, name: int, born: int = 0) -> Named:
    """The Patient of PID or MRG by the fields of its numbers, name and birth date.

    Raises Unprocessable without any number.
    """
    numbers = _numbers(draft, segment, (number,))
    own = next((value for kind, value, _ in numbers if kind == "patient"), "")
    stated = {
        "identifier": [identifier for _, _, identifier in numbers],
        "name": _names(segment, name),
        "birthDate": _birth_date(draft, segment) if born else "",
    }
    return Named(
        _id(draft, segment, number, numbers),
        segment.where(number),
        clean(stated),
        {"identifier": segment.where(number), "name": segment.where(name)}
        | ({"birthDate": segment.where(born)} if born else {}),
        _assigned_by(segment, number, own) if own else (),
    )


def _assigned_by(segment: Segment, n: int, number: str) -> tuple[tuple[str, ...], ...]:
    """Who assigned a number, () where that is not said."""
    found: list[tuple[str, ...]] = []
    for raw in segment.repetitions(n):
        if segment.parts(raw)[0].strip() == number:
            pieces = segment.pieces(raw)
            found.append(tuple(name for name in _assigners(pieces) if name))
    return tuple(found)


def _id(draft: Draft, segment: Segment, n: int, numbers: list[_Number]) -> str:
    own = next((value for kind, value, _ in numbers if kind == "patient"), "")
    document = next((value for kind, value, _ in numbers if kind == "document"), "")
    if not own and not document:
        raise missing(segment, n, "The patient's number")
    return draft.id("Patient", *((own,) if own else ("document", document)))


_Number = tuple[str, str, dict[str, Any]]


def _numbers(draft: Draft, pid: Segment, fields: tuple[int, ...] = (3, 2)) -> list[_Number]:
    """(kind, value, Identifier) of PID-3, PID-2 and PID-19, or of other fields; each once."""
    types = draft.rows("identifier-types", "system")
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for raw in [raw for n in fields for raw in pid.repetitions(n)]:
        parts = pid.parts(raw)
        value, name = parts[0].strip(), (parts[4].strip() if len(parts) > 4 else "")
        pieces = pid.pieces(raw)
        oid = _authority(pieces)
        row = look_up(types, oid) if oid else None
        row = row or (look_up(types, name) if name else None)
        kind = row.code if row else "patient" if not name else "other"
        if kind == "patient" and draft.others and _is_anothers(draft, pieces):
            draft.warn(pid, fields[0], "another institution assigned this number; it was left out",
                       "v2-other-authority")  # fmt: skip
            continue
        system = (row.extra if row else "") or _own_system(draft, kind, name)
        if value and kind != "visit":
            found.setdefault((kind, value), _identifier(kind, name, system, value))
    if document := pid.text(19) if pid.name == "PID" else "":
        system = types["SS"].extra
        found.setdefault(("document", document), _identifier("document", "", system, document))
    return [(kind, value, identifier) for (kind, value), identifier in found.items()]


def _is_anothers(draft: Draft, pieces: list[list[str]]) -> bool:
    """Whether CX.4 or CX.6 says that another registered institution assigned a number.

    Names that nobody is registered by are the sender's own systems.
    """
    return not draft.others.isdisjoint(_assigners(pieces))


def _assigners(pieces: list[list[str]]) -> list[str]:
    """Namespace and universal id of CX.4 and CX.6, as names are compared."""
    return [authority(name) for part in (*pieces[3:4], *pieces[5:6]) for name in part[:2]]


def authority(name: str) -> str:
    """The name of who assigns numbers, as names are compared: nobody tells two by their case."""
    return normal(name).casefold()


def _authority(pieces: list[list[str]]) -> str:
    """The OID of who assigns the number (CX.4, universal id), "" when the message names none.

    Where it is a national one it says more than the code of the type does.
    """
    assigned = pieces[3] if len(pieces) > 3 else []
    is_oid = len(assigned) > 2 and assigned[2].upper() == "ISO"
    return assigned[1] if is_oid else ""


def _own_system(draft: Draft, kind: str, name: str) -> str:
    if kind == "patient":
        return draft.institution.system("patient")
    return draft.institution.system(f"identifier-{name}" if name.isascii() else "identifier")


def _identifier(kind: str, name: str, system: str, value: str) -> dict[str, Any]:
    codes = {
        "document": "NI",
        "passport": "PPN",
        "health-card": "HC",
        "patient": name if name in ("PI", "MR", "PT") else "PI",
    }
    identifier: dict[str, Any] = {"use": "official"} if kind == "document" else {}
    if code := codes.get(kind):
        identifier["type"] = {"coding": [{"system": _TYPES, "code": code}]}
    elif name:
        identifier["type"] = {"text": name}
    return identifier | {"system": "".join(system.split()), "value": value}


def _names(pid: Segment, n: int = 5) -> list[dict[str, Any]]:
    names: list[dict[str, Any]] = []
    for raw in pid.repetitions(n):
        parts = [part.strip() for part in (*pid.parts(raw), *[""] * 7)[:7]]
        family = pid.pieces(raw)[0][0]
        given = [name for name in parts[1:3] if name]
        if not family and not given:
            continue
        name: dict[str, Any] = {"text": join_name(family, " ".join(given))}
        if given:
            name |= {"family": family, "given": given}
        names.append(clean(name))
    return names


def _telecom(pid: Segment) -> list[dict[str, str]]:
    texts = [
        pid.parts(raw)[0].strip() or (pid.parts(raw)[11:12] or [""])[0].strip()
        for n in (13, 14)
        for raw in pid.repetitions(n)
    ]
    return [{"system": "phone", "value": text} for text in dict.fromkeys(texts) if text]


def _addresses(pid: Segment) -> list[dict[str, str]]:
    texts = [
        " ".join(part.strip() for part in pid.parts(raw)[:6] if part.strip())
        for raw in pid.repetitions(11)
    ]
    return [{"text": text} for text in texts if text]


def _gender(draft: Draft, pid: Segment) -> str:
    text = pid.text(8)
    if not text:
        return ""
    row = look_up(draft.rows("sex"), text)
    if row is None:
        draft.warn(pid, 8, "this sex is not in its HL7 table; unknown was stored", "v2-sex")
        return "unknown"
    return row.code


def _birth_date(draft: Draft, pid: Segment) -> str:
    text = pid.text(7)
    day = read_date(text) if text else None
    if text and day is None:
        draft.warn(pid, 7, "this is no date; it was left out", "v2-time")
    return day or ""


def encounter(draft: Draft, pv1: Segment, patient: dict[str, str]) -> dict[str, str] | None:
    """Adds the Encounter of a visit with a number (PV1-19, PV1-50); None when it has none."""
    number = pv1.text(19) or pv1.text(50)
    if not number:
        return None
    admitted, discharged = draft.loose_time(pv1, 44), draft.loose_time(pv1, 45)
    row = look_up(draft.rows("encounter-class"), pv1.text(2))
    coding = {"system": _ACT_CODE, "code": row.code, "display": row.display} if row else {
        "display": pv1.text(2) or "unknown"
    }  # fmt: skip
    period = {"start": admitted and admitted.text, "end": discharged and discharged.text}
    place = " ".join(part for c in (1, 2, 3) if (part := pv1.text(3, c)))
    resource = {
        "resourceType": "Encounter",
        "id": draft.id("Encounter", number),
        "extension": draft.extensions(pv1),
        "identifier": [{"system": draft.institution.system("visit"), "value": number}],
        "status": "finished" if discharged else "unknown",
        "class": coding,
        "subject": patient,
        "period": clean(period),
        "location": [{"location": {"display": place}}] if place else [],
        "serviceProvider": {"reference": f"Organization/{draft.institution.id}"},
    }
    return draft.add(clean(resource))
