"""A site whose folder of mappings has no cda."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_site_without_tables_for_documents_starts_and_says_that_it_takes_none(start, tmp_path):
    mappings = tmp_path / "mappings"
    shutil.copytree(ROOT / "mappings", mappings, ignore=shutil.ignore_patterns("cda"))
    running = start(mappings=str(mappings), open_access=True)
    for path in ("/cda", "/cda/soap"):
        answer = running.request(
            "POST", path, content=b"<a/>", headers={"Content-Type": "text/xml"}
        )
        assert answer.status_code == 400
        assert "takes in no CDA documents" in answer.text
