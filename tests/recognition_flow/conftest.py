"""A city for the tests of asking and answering, shared by a module's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from city import City
from running import Running


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    """A gateway with authentication, two institutions and the rules in force."""
    one = Running(tmp_path_factory.mktemp("city") / "gateway.sqlite")
    yield City(one)
    one.close()
