"""The city of tests/recognition_flow, called through the door of CDS Hooks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "recognition_flow"))

from city import City
from running import Running


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A gateway with authentication, two institutions and the rules in force."""
    one = Running(tmp_path_factory.mktemp("city") / "gateway.sqlite")
    yield City(one)
    one.close()
