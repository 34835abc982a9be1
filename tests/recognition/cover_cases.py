"""Decides every case of tests/cases/recognition and says what came of it, measured for branches.

Run as `python tests/recognition/cover_cases.py MODULE …`: prints, as JSON, what no case reaches in
these modules of recognition. The cases alone hold the pure engine: no other test is counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import coverage

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "fhir_gateway" / "recognition"


def decide_all() -> None:
    """Every case, and every sentence of its answer in both languages."""
    import recognition_cases as table

    from fhir_gateway.recognition.decide import decide
    from fhir_gateway.recognition.texts import outcome_sentence, sentence

    for case in table.cases():
        asked = table.query(case.get("ordered", {}), **case.get("query", {}))
        decision = decide(asked, table.found_of(case), table.rules_of(case), table.CATALOGUE)
        (item,) = decision.items
        for language in ("zh", "en"):
            outcome_sentence(item, language)  # type: ignore[arg-type]
            for line in (*item.lines, *(other.line for other in item.others)):
                sentence(line, language)  # type: ignore[arg-type]


def main(modules: list[str]) -> None:
    """Prints {module: {"lines": […], "branches": […]}} for those that are not reached whole."""
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(PACKAGE / f"{module}.py") for module in modules]
        measured = coverage.Coverage(
            data_file=f"{folder}/data", branch=True, include=paths, config_file=False
        )
        measured.start()
        decide_all()
        measured.stop()
        report = f"{folder}/report.json"
        measured.json_report(outfile=report)
        files = json.loads(Path(report).read_text(encoding="utf-8"))["files"]
    seen = {Path(path).stem: file for path, file in files.items()}
    missing = {}
    for module in modules:
        file = seen.get(module, {"missing_lines": ["all"], "missing_branches": []})
        if file["missing_lines"] or file["missing_branches"]:
            missing[module] = [*file["missing_lines"], *file["missing_branches"]]
    print(json.dumps(missing))


if __name__ == "__main__":
    main(sys.argv[1:])
