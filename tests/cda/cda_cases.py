"""Documents of WS/T 500 and C-CDA, built from a few words, and what becomes of them.

Persons are made up: names 示例…, numbers without meaning.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from fhir_gateway.mapping.cda import Taken, map_cda, read_cda
from fhir_gateway.mapping.cda_parse import parse_document
from fhir_gateway.security.institution import Institution
from fhir_gateway.settings import Settings

MAPPINGS = Settings().mappings
SECOND = Institution(
    id="second",
    name="示范市第二医院",
    level="三级乙等",
    area="110102",
    facilities=("示范二院",),
    institution_code="123456789PDY00001A",
)
DE = "2.16.156.10011.2.2.1"
_XMLNS = (
    'xmlns="urn:hl7-org:v3" xmlns:sdtc="urn:hl7-org:sdtc"'
    ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
)


def element(code: str, value: str, inner: str = "", time: str = "", more: str = "") -> str:
    """An observation of a data element."""
    return (
        f'<observation classCode="OBS" moodCode="EVN"><code code="{code}" codeSystem="{DE}"/>'
        f"{time}{value}{more}"
        + "".join(
            f'<entryRelationship typeCode="COMP">{one}</entryRelationship>'
            for one in inner.split("||")
            if one
        )
        + "</observation>"
    )


def st(text: str) -> str:
    """A text value."""
    return f'<value xsi:type="ST">{text}</value>'


def item(
    code: str = "ALT",
    name: str = "丙氨酸氨基转移酶",
    *,
    quantity: str = '<value xsi:type="REAL" value="32"/>',
    unit: str = "U/L",
    flag: str = "",
    result: str = "",
    more: str = "",
    specimen: str = "血清",
    collected: str = "202611180812",
    received: str = "202611180900",
    status: str = "",
) -> str:
    """A laboratory item with its specimen and result."""
    parts = [
        element(
            "DE04.50.134.00",
            st(specimen),
            time=f'<effectiveTime><low value="{collected}"/><high value="{received}"/>'
            "</effectiveTime>",
        )
    ]
    if flag:
        parts.append(
            element(
                "DE04.30.017.00",
                f'<value xsi:type="CD" code="2" displayName="{flag}" '
                'codeSystem="2.16.156.10011.2.3.2.38"/>',
            )
        )
    if result:
        parts.append(element("DE04.30.017.00", result))
    if quantity:
        units = element("DE04.30.016.00", st(unit)) if unit else ""
        parts.append(element("DE04.30.015.00", quantity, units))
    value = f'<value xsi:type="CD" code="{code}" displayName="{name}"/>'
    state = f'<statusCode code="{status}"/>' if status else ""
    return element("DE04.30.019.00", value, "||".join(parts), time=state, more=more)


def panel(*items: str, code: str = "SHQT", name: str = "生化全套") -> str:
    """An organizer with items."""
    own = f'<code code="{code}" displayName="{name}"/>' if code else ""
    members = "".join(f"<component>{one}</component>" for one in items)
    return (
        f'<entry><organizer classCode="CLUSTER" moodCode="EVN">{own}{members}</organizer></entry>'
    )


def section(loinc: str, *entries: str, text: str = "<text/>", title: str = "") -> str:
    """A section of the body."""
    head = f"<title>{title}</title>" if title else ""
    return (
        f'<component><section><code code="{loinc}" codeSystem="2.16.840.1.113883.6.1"/>'
        f"{head}{text}{''.join(entries)}</section></component>"
    )


def document(
    *sections: str,
    template: str = "2.16.156.10011.2.1.1.27",
    code: str = "C0007",
    title: str = "检验报告",
    id: str = "D1",
    set: str = "",
    version: int = 0,
    related: str = "",
    patient: str = '<id root="2.16.156.10011.1.13" extension="700123"/>',
    report: str = '<id root="2.16.156.10011.1.33" extension="R1"/>',
    order: str = '<id root="2.16.156.10011.1.24" extension="O1"/>',
    name: str = "示例甲",
    document_number: str = "",
    custodian: str = "123456789PDY00001A",
    custodian_name: str = "示范市第二医院",
    issued: str = "202611181130",
    signed: bool = True,
    visit: str = "",
    prolog: str = "",
) -> bytes:
    """A whole document."""
    own = (
        f'<id root="2.16.156.10011.1.3" extension="{document_number}"/>' if document_number else ""
    )
    sets = f'<setId root="2.16.156.10011.1.1" extension="{set}"/>' if set else ""
    versions = f'<versionNumber value="{version}"/>' if version else ""
    legal = (
        f'<legalAuthenticator><time value="{issued}"/><signatureCode code="S"/><assignedEntity>'
        '<id root="2.16.156.10011.1.4" extension="S1"/><code displayName="审核医师"/>'
        "<assignedPerson><name>审核员乙</name></assignedPerson></assignedEntity>"
        "</legalAuthenticator>"
        if signed
        else ""
    )
    return (
        f"""<?xml version="1.0" encoding="UTF-8"?>{prolog}
