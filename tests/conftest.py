"""Fixtures for tests that need a database or a running gateway, each on both drivers."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import canaries
import pytest
import sown
from databases import Databases, drivers_of, need_postgres, stop_postgres
from effort import TORTURE
from hypothesis import settings as hypothesis_settings
from running import Running

from fhir_gateway.security import policy

hypothesis_settings.register_profile("ci", derandomize=True, deadline=None)
hypothesis_settings.register_profile("torture", deadline=None, max_examples=5_000, print_blob=True)
hypothesis_settings.load_profile("torture" if TORTURE else "ci")

# The policy of most tests asks for nothing; tests of consent name the shipped one themselves.
OPEN_POLICY = Path(__file__).parent / "policies" / "open.toml"
policy.default_path = lambda: OPEN_POLICY
os.environ["FHIR_GATEWAY_POLICY"] = str(OPEN_POLICY)  # for processes that tests start


def pytest_configure() -> None:
    """Every record of a log is looked through for what names a person (tests/canaries.py), and
    the shipped tables are read once (tests/sown.py)."""
    canaries.listen()
    sown.read_once()


@pytest.fixture(autouse=True)
def no_canary_in_a_log() -> Iterator[None]:
    """Fails the test in which something wrote down what names a person."""
    yield
    leaks = canaries.taken()
    assert leaks == []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that needs a database runs once for each driver, or for those of its marker."""
    if "driver" in metafunc.fixturenames:
        metafunc.parametrize("driver", drivers_of(metafunc), indirect=True, scope="module")


#: Files that take longest: begun first, so that none of them is left for one process at the end.
_LONG = (
    "test_demo.py", "test_rest_all_types.py", "test_twins_worlds.py", "test_rest_races.py",
    "test_recognition_flow_rules.py", "test_lists_commands.py", "test_store_copying.py",
    "test_rest_serve.py", "test_interactions_remap_crash.py", "test_recognition_flow_replay_run.py",
    "test_interactions_local_codes_command.py", "test_interactions_remap_jobs.py",
    "test_rest_export_served.py", "test_cda_load.py", "test_intake_load.py",
    "test_intake_load_lines.py", "test_rest_crash.py", "test_hl7v2_mllp_crash.py",
    "test_identity_pairs.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the others stay in their order."""
    items.sort(key=lambda item: item.path.name not in _LONG)


def pytest_collection_finish() -> None:
    """The tests themselves stay to the end: the garbage collector need not look at them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_sessionfinish() -> None:
    """No server outlives the tests, and no file."""
    stop_postgres()
    sown.remove()


@pytest.fixture(scope="module")
def driver(request: pytest.FixtureRequest) -> str:
    """The driver's name; a test is skipped where its server is missing."""
    name: str = request.param
    if name == "postgresql":
        need_postgres()
    return name


@pytest.fixture
def database(driver: str, tmp_path: Path) -> Iterator[Databases]:
    """The databases of one test."""
    made = Databases(driver, tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_database(driver: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    """The databases of a module."""
    made = Databases(driver, tmp_path_factory.mktemp("store"))
    yield made
    made.close()


@pytest.fixture
def start(database: Databases) -> Iterator[Callable[..., Running]]:
    """Starts gateways with chosen settings; each name is a database of the test."""
    running: list[Running] = []

    def start_one(*, name: str = "gateway", **chosen: Any) -> Running:
        one = database.running(name, **chosen)
        running.append(one)
        return one

    yield start_one
    for one in running:
        one.close()


@pytest.fixture(scope="module")
def client(shared_database: Databases) -> Iterator[Running]:
    """A gateway with open access, shared by the tests of a module."""
    one = shared_database.running("gateway", open_access=True)
    yield one
    one.close()


@pytest.fixture
def gateway(client: Running) -> Any:
    """The Gateway behind `client`, for interactions without HTTP."""
    return client.gateway
