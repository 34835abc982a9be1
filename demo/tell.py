"""What the demonstration prints: short lines that a person can follow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_SIGN = {"recognize": "●", "view-only": "◐", "not-recognizable": "○", "cannot-decide": "?"}


def say(text: str = "") -> None:
    """One line."""
    print(text, flush=True)


def chapter(title: str) -> None:
    """A heading."""
    say(f"\n── {title} " + "─" * max(2, 76 - len(title)))


def said(text: str) -> None:
    """One indented line."""
    say(f"   {text}")


def institutions(rows: Iterable[dict[str, str]]) -> None:
    """Who takes part."""
    for row in rows:
        said(f"{row['id']:<15} {row['name']}  {row['level']}  area {row['area']}")


def tokens(by_institution: dict[str, str]) -> None:
    """Credentials of a new served city: shown once, the store keeps only their hashes."""
    chapter("Tokens, shown once")
    for institution, token in by_institution.items():
        said(f"{institution:<15} {token}")


def serving(url: str, database: Path) -> None:
    """Where the served city answers."""
    chapter("Serving")
    said(f"{url}/fhir  {url}/cds-services  {url}/hl7v2   (Ctrl-C stops)")
    said(f"data: {database}; delete the file to begin anew")


def message(name: str, institution: str, charset: str, size: int, answer: bytes) -> None:
    """A v2 message and its acknowledgement."""
    acknowledged = next(
        (line for line in answer.decode("utf-8", "replace").split("\r") if line.startswith("MSA")),
        answer.decode("utf-8", "replace"),
    )
    said(f"{institution:<15} HL7 v2  {charset:<8} {size:>5} bytes  {acknowledged}  ({name})")


def bundle(name: str, institution: str, size: int, entries: int) -> None:
    """A FHIR transaction."""
    said(f"{institution:<15} FHIR    UTF-8    {size:>5} bytes  {entries} entries stored  ({name})")


def files(what: str, institution: str, summary: str) -> None:
    """Files taken in by the command line."""
    said(f"{institution:<15} files   {what}")
    for line in summary.strip().splitlines():
        said(f"{'':<15}   {line}")


def orders(lines: Sequence[tuple[str, str, str]], cards: list[dict[str, Any]]) -> None:
    """What was ordered and how many reminders came."""
    said("ordered: " + ", ".join(f"{name} ({code})" for _, code, name in lines))
    said(f"order-sign: {len(cards)} card(s)")
    for card in cards:
        said(f"  ▸ {card['summary']}")


def parts(parameter: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The parts of a Parameters part by name."""
    return [part for part in parameter.get("part", []) if part["name"] == name]


def value(parameter: dict[str, Any], name: str) -> Any:
    """The value of the first part of this name, "" when there is none."""
    for part in parts(parameter, name):
        return next((part[key] for key in part if key.startswith("value")), "")
    return ""


def answers(parameters: dict[str, Any]) -> None:
    """Every item with its outcome, what was found where, and the rules that decided."""
    for item in parameters["parameter"]:
        if item["name"] == "item":
            _item(item)
    sources = [item for item in parameters["parameter"] if item["name"] == "source"]
    named = ", ".join(
        value(one, "institution")["display"] + (" (stale)" if value(one, "stale") else "")
        for one in sources
    )
    said(f"sources asked: {named}")


def _item(item: dict[str, Any]) -> None:
    outcome = value(item, "outcome")
    coding = value(item, "item") or {"code": "–", "display": value(item, "key")}
    said(f"{_SIGN[outcome]} {coding['code']} {coding.get('display', '')}: {outcome}")
    said(f"    {value(item, 'text')}")
    for found in parts(item, "result"):
        said(f"    found: {_result(found)}")
    for newer in parts(item, "newer"):
        pending = "pending" if value(newer, "pending") else "newer"
        said(f"    {pending}: {_result(newer)}")
    for line in parts(item, "line"):
        if value(line, "verdict") in ("fail", "unknown"):
            said(
                f"    rule {value(line, 'rule')}: {value(line, 'verdict')} "
                f"[{value(line, 'clause')}]"
            )


def _result(part: dict[str, Any]) -> str:
    issuer = value(part, "issuer") or {}
    return "  ".join(
        str(word)
        for word in (
            value(part, "value"),
            value(part, "time"),
            issuer.get("display") or issuer.get("reference", ""),
            value(part, "status"),
        )
        if word
    )


def feedback(first: dict[str, Any], second: dict[str, Any]) -> None:
    """What the doctor did with two reminders."""
    said(f"accepted:  {first['summary']}")
    reason = second["overrideReasons"][0]
    said(f"repeated:  {second['summary']}")
    said(f"           ground {reason['code']} {reason['display']}")


def trail(lines: list[dict[str, Any]]) -> None:
    """The ledger of a person, newest last, then counts."""
    for line in lines[-12:]:
        said(
            f"{line['recorded']}  {line['operation'] or line['kind']:<14} {line['recipient']:<15}"
            f"{line['basis'] or '-':<22} {line['said'][:60]}"
        )
    counts = Counter(line["operation"] or line["kind"] for line in lines)
    said(", ".join(f"{code} {count}" for code, count in counts.most_common()))
