"""A city for the tests of asking and answering, shared by a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from city import City
from databases import Databases
from running import Running


@pytest.fixture(scope="module")
def city(shared_database: Databases) -> Iterator[City]:
    """A gateway with authentication, two institutions and the rules in force."""
    one = Running(shared_database.url("city"))
    yield City(one)
    one.close()
