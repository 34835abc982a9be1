"""The ledger of disclosures: to whom data of which person were passed on, when, why, and what.

网络数据安全管理条例 (records of provision, at least three years); Personal Information Protection
Law, article 23. One line for each act and person, of the journal itself; an export has a line for
each person in its files. As CSV for people, cells that a spreadsheet takes for formulas made
harmless, or as NDJSON for systems.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from msgspec.json import encode

from fhir_gateway.accountability.cells import cell
from fhir_gateway.accountability.journal import Recorded
from fhir_gateway.accountability.pages import pages_between
from fhir_gateway.accountability.words import act_words, is_emergency, purpose_words
from fhir_gateway.audit.events_parts import PERSONS_NAMED
from fhir_gateway.audit.events_read import Act
from fhir_gateway.context import Gateway
from fhir_gateway.interactions.audit import owner_of
from fhir_gateway.security.policy import Policy

Form = Literal["csv", "ndjson"]
Charset = Literal["utf-8", "gb18030"]


class Disclosure(NamedTuple):
    """One line of the ledger."""

    recorded: str
    patient: str
    kind: str
    act_zh: str
    act_en: str
    operation: str
    recipient: str
    recipient_name: str
    who: str
    client: str
    token: str
    address: str
    purpose: str
    purpose_zh: str
    purpose_en: str
    basis: str
    break_glass: str
    types: str
    query: str
    export: str
    said: str
    event: str
    request: str


#: What the columns are called in a table for people.
HEADERS = (
    "时间 recorded", "患者 patient", "类别 kind", "行为 act", "act (en)", "操作 operation",
    "接收机构 recipient", "机构名称 recipient name", "人员 who", "客户端 client", "凭据 token",
    "地址 address", "目的代码 purpose", "目的 purpose (zh)", "purpose (en)", "法律依据 legal basis",
    "紧急访问 break-glass", "资源 types", "查询 query", "导出 export", "结果 said",
    "审计事件 event", "请求 request",
)  # fmt: skip


async def disclosures(
    gateway: Gateway, start: int, end: int, *, institution: str = ""
) -> AsyncIterator[list[Disclosure]]:
    """The lines of a time, page by page, oldest first; of one recipient where it is named."""
    owner = owner_of(institution) if institution else 0
    async for page in pages_between(gateway, start, end):
        found: list[Disclosure] = []
        for row in page:
            if not owner or row.owner == owner:
                found += lines_of(gateway.policy, row)
        yield found


def lines_of(policy: Policy, row: Recorded) -> Iterator[Disclosure]:
    """The lines of one record: one for each person that it names; none when it told nobody."""
    act = row.act
    if not act.discloses or (act.kind == "decision" and not _names_results(act)):
        return
    line = _line(policy, act)
    named = dict(act.details).get(PERSONS_NAMED, "").split()
    people = [one.partition("/")[2] for one in act.patients] or named
    if not people and act.kind != "disclosure":
        return
    for patient in people or [""]:
        yield line._replace(patient=patient)


def _names_results(act: Act) -> bool:
    return any(not one.startswith("GuidanceResponse/") for one in act.resources)


def _line(policy: Policy, act: Act) -> Disclosure:
    words, why = act_words(act), purpose_words(policy, act)
    types = " ".join(f"{type}:{count}" for type, count in act.types().items())
    return Disclosure(
        recorded=act.recorded,
        patient="",
        kind=act.kind,
        act_zh=words.zh,
        act_en=words.en,
        operation=act.name,
        recipient=act.institution,
        recipient_name=act.institution_name,
        who=act.who,
        client=act.client,
        token=act.token,
        address=act.address,
        purpose=act.purpose,
        purpose_zh=why.zh,
        purpose_en=why.en,
        basis=act.basis,
        break_glass="1" if is_emergency(act) else "",
        types=types or dict(act.details).get("types", ""),
        query=act.query,
        export=act.file,
        said=act.said,
        event=act.id,
        request=act.request,
    )


def header(form: Form, charset: Charset) -> bytes:
    """What stands before the first line: names of the columns, and the mark of the encoding."""
    if form == "ndjson":
        return b""
    return _row(HEADERS, charset, first=True)


def written(lines: Sequence[Disclosure], form: Form, charset: Charset) -> bytes:
    """Lines as bytes of the file."""
    if form == "ndjson":
        return b"".join(encode(_plain(line)) + b"\n" for line in lines)
    return b"".join(_row(line, charset) for line in lines)


def _plain(line: Disclosure) -> dict[str, Any]:
    return {name: value for name, value in line._asdict().items() if value}


def _row(cells: Sequence[str], charset: Charset, *, first: bool = False) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([cell(text) for text in cells])
    whole = text.getvalue()
    if charset == "gb18030":
        return whole.encode("gb18030")
    return (b"\xef\xbb\xbf" if first else b"") + whole.encode("utf-8")
