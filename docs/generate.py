"""Writes the pages that follow from the code: settings.md, errors.md. `--check` only compares."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

from fhir_gateway import errors
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
        "`fhir_gateway/settings.py`.\n\n"
        + "\n".join(rows)
        + "\n"
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


PAGES = {"settings.md": settings_page, "errors.md": errors_page}


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
