"""`make demo` tells its whole story and ends by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_the_demonstration_ends_with_its_figures() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "demo.run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["demo"] == "ok"
    assert figures["decisions"] == 8  # four patients, each asked by the hook and by $recognize
    # none for the third patient: a record of another name is another person's, who consented to
    # nothing, and what may not be seen raises no doubt
    assert figures["cards"] == 10
    for outcome in ("recognize", "view-only", "not-recognizable", "cannot-decide"):
        assert f": {outcome}\n" in done.stdout
