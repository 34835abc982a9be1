"""The table of retention, read and checked: how long which class of things is kept, and why.

One TOML file that a data protection officer keeps, profiles/access/retention.toml. What the law
asks for at the least stands in the program: a table that says less is refused, whole.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fhir_gateway.errors import Invalid, Issue
from fhir_gateway.store.purge_sql import LEAST_AUDIT_DAYS, LEAST_RECEIVED_DAYS

ACTIONS = ("purge", "automatic", "keep", "outside")

#: What can be removed by command, and the fewest days of each class that has some.
PURGED = ("audit", "received")
LEAST: Mapping[str, int] = {
    "audit": LEAST_AUDIT_DAYS, "received": LEAST_RECEIVED_DAYS, "decisions": 5_479,
    "records": 10_958, "logs": 184,
}  # fmt: skip

_SHIPPED = Path(__file__).resolve().parents[2] / "profiles" / "access" / "retention.toml"
_TEXTS = ("name_zh", "name_en", "action", "basis_zh", "basis_en")


class Kept(NamedTuple):
    """One class: how long it is kept, and what becomes of it then. `setting` names the setting
    that says how long, where one does; `media` are media types of received bytes."""

    name: str
    name_zh: str
    name_en: str
    action: str
    days: int | None
    setting: str
    media: tuple[str, ...]
    basis_zh: str
    basis_en: str


class Retention(NamedTuple):
    """The whole table."""

    version: str
    classes: Mapping[str, Kept]


def shipped() -> Path:
    """The table that is shipped with the project."""
    return _SHIPPED


def load_retention(path: Path) -> Retention:
    """The table in a file. Raises Invalid with every fault of it."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Invalid(f"{path.name} cannot be read: {error}", rule="retention-file") from None
    issues: list[str] = []
    tables = document.get("classes", {})
    if not isinstance(tables, dict):
        raise Invalid(f"{path.name}: classes must be tables", rule="retention-file")
    known = {name: _class(name, table, issues) for name, table in tables.items()}
    issues += [f"{name}: this class must be in the table" for name in PURGED if name not in known]
    if issues:
        raise Invalid(issues=tuple(
            Issue("invalid", f"{path.name}: {text}", None, "retention-file") for text in issues
        ))  # fmt: skip
    return Retention(str(document.get("version", "")), known)


def _class(name: str, table: Any, issues: list[str]) -> Kept:
    row: dict[str, Any] = table if isinstance(table, dict) else {}
    texts = {column: row.get(column, "") for column in _TEXTS}
    issues += [
        f"{name}: {column} must be a text" for column, text in texts.items()
        if not isinstance(text, str) or not text
    ]  # fmt: skip
    action, days = texts["action"], row.get("days")
    if action not in ACTIONS:
        issues.append(f"{name}: action is one of {', '.join(ACTIONS)}")
    if action == "purge" and name not in PURGED:
        issues.append(f"{name}: only {', '.join(PURGED)} can be removed by command")
    if days is not None and (not isinstance(days, int) or isinstance(days, bool) or days < 0):
        issues.append(f"{name}: days must be a whole number")
        days = None
    if days is None and "setting" not in row:
        issues.append(f"{name}: days or setting must say how long it is kept")
    least = LEAST.get(name, 0)
    if days is not None and days < least:
        issues.append(f"{name}: {days} days are fewer than the {least} that the law asks for")
    media = row.get("media", [])
    return Kept(
        name, texts["name_zh"], texts["name_en"], action, days, str(row.get("setting", "")),
        tuple(map(str, media)) if isinstance(media, list) else (), texts["basis_zh"],
        texts["basis_en"],
    )  # fmt: skip
