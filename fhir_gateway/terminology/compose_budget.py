"""How much may be looked at for one value set. What is not bounded is refused as too costly."""

from __future__ import annotations

from collections.abc import Callable

from fhir_gateway.errors import TooCostly

#: Concepts that are looked at for one value set, those of imported ones included.
MOST_SEEN = 200_000

#: Codes above and below those that the filters of one value set name.
MOST_RELATED = 1_000_000

Spend = Callable[[int], None]


class Purse:
    """Counts what is looked at. A negative price is more than anybody has."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def __call__(self, price: int) -> None:
        """Raises TooCostly when it is spent."""
        if price < 0:
            raise TooCostly(
                "The value set takes codes of a system that cannot be listed, such as a grammar; "
                "ask $validate-code about one code",
                rule="vs-infinite",
            )
        self._left -= price
        if self._left < 0:
            raise TooCostly(
                f"Over {self._most} concepts would have to be looked at for this value set",
                rule="vs-size",
            )
