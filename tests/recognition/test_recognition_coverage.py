"""The cases reach every line and branch of the pure engine, without the help of any other test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

#: What decides: a branch that no case reaches is a rule that nobody has tried.
PURE = (
    "criteria", "criteria_first", "criteria_imaging", "criteria_later", "criteria_mark", "decide",
    "findings", "judge", "model", "newest", "parameters", "situation", "texts_lines",
    "values",
)  # fmt: skip


def test_the_cases_alone_reach_every_branch_of_what_decides() -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("cover_cases.py")), *PURE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {}
