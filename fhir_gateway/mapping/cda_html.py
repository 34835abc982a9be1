"""A CDA document as a page for people: header, sections, and entries where a section has no text.

Made by this code alone. The document's own stylesheet is never looked at, nothing is fetched, and
no script can run: the page says so itself by its policy, and every narrative is sanitised.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape

from fhir_gateway.mapping.cda_header import Header, Signed
from fhir_gateway.mapping.cda_html_entries import entries_html, time_text
from fhir_gateway.mapping.cda_narrative import narrative_html, pictures_of
from fhir_gateway.mapping.cda_parse import (
    Document,
    Node,
    at,
    attribute,
    long_text,
    sections,
    text_of,
)
from fhir_gateway.mapping.cda_tables import Tables

_STYLE = """
:root{color-scheme:light}
*{box-sizing:border-box}
body{margin:0;background:#f3f5f7;color:#1c2733;font:16px/1.6 system-ui,"PingFang SC",
"Noto Sans CJK SC","Microsoft YaHei",sans-serif}
main{max-width:60rem;margin:0 auto;background:#fff;padding:1.5rem clamp(1rem,4vw,2.5rem) 2.5rem}
h1{font-size:1.6rem;line-height:1.3;margin:0 0 .25rem;text-wrap:balance}
h2{font-size:1.1rem;margin:2rem 0 .5rem;padding-bottom:.25rem;border-bottom:2px solid #d5dde5}
.by{color:#52606d;margin:0 0 1rem}
.note{background:#fff4d6;border:1px solid #e6c35c;border-radius:.4rem;padding:.5rem .8rem}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.6rem 1.5rem;margin:0}
dt{font-size:.8rem;color:#52606d}
dd{margin:0;overflow-wrap:anywhere}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-variant-numeric:tabular-nums}
th,td{border:1px solid #d5dde5;padding:.35rem .6rem;text-align:left;vertical-align:top}
th{background:#f3f5f7;font-weight:600;white-space:nowrap}
td{min-width:4.5em}
caption{text-align:left;font-weight:600;padding:.25rem 0}
img{max-width:100%;height:auto}
p{white-space:pre-line;margin:.5rem 0}
ul{margin:.5rem 0;padding-left:1.3rem}
@media print{body{background:#fff}main{max-width:none;padding:0}}
"""

#: What a browser may do with the page: show it with this style and its own pictures.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'sha256-"
    + b64encode(sha256(_STYLE.encode()).digest()).decode("ascii")
    + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)

_SEX = {"0": "未知", "1": "男", "2": "女", "9": "未说明", "M": "男", "F": "女", "UN": "未知"}
_NUMBERS = {
    "patient": "患者号", "document": "身份证件号", "health-card": "健康卡号",
    "lab-report": "检验报告单号", "exam-report": "检查报告单号", "order": "电子申请单号",
    "specimen": "标本编号",
}  # fmt: skip


def page(document: Document, header: Header, tables: Tables, *, note: str = "") -> str:
    """The page of a document. `note` is said above it, such as that a newer version stands."""
    root = document.root
    pictures = pictures_of(root)
    title = escape(header.title or "CDA")
    body = "".join(_section(one, tables, pictures) for one in _top(root))
    warned = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        '<!DOCTYPE html>\n<html lang="zh-CN"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><main>{warned}"
        f'<h1>{title}</h1><p class="by">{escape(header.custodian_name)}</p>'
        f"<dl>{_facts(root, header)}</dl>{body or _unstructured(root)}</main></body></html>\n"
    )


def _top(root: Node) -> Iterator[Node]:
    """The sections, each with its own text; those inside others follow in their order."""
    yield from dict.fromkeys(sections(root))


def _unstructured(root: Node) -> str:
    """A document without sections: its text where it is plain."""
    text = at(root, "component", "nonXMLBody", "text")
    plain = text is not None and text.get("representation", "TXT") == "TXT"
    said = long_text(text) if plain else "The document holds a file, which is not shown here."
    return f"<section><p>{escape(said)}</p></section>"


# -- the header ------------------------------------------------------------------------------------


def _facts(root: Node, header: Header) -> str:
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>"
        for name, text in _said(root, header)
        if text
    )


def _said(root: Node, header: Header) -> Iterator[tuple[str, str]]:
    role = at(root, "recordTarget", "patientRole")
    person = at(role, "patient")
    sex = at(person, "administrativeGenderCode")
    age = at(person, "age")
    yield "姓名", text_of(at(person, "name"))
    yield "性别", _SEX.get(attribute(sex, "code"), "") or attribute(sex, "displayName")
    yield "出生日期", time_text(attribute(at(person, "birthTime"), "value"))
    yield "年龄", attribute(age, "value") + attribute(age, "unit")
    yield "患者类型", attribute(at(role, "patientType", "patienttypeCode"), "displayName")
    for kind, name in _NUMBERS.items():
        yield name, "、".join(number for _, number in header.numbers.get(kind, ()))
    yield "报告医师", _signed(header.author)
    yield "审核", _signed(header.legal)
    yield "签署", "、".join(text for one in header.signed if (text := _signed(one)))
    yield "文档时间", time_text(header.time)
    yield "文档编号", header.id.extension or header.id.root
    yield "版本", str(header.version)
    replaced = [one.id.extension or one.id.root for one in header.related]
    yield "替代或补充的文档", "、".join(replaced)


def _signed(one: Signed) -> str:
    role = f"（{one.role}）" if one.role else ""
    return f"{one.name}{role} {time_text(one.time)}".strip()


# -- the body --------------------------------------------------------------------------------------


def _section(section: Node, tables: Tables, pictures: dict[str, str]) -> str:
    code = at(section, "code")
    title = text_of(at(section, "title")) or tables.sections.get(attribute(code, "code"), "")
    title = title or attribute(code, "displayName")
    text = at(section, "text")
    shown = ""
    if text is not None and ("".join(text.itertext()).strip() or len(text)):
        shown = f'<div class="wide">{narrative_html(text, pictures)}</div>'
    else:
        shown = entries_html(section, tables)
    if not shown and at(section, "component") is not None:
        return f"<h2>{escape(title)}</h2>" if title else ""
    heading = f"<h2>{escape(title or '—')}</h2>"
    return f"<section>{heading}{shown or '<p>—</p>'}</section>"
