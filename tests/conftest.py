"""Fixtures for tests that need a running gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from effort import TORTURE
from hypothesis import settings as hypothesis_settings
from running import Running

hypothesis_settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis_settings.register_profile("torture", deadline=None, max_examples=5_000, print_blob=True)
hypothesis_settings.load_profile("torture" if TORTURE else "ci")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts gateways with chosen settings; each keeps its database in a folder of the test."""
    running: list[Running] = []

    def start_one(*, name: str = "gateway", **chosen: Any) -> Running:
        one = Running(tmp_path / f"{name}.sqlite", **chosen)
        running.append(one)
        return one

    yield start_one
    for one in running:
        one.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway with open access, shared by the tests of a module."""
    one = Running(tmp_path_factory.mktemp("store") / "gateway.sqlite", open_access=True)
    yield one
    one.close()


@pytest.fixture
def gateway(client: Running) -> Any:
    """The Gateway behind `client`, for interactions without HTTP."""
    return client.gateway
