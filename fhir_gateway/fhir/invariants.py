"""The invariants of R4's own types, and those bindings that need a terminology service.

Cut from HL7's package at set-up by `fhir.cut_profiles`; read when the first resource is judged.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from fhir_gateway.errors import Internal
from fhir_gateway.fhir.definitions import FOLDER

FILE = "invariants.json"


class Stated(msgspec.Struct, frozen=True, array_like=True):
    """An invariant as its definition states it."""

    key: str
    severity: str
    human: str
    expression: str


class Bound(msgspec.Struct, frozen=True, array_like=True):
    """A binding: the value set, and whether it is required (else extensible)."""

    value_set: str
    required: bool


class R4Invariants(msgspec.Struct, frozen=True):
    """Invariants and bindings by path, such as Observation or Observation.code."""

    invariants: dict[str, tuple[Stated, ...]]
    bindings: dict[str, Bound]


@lru_cache(maxsize=1)
def r4_invariants() -> R4Invariants:
    """What R4 states. Raises Internal when set-up has not cut it."""
    try:
        return msgspec.json.decode((FOLDER / FILE).read_bytes(), type=R4Invariants)
    except FileNotFoundError:
        raise Internal("FHIR invariants are missing: run `make setup` first") from None
    except msgspec.DecodeError:
        raise Internal("FHIR invariants are of another version: run `make setup`") from None
