"""Bodies: what is packed is unpacked the same, in every thread, and small."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_gateway.store import blobs
from fhir_gateway.store.blobs import RAW, ZSTD, pack, unpack

TAIL = (
    b',"profile":["http://hl7.org/fhir/StructureDefinition/vitalsigns"]},"status":"final",'
    b'"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category"'
    b',"code":"laboratory","display":"Laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org"'
    b',"code":"2339-0","display":"Glucose"}],"text":"Glucose"},"subject":{"reference":"Patient/p1"},'
    b'"effectiveDateTime":"2026-09-21T08:00:00+08:00","valueQuantity":{"value":5.10,"unit":"mmol/L",'
    b'"system":"http://unitsofmeasure.org","code":"mmol/L"}}'
)


@given(st.binary(max_size=400))
@settings(max_examples=examples(200), deadline=None)
def test_unpack_is_the_inverse_of_pack(body):
    assert unpack(*pack(body)) == body


def test_short_bodies_stay_as_they_are():
    assert pack(b"x" * 99) == (RAW, b"x" * 99)
    assert pack(b"x" * 100)[0] == ZSTD


def test_a_usual_observation_takes_a_quarter():
    enc, packed = pack(TAIL)
    assert enc == ZSTD
    assert len(packed) < len(TAIL) / 4


def test_threads_do_not_disturb_one_another():
    bodies = [TAIL.replace(b"p1", b"p%d" % n) for n in range(400)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda body: unpack(*pack(body)), bodies)) == bodies


def test_an_encoding_of_the_future_is_an_error():
    with pytest.raises(ValueError, match="7"):
        unpack(7, b"x")


def test_the_dictionary_is_the_one_that_bodies_were_packed_with():
    """A changed dictionary under the old number would make every stored body unreadable."""
    shipped = Path(blobs.__file__).with_name("bodies-1.zdict").read_bytes()
    assert len(shipped) <= 65_536
    assert sha256(shipped).hexdigest() == (
        "56e18e947076938a1c5bb96522e6e265731f208527fe250f083aa298e944d63a"
    )
