"""One resource of every type of R4 in which every element has a value, made from the definitions.

Not valid (all members of a choice stand side by side), but the index reads member by member: every
converter of every search parameter has something to do. `python tests/search/search_samples.py`
writes the digests of what the index makes of them, for the version as it is.
"""

from __future__ import annotations

import json
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec

from fhir_gateway.fhir.definitions import Element, definitions
from fhir_gateway.identity import cross_reference, link
from fhir_gateway.interactions import endpoint_rows
from fhir_gateway.recognition import answer_rows, facts, register
from fhir_gateway.search.index import Extractor
from fhir_gateway.search.version import INDEX_VERSION
from fhir_gateway.settings import CANONICAL
from fhir_gateway.store.changes import Derived
from fhir_gateway.terminology.catalogue import SYSTEM_OF
from fhir_gateway.terminology.naming import IdentifierSystem, naming_of

DIGESTS = Path(__file__).parent / "cases" / "index_rows.json"
SAMPLES = Path(__file__).parents[1] / "fhir" / "samples"
SECRET = b"0123456789abcdef"

#: The systems of a site would be other data: these are of every form.
NAMING = naming_of([
    IdentifierSystem("card", "urn:oid:2.16.840.1.113883.2.23.1.19.1", ("urn:oid:1.2.3",),
                     "id-number"),
    IdentifierSystem("upper", "http://h.example/upper", ("urn:oid:1.2.4",), "upper"),
    IdentifierSystem("exact", "http://h.example/exact", ("urn:oid:1.2.5",)),
])  # fmt: skip

#: Elements of elements are filled to this depth.
DEEPEST = 4

_CODING = {"system": "http://h.example/codes", "code": "Ca-1", "display": "钙 Calcium"}
_QUANTITY = {"value": 7.10, "comparator": "<", "unit": "mg/dL", "code": "mg/dL",
             "system": "http://unitsofmeasure.org"}  # fmt: skip
_PERIOD = {"start": "2026-10-01T08:00:00+08:00", "end": "2026-10-02"}
_IDENTIFIER = {"use": "official", "system": "http://h.example/mrn", "value": "M-007",
               "type": {"coding": [_CODING], "text": "病案号"}}  # fmt: skip

VALUES: dict[str, Any] = {
    "base64Binary": "eA==", "boolean": True, "canonical": "http://h.example/canonical|1.0",
    "code": "final", "date": "2026-10", "dateTime": "2026-10-01T08:00+08:00", "decimal": 0.050,
    "id": "x", "instant": "2026-10-01T00:00:00.123Z", "integer": -3, "markdown": "Größe",
    "oid": "urn:oid:1.2.3", "positiveInt": 3, "string": "张三丰 Zhāng", "time": "08:00:00",
    "unsignedInt": 0, "uri": "http://h.example/Uri", "url": "http://h.example/url",
    "uuid": "urn:uuid:6b1f0a52-3c2e-4f0e-9a55-0d2a5b1c7e11", "xhtml": "<div/>",
    "Coding": _CODING, "Quantity": _QUANTITY, "Age": _QUANTITY, "Duration": _QUANTITY,
    "Money": {"value": 12.5, "currency": "CNY"}, "Period": _PERIOD, "Identifier": _IDENTIFIER,
    "CodeableConcept": {"coding": [_CODING, {"code": "bare"}], "text": "血 Blood"},
    "Reference": {"reference": "Patient/p1", "identifier": _IDENTIFIER, "display": "王小明"},
    "Range": {"low": {"value": 1, "unit": "a", "code": "a"}, "high": {"value": 2.5}},
    "HumanName": {"family": "欧阳", "given": ["小明", "X"], "text": "欧阳小明", "prefix": ["Dr"]},
    "Address": {"line": ["中山路 1"], "city": "重庆", "country": "CN", "postalCode": "400000"},
    "ContactPoint": {"system": "phone", "value": "+86 10 1234"},
    "Attachment": {"url": "http://h.example/a", "title": "图", "creation": "2026-10-01"},
    "Meta": {"tag": [_CODING], "security": [_CODING], "source": "http://h.example/source",
             "profile": ["http://h.example/profile"]},
    "Annotation": {"text": "x"}, "Narrative": {"status": "generated", "div": "<div/>"},
    "Timing": {"event": ["2026-10-01"], "repeat": {"boundsPeriod": _PERIOD}},
    "Signature": {"when": "2026-10-01T00:00:00Z"}, "SampledData": {"period": 1},
    "Resource": {"resourceType": "Basic", "id": "x", "code": {"text": "x"}},
    "Extension": {"url": "http://h.example/e", "valueCode": "x"},
}  # fmt: skip


def full(type: str) -> dict[str, Any]:
    """A resource of the type with a value for every element."""
    return {**_object(type, 0), "resourceType": type, "id": "x"}


