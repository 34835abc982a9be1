"""The report of `tabular load`: on the terminal, as JSON, or as CSV that a hospital can open.

It names lines, columns, rules and codes; never what stands in a row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fhir_gateway.accountability.cells import cell
from fhir_gateway.interactions.intake_tabular_load import Loaded

#: Refusals and codes that the terminal shows.
MOST = 20

_HEADER = ("file", "what", "place", "rule", "text", "count")
_COUNTS = ("rows", "groups", "stored", "unchanged", "refused")


def report_of(name: str, loaded: Loaded) -> dict[str, Any]:
    """All of a load as JSON values."""
    figures = loaded.figures
    return {
        "file": name,
        "sha256": loaded.survey.digest.hex(),
        "dryRun": loaded.load is None,
        "before": loaded.whole,
        **{count: getattr(figures, count) for count in _COUNTS},
        "filteredRows": loaded.survey.filtered,
        "behindWatermark": loaded.survey.passed,
        "resources": dict(sorted(figures.resources.items())),
        "unmapped": [
            dict(zip(("code", "name"), key.split("\t"), strict=True), count=count)
            for key, count in sorted(figures.unmapped.items(), key=lambda pair: -pair[1])
        ],
        "refusals": [_said(one) for one in figures.refusals],
        "warnings": [_said(one) for one in figures.warnings],
        "watermark": loaded.load.watermark if loaded.load else "",
    }


def _said(one: Any) -> dict[str, str]:
    return {"place": one.place, "rule": one.rule, "reason": one.reason}


def write_report(path: Path, found: Sequence[tuple[str, Loaded]]) -> None:
    """Writes the report of several files; as CSV when the name says so, else as JSON."""
    reports = [report_of(name, loaded) for name, loaded in found]
    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(_HEADER)
        for one in reports:
            writer.writerows([cell(str(part)) for part in row] for row in _rows(one))
        # spreadsheets know UTF-8 by its mark
        path.write_text(text.getvalue(), encoding="utf-8-sig", newline="")
    else:
        body = json.dumps({"files": reports}, ensure_ascii=False, indent=2)
        path.write_text(body + "\n", encoding="utf-8")


def _rows(one: dict[str, Any]) -> list[tuple[object, ...]]:
    file = one["file"]
    rows: list[tuple[object, ...]] = [
        (file, "count", "", "", count, one[count])
        for count in (*_COUNTS, "filteredRows", "behindWatermark")
    ]
    rows += [(file, "resources", "", "", name, n) for name, n in one["resources"].items()]
    rows += [(file, "unmapped", "", "", f"{code['code']} {code['name']}".strip(), code["count"])
             for code in one["unmapped"]]  # fmt: skip
    for what, name in (("refused", "refusals"), ("warning", "warnings")):
        rows += [(file, what, item["place"], item["rule"], item["reason"], "")
                 for item in one[name]]  # fmt: skip
    return rows


def lines(name: str, loaded: Loaded) -> list[str]:
    """The summary of a file, a line each."""
    figures, survey = loaded.figures, loaded.survey
    found = [f"{name}: " + ", ".join(f"{getattr(figures, one)} {one}" for one in _COUNTS)]
    if loaded.load is None:
        found.append("  dry run: nothing was stored; a group stands for itself here")
    elif loaded.whole:
        found.append("  this file was taken in before: nothing was done (--again reads it anew)")
    elif loaded.pieces:
        found.append(f"  went on after {loaded.pieces} pieces that were done before")
    if survey.filtered or survey.passed:
        found.append(f"  {survey.filtered} rows passed over by filters, "
                     f"{survey.passed} groups behind the watermark")  # fmt: skip
    found += [f"  {count:>8}  {what}" for what, count in sorted(figures.resources.items())]
    found += _several(
        [f"code without map: {key.replace(chr(9), ' ')} ({count})"
         for key, count in sorted(figures.unmapped.items(), key=lambda pair: -pair[1])]
    )  # fmt: skip
    found += _several([f"refused: {one.place}: {_short(one)}" for one in figures.refusals])
    if loaded.load is not None and loaded.load.watermark:
        found.append(f"  the next load begins at {loaded.load.watermark.lstrip('0')}")
    return found


def _short(one: Any) -> str:
    return f"{one.reason.removeprefix(one.place + ': ')} [{one.rule}]"


def _several(texts: Sequence[str]) -> list[str]:
    more = len(texts) - MOST
    shown = [f"  {text}" for text in texts[:MOST]]
    return [*shown, f"  … and {more} more; --report lists them"] if more > 0 else shown