<ClinicalDocument {_XMLNS}>
<realmCode code="CN"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_MT000040"/>
<templateId root="{template}"/>
<id root="2.16.156.10011.1.1" extension="{id}"/>
<code code="{code}" codeSystem="2.16.156.10011.2.4"/>
<title>{title}</title><effectiveTime value="20261118113100"/>
<confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/><languageCode code="zh-CN"/>
{sets}{versions}
<recordTarget><patientRole>{patient}{report}{order}
<patientType><patienttypeCode code="1" displayName="门诊"/></patientType>
<patient>{own}<name>{name}</name><administrativeGenderCode code="1"/><birthTime value="19580312"/>
</patient></patientRole></recordTarget>
<author><time value="{issued}"/><assignedAuthor><id root="2.16.156.10011.1.7" extension="A1"/>
<assignedPerson><name>报告员甲</name></assignedPerson></assignedAuthor></author>
<custodian><assignedCustodian><representedCustodianOrganization>
<id root="2.16.156.10011.1.5" extension="{custodian}"/><name>{custodian_name}</name>
</representedCustodianOrganization></assignedCustodian></custodian>
{legal}{related}{visit}
<component><structuredBody>{"".join(sections)}</structuredBody></component>
</ClinicalDocument>"""
    ).encode()


def lab(*items: str, **header: Any) -> bytes:
    """A laboratory report with one panel."""
    return document(section("30954-2", panel(*(items or (item(),)))), **header)


def exam(
    *sections: str,
    items: str = '<value xsi:type="CD" code="CT-CHEST" displayName="胸部CT平扫"/>',
    category: str = "CT",
    findings: str = "双肺纹理清晰。",
    conclusion: str = "未见异常。",
    **header: Any,
) -> bytes:
    """An examination's report."""
    done = element("DE02.10.027.00", st("平扫"), element("DE04.30.018.00", st(category)))
    examined = element("DE04.30.019.00", items, time='<effectiveTime value="202611180812"/>')
    words = element("DE04.50.131.00", st(findings)) if findings else ""
    words_too = element("DE04.50.132.00", st(conclusion)) if conclusion else ""
    header = {
        "template": "2.16.156.10011.2.1.1.26",
        "code": "C0006",
        "title": "检查报告",
        "report": '<id root="2.16.156.10011.1.32" extension="R1"/>',
    } | header
    return document(
        section("29545-1", f"<entry>{done}</entry>", panel(examined, code="") if items else ""),
        section("", f"<entry>{words}</entry>" if words else "",
                f"<entry>{words_too}</entry>" if words_too else ""),
        *sections,
        **header,
    )  # fmt: skip


def results_document(fragment: str) -> bytes:
    """A C-CDA document around a Results section."""
    raw = document(
        f"<component>{fragment}</component>",
        template="2.16.840.1.113883.10.20.22.1.1",
        code="11502-2",
        title="Laboratory report",
        report="",
        order="",
        patient='<id root="2.999.7" extension="MRN-7"/>',
    )
    return raw.replace(b'codeSystem="2.16.156.10011.2.4"', b'codeSystem="2.16.840.1.113883.6.1"')


def replaces(id: str, kind: str = "RPLC") -> str:
    """relatedDocument."""
    return (
        f'<relatedDocument typeCode="{kind}"><parentDocument>'
        f'<id root="2.16.156.10011.1.1" extension="{id}"/></parentDocument></relatedDocument>'
    )


def taken(raw: bytes, institution: Institution = SECOND) -> Taken:
    """What a document becomes."""
    return map_cda(read_cda(parse_document(raw), mappings=MAPPINGS), institution, mappings=MAPPINGS)


def of(found: Taken, type: str) -> list[dict[str, Any]]:
    """The resources of a type."""
    return [one for one in found.mapped.resources if one["resourceType"] == type]


def rules(found: Taken) -> list[str]:
    """The rules of all warnings."""
    return [one.rule or "" for one in found.mapped.warnings]


def soap(inner: str, *, version: str = "http://schemas.xmlsoap.org/soap/envelope/",
         operation: str = "DocumentSubmit", action: str = "IST-DS1") -> bytes:  # fmt: skip
    """An envelope around a document."""
    return (
        f'<s:Envelope xmlns:s="{version}"><s:Body><{operation} xmlns="urn:x"><action>{action}'
        f"</action><document>{inner}</document></{operation}></s:Body></s:Envelope>"
    ).encode()


def form(kind: str) -> str:
    """A document as it may stand in an envelope."""
    raw = lab(custodian="", custodian_name="").decode()
    if kind == "element":
        return raw.partition("?>")[2]
    if kind == "text":
        return f"<![CDATA[{raw}]]>"
    return b64encode(raw.encode()).decode()


#: Envelopes that are refused: status and rule.
FAULTS = {
    "operation": (soap("", operation="Delete"), 400, "soap-operation"),
    "action": (soap("", action="IST-DS5"), 400, "soap-action"),
    "empty": (soap(""), 422, "soap-document"),
    "no document": (soap("abc!"), 422, "soap-document"),
    "other": (soap("<x/>"), 400, "cda-root"),
    "refused": (
        soap(b64encode(exam(custodian="", custodian_name="", report="")).decode()),
        422,
        "cda-report-number",
    ),
    "no envelope": (b"<x/>", 400, "soap-envelope"),
    "entities": (b'<!DOCTYPE x [<!ENTITY a "b">]><x/>', 400, "dtd"),
}