def _object(type: str, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for element in definitions().types[type].elements.values():
        made |= _members(element, depth)
    return made


def _members(element: Element, depth: int) -> dict[str, Any]:
    made = {}
    for name, type in element.members():
        if type in VALUES:
            value = VALUES[type]
        elif depth < DEEPEST:
            value = _object(type, depth + 1)
        else:
            continue
        made[name] = [value] if element.many else value
    return made


def _with_facts() -> list[dict[str, Any]]:
    """Results of the catalogue, and a person with an identity card: what more is derived."""
    code = {"coding": [{"system": SYSTEM_OF["lab"], "code": "L001"}]}
    image = {"coding": [{"system": SYSTEM_OF["imaging"], "code": "I001"}]}
    about = {"subject": {"reference": "Patient/p1"}, "status": "final", "issued":
             "2026-10-01T09:00:00+08:00", "effectiveDateTime": "2026-10-01T08:00:00+08:00",
             "performer": [{"reference": "Organization/h1"}]}  # fmt: skip
    return [
        {"resourceType": "Observation", "id": "x", "code": code, **about,
         "valueQuantity": _QUANTITY},
        {"resourceType": "DiagnosticReport", "id": "x", "code": image, **about,
         "result": [{"reference": "Observation/x"}]},
        {"resourceType": "Patient", "id": "x", "name": [VALUES["HumanName"]], "identifier": [
            {"system": "urn:oid:2.16.840.1.113883.2.23.1.19.1", "value": "11010519491231002X"}]},
        {"resourceType": "Patient", "id": "aliases", "identifier": [
            {"system": system, "value": "1101051949 1231002x", "type": {"coding": [_CODING]}}
            for system in ("1.2.3", "urn:oid:1.2.4", "URN:OID:1.2.5", "urn:oid:1.2.6")]},
        {"resourceType": "Observation", "id": "named", "subject": {
            "identifier": {"system": "1.2.3", "value": "11010519491231002ｘ"}}},
        link.linkage(("p1", "p2"), active=True, author={"display": "x"}),
        {"resourceType": "Patient", "id": "merged", "link": [
            {"other": {"reference": "Patient/p1"}, "type": "replaced-by"}]},
        link.task(_QUESTION, ["h1"], modified="2026-10-01T09:00:00Z"),
        *_answers(),
    ]  # fmt: skip


def _answers() -> list[dict[str, Any]]:
    """What a doctor answered, and that it was corrected since."""
    system = f"{CANONICAL}/CodeSystem"
    task = {"resourceType": "Task", "for": {"reference": "Patient/p"}, "authoredOn": "2026-10-01",
            "owner": {"reference": "Organization/o"}, "intent": "proposal"}  # fmt: skip
    kept = {"system": f"{system}/recognition-task", "code": "recognition-answer"}
    told = {**kept, "code": "recognition-alert"}
    result = {"type": {"coding": [{**kept, "code": "result"}]},
              "valueReference": {"reference": "Observation/a/_history/1"}}  # fmt: skip
    state = {"system": f"{system}/recognition-answer", "code": "accepted"}
    return [
        {**task, "id": "answer", "status": "completed", "code": {"coding": [kept]},
         "businessStatus": {"coding": [state]}, "input": [result]},
        {**task, "id": "alert", "status": "requested", "code": {"coding": [told]}},
    ]  # fmt: skip


_QUESTION = link.Question(
    id="x", code=link.CONFIRM, status="requested", records=("p1", "p2"), grade="probable",
    score=0.95, levels="name=same", edition="1", source="x", authored="2026-10-01T09:00:00Z",
)  # fmt: skip


def digests() -> dict[str, str]:
    """What is derived from the samples, by name: the same as long as rows are the same."""
    samples = {type: full(type) for type in definitions().resource_types}
    samples |= {f"sample {path.stem}": json.loads(path.read_bytes())
                for path in sorted(SAMPLES.glob("*.json"))}  # fmt: skip
    samples |= {f"fact {one['resourceType']} {one['id']}": one for one in _with_facts()}
    extractor = Extractor(SECRET, naming=NAMING)
    return {name: _digest(extractor, resource) for name, resource in samples.items()}


def _digest(extractor: Extractor, resource: dict[str, Any]) -> str:
    rows = extractor.rows(resource["resourceType"], resource)
    derived = Derived()
    for derive in (partial(facts.derive, zone="Asia/Shanghai"), register.derive, link.derive,
                   answer_rows.derive,
                   endpoint_rows.derive,
                   partial(cross_reference.derive, naming=NAMING)):  # fmt: skip
        derive(resource, derived)
    told = [*(sorted(set(part)) for part in rows), derived]
    return blake2b(msgspec.msgpack.encode(told), digest_size=8).hexdigest()


if __name__ == "__main__":
    DIGESTS.write_text(
        json.dumps({"version": INDEX_VERSION, "digests": digests()}, indent=1) + "\n"
    )
