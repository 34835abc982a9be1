"""A small audit log on each driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_logs import SmallLog
from databases import Databases


@pytest.fixture
def small(database: Databases, tmp_path: Path) -> Iterator[SmallLog]:
    one = SmallLog(database.url(), tmp_path / "log.key")
    yield one
    one.close()
