"""The packet of an incident: who, what, how many persons, since when, with the records themselves.

国家网络安全事件报告管理办法 gives hours, so one command gathers all that the audit log knows of a
client, a user, a token, an institution, an address or a resource into one folder, with digests of
every file and, where the log is signed, its head and a proof for each record.
docs/accountability.md
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple

from msgspec.json import encode

from fhir_gateway.accountability.cells import cell
from fhir_gateway.accountability.journal import Recorded
from fhir_gateway.accountability.pages import pages_between
from fhir_gateway.accountability.words import act_words, is_emergency
from fhir_gateway.audit.events_parts import PERSONS_NAMED
from fhir_gateway.audit.events_read import Act
from fhir_gateway.context import Gateway
from fhir_gateway.fhir.wire import instant
from fhir_gateway.interactions.audit import owner_of

#: Makes a proof for each record, by its AuditEvent's id; what the transparency room hands in.
Prover = Callable[[Sequence[str]], Awaitable[Mapping[str, Any]]]

#: Asked for: where it stands in an act.
SIGNS = ("client", "user", "institution", "token", "address", "resource")


class Asked(NamedTuple):
    """What it is about: a time (µs), and signs that a record must bear, each "" for any."""

    start: int
    end: int
    client: str = ""
    user: str = ""
    institution: str = ""
    token: str = ""
    address: str = ""
    resource: str = ""

    def needles(self) -> list[bytes]:
        """What the bytes of a record must hold: most records need not be read for it."""
        resource = self.resource.removeprefix("Patient/")  # an export names persons by id alone
        signs = (self.client, self.user, self.token, self.address, resource)
        return [encode(sign)[1:-1] for sign in signs if sign]

    def takes(self, row: Recorded, act: Act) -> bool:
        """Whether a record bears every sign."""
        return (
            self.client in ("", act.client)
            and self.user in ("", act.who)
            and self.token in ("", act.token)
            and self.address in ("", act.address)
            and (not self.institution or row.owner == owner_of(self.institution))
            and (not self.resource or self._names(act))
        )

    def _names(self, act: Act) -> bool:
        """Whether a record names the resource, in any version, or an export the Patient."""
        resource = self.resource
        if any(
            one == resource or one.startswith(f"{resource}/_history/")
            for one in (*act.resources, *act.patients)
        ):
            return True
        ledger = dict(act.details).get(PERSONS_NAMED, "").split()
        return resource.startswith("Patient/") and resource.removeprefix("Patient/") in ledger


@dataclass(slots=True)
class Tally:
    """What the records of an incident say together."""

    records: int = 0
    first: str = ""
    last: str = ""
    emergencies: int = 0
    refused: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    words: dict[str, tuple[str, str]] = field(default_factory=dict)
    who: Counter[str] = field(default_factory=Counter)
    clients: Counter[str] = field(default_factory=Counter)
    institutions: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    addresses: Counter[str] = field(default_factory=Counter)
    purposes: Counter[str] = field(default_factory=Counter)
    persons: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, act: Act) -> None:
        """Counts one act."""
        self.records += 1
        self.first = min(self.first or act.recorded, act.recorded)
        self.last = max(self.last, act.recorded)
        self.emergencies += is_emergency(act)
        self.refused += act.outcome != "0"
        words = act_words(act)
        self.kinds[act.kind] += 1
        self.words[act.kind] = (words.zh, words.en)
        counted = (
            (self.who, act.who), (self.clients, act.client), (self.tokens, act.token),
            (self.institutions, act.institution), (self.addresses, act.address),
            (self.purposes, act.purpose),
        )  # fmt: skip
        for counter, value in counted:
            if value:
                counter[value] += 1
        if act.outcome == "0":
            self._name(act)

    def _name(self, act: Act) -> None:
        named = [one.partition("/")[2] for one in act.patients]
        named += dict(act.details).get(PERSONS_NAMED, "").split()
        for patient in dict.fromkeys(named):
            seen = self.persons.setdefault(patient, [0, act.recorded, act.recorded])
            seen[0] += 1
            seen[2] = act.recorded


class Packet(NamedTuple):
    """A packet: its files by name, and what they say together."""

    files: dict[str, bytes]
    tally: Tally


async def packet(
    gateway: Gateway,
    asked: Asked,
    *,
    prover: Prover | None = None,
    head: bytes = b"",
    progress: Callable[[int], None] = lambda read: None,
) -> Packet:
    """Gathers the records of an incident. `head` is the signed head that the proofs lead to."""
    tally, events, acts, ids = Tally(), io.BytesIO(), io.StringIO(), list[str]()
    table = csv.writer(acts, lineterminator="\r\n")
    table.writerow(_COLUMNS)
    read = 0
    needles = asked.needles()
    async for page in pages_between(gateway, asked.start, asked.end, needles=needles):
        for row in page:
            act = row.act
            if asked.takes(row, act):
                tally.add(act)
                ids.append(act.id)
                events.write(row.whole + b"\n")
                table.writerow([cell(text) for text in _cells(act)])
        read += len(page)
        progress(read)
    files = {
        "summary.md": _summary(gateway, asked, tally).encode(),
        "events.ndjson": events.getvalue(),
        "acts.csv": b"\xef\xbb\xbf" + acts.getvalue().encode(),
        "persons.csv": _persons(tally),
    }
    if prover is not None:
        proofs = await prover(ids)
        files["head.txt"] = head
        files["proofs.ndjson"] = b"".join(
            encode({"event": id, **proof}) + b"\n" for id, proof in proofs.items()
        )
    files["SHA256SUMS"] = "".join(
        f"{sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())
    ).encode()
    return Packet(files, tally)


_COLUMNS = (
    "recorded", "kind", "operation", "outcome", "who", "institution", "client", "token",
    "address", "purpose", "basis", "patients", "resources", "query", "file", "said", "request",
    "event",
)  # fmt: skip


def _cells(act: Act) -> list[str]:
    return [
        act.recorded, act.kind, act.name, act.outcome, act.who, act.institution, act.client,
        act.token, act.address, act.purpose, act.basis, " ".join(act.patients),
        " ".join(act.resources), act.query, act.file, act.said, act.request, act.id,
    ]  # fmt: skip


def _persons(tally: Tally) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")
    table.writerow(("patient", "acts", "first", "last"))
    for patient, (count, first, last) in sorted(tally.persons.items()):
        table.writerow((cell(patient), count, first, last))
    return b"\xef\xbb\xbf" + text.getvalue().encode()


def _summary(gateway: Gateway, asked: Asked, tally: Tally) -> str:
    signs = {name: getattr(asked, name) for name in SIGNS if getattr(asked, name)}
    said = ", ".join(f"{name} {value}" for name, value in signs.items()) or "-"
    until = instant(min(asked.end, gateway.clock.now()))
    lines = [
        "# 安全事件材料 / Incident packet",
        "",
        f"- 生成时间 / made: {instant(gateway.clock.now())}",
        f"- 时间范围 / time: {instant(asked.start)} – {until}",
        f"- 查询条件 / signs: {said}",
        f"- 记录数 / records: {tally.records}",
        f"- 首次、末次 / first, last: {tally.first or '-'}, {tally.last or '-'}",
        f"- 涉及人数 / persons: {len(tally.persons)}",
        f"- 紧急访问 / emergency accesses: {tally.emergencies}",
        f"- 被拒绝或失败 / refused or failed: {tally.refused}",
        "",
        "## 行为 / Acts",
        "",
    ]
    lines += [
        f"- {tally.words[kind][0]} / {tally.words[kind][1]}: {count}"
        for kind, count in tally.kinds.most_common()
    ]
    for title, counter in (
        ("人员 / Who", tally.who), ("客户端 / Clients", tally.clients),
        ("机构 / Institutions", tally.institutions), ("凭据 / Tokens", tally.tokens),
        ("地址 / Addresses", tally.addresses), ("目的 / Purposes", tally.purposes),
    ):  # fmt: skip
        lines += ["", f"## {title}", ""]
        lines += [f"- {_inline(value)}: {count}" for value, count in counter.most_common(50)]
    lines += [
        "",
        "人数按患者记录计算, 同一人可有多个记录。 / Persons are counted by record of a patient; "
        "one person may have several.",
        "",
    ]
    return "\n".join(lines)


def _inline(text: str) -> str:
    """A value in a line of the summary: it ends no line and makes no mark-up."""
    return "".join(one if one.isprintable() and one not in "<>`[]*_" else " " for one in text)
