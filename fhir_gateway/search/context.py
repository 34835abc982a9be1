"""What the meaning of a search value depends on beside itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

from fhir_gateway.search.params import Parameter
from fhir_gateway.terminology.naming import NO_NAMES, Naming

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


class Codes(Protocol):
    """What value sets hold and codes subsume, for :in, :not-in, :below and :above.

    `parameter` is the one that asks; a refusal names it. All raise Invalid for what is not known
    here, and TooCostly where there are too many codes, or nobody can list them.
    """

    def members(self, parameter: Parameter, value_set: str) -> Collection[tuple[str, str]]:
        """(system, code) of all members of a value set: its url with or without |version, or a
        reference to it."""

    def below(self, parameter: Parameter, system: str, code: str) -> Collection[str]:
        """The code and all that it subsumes."""

    def above(self, parameter: Parameter, system: str, code: str) -> Collection[str]:
        """The code and all that subsume it."""


class Context(NamedTuple):
    """The store's index key, the server's own base url, the zone of dates without one, and what
    codes mean where that is asked for: what it says changes, so nothing is remembered with it.
    Last the identifier systems that have several names: the same as of the index."""

    secret: bytes
    base_url: str = ""
    zone: str = "Asia/Shanghai"
    codes: Codes | None = None
    naming: Naming = NO_NAMES
