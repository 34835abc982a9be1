"""Messages that went wrong, through the store: stored whole or not at all, and never a fault of
ours (faults.md I1). Some hundred in CI, tens of thousands in torture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from effort import examples
from intake_cases import Opened, opened
from mutations import mutants, seeds

TYPES = ("Patient", "Encounter", "ServiceRequest", "Specimen", "Observation", "DiagnosticReport",
         "Appointment", "Task")  # fmt: skip


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    with opened(tmp_path_factory.mktemp("fuzz")) as one:
        yield one


def test_a_message_that_went_wrong_is_stored_whole_or_not_at_all(hospital: Opened) -> None:
    before, seen = hospital.stored(*TYPES), set[str]()
    for n, raw in enumerate(mutants(20261122, examples(150), seeds())):
        one = raw.replace(b"|1|P|", b"|f%d|P|" % n, 1)
        answer = hospital.send(one)
        assert answer.status < 500, one
        assert answer.code in ("AA", "AE", "AR")
        assert answer.body.split(b"\r")[1][4:6] == answer.code.encode()
        after = hospital.stored(*TYPES)
        if answer.error is not None:
            assert after == before, one
        elif b"f%d" % n in one:
            assert hospital.send(one).body == answer.body
        before = after
        seen.add(answer.code)
    assert seen == {"AA", "AE", "AR"}
