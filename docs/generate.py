"""Writes the pages that follow from code and tables: settings.md, errors.md, rights.md. `--check`
only compares."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from fhir_gateway import errors
from fhir_gateway.security.rights import rights_of
from fhir_gateway.security.rights_file import ROLES
from fhir_gateway.settings import Settings

HERE = Path(__file__).resolve().parent
NOTE = "<!-- Written by `make docs`; edit the code it names instead. -->\n"


def settings_page() -> str:
    """docs/settings.md from the Settings table."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    root = str(HERE.parent)
    for item in fields(Settings):
        default = str(item.default).replace(root + "/", "") or "(empty)"
        rows.append(
            f"| `FHIR_GATEWAY_{item.name.upper()}` | `{default}` | {item.metadata['help']} |"
        )
    return (
        f"# Settings\n\n{NOTE}\nEvery default works. A variable that is not in this table stops "
        "the start, so that a misspelt setting never becomes a weaker default. Options of the "
        "command line win over variables. A name with `_FILE` behind it, such as "
        "`FHIR_GATEWAY_DATABASE_FILE`, gives a file that holds the value: for secrets. Source: "
        "`fhir_gateway/settings.py`.\n\n" + "\n".join(rows) + "\n"
    )


def errors_page() -> str:
    """docs/errors.md from the tree of error classes."""
    rows = [
        "| class | issue code | HTTP | v2 ack | v2 condition | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind in errors.GatewayError.__subclasses__():
        meaning = (kind.__doc__ or "").split("\n")[0]
        rows.append(
            f"| `{kind.__name__}` | `{kind.code}` | {kind.status} | {kind.acknowledgement} "
            f"| {kind.condition} | {meaning} |"
        )
    return (
        f"# Errors\n\n{NOTE}\nEvery refusal is an OperationOutcome over HTTP and an MSA/ERR over "
        "HL7 v2: one tree, one renderer per door. `expression` names the element, `details.text` "
        "the rule, `diagnostics` says what to do. An unexpected fault answers 500 with the "
        "request id and nothing else. Source: `fhir_gateway/errors.py`.\n\n"
        + "\n".join(rows)
        + "\n"
    )


def rights_page() -> str:
    """docs/rights.md from the table of rights."""
    files = rights_of(str(HERE.parent / "profiles")).files
    roles = [role for role in ROLES if role != "system"]
    rows = [
        f"| what | how | {' | '.join(roles)} | why |",
        f"| --- | --- |{' --- |' * len(roles)} --- |",
    ]
    for line in files.lines:
        reaches = " | ".join("–" if line[role] == "none" else line[role] for role in roles)
        rows.append(f"| {line['what']} | {line['interaction']} | {reaches} | {line['reason']} |")
    groups = ["| group | what it is | types |", "| --- | --- | --- |"]
    for group, says in files.says.items():
        types = ", ".join(sorted(type for type, of in files.groups.items() if of == group))
        groups.append(f"| {group} | {says} | {types} |")
    text = (HERE / "rights-intro.md").read_text(encoding="utf-8")
    return text.replace("{NOTE}", NOTE).replace("{RIGHTS}", "\n".join(rows)).replace(
        "{GROUPS}", "\n".join(groups)
    )  # fmt: skip


PAGES = {"settings.md": settings_page, "errors.md": errors_page, "rights.md": rights_page}


def main(arguments: list[str]) -> int:
    """Writes the pages, or with --check returns 1 when one is out of date."""
    stale = []
    for name, page in PAGES.items():
        path, text = HERE / name, page()
        if "--check" not in arguments:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
    for name in stale:
        sys.stderr.write(f"docs/{name} is out of date: run make docs\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
