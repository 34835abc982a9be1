"""The city of tests/recognition_flow, called through the door of CDS Hooks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "recognition_flow"))

from city import City
from databases import Databases
from running import Running

#: A deadline that no test reaches by being slow; those about deadlines set their own.
UNHURRIED = 60_000


@pytest.fixture(scope="module")
def city(shared_database: Databases) -> Iterator[City]:
    """A gateway with authentication, two institutions and the rules in force."""
    one = Running(shared_database.url("city"), hook_deadline_ms=UNHURRIED)
    yield City(one)
    one.close()
