"""The local codes of all institutions as this process knows them: tables, and maps of the store.

The maps of the store are read by `interactions.local_codes`, which sees to it that they are those
of the snapshot at hand. What is coded in between is coded by the Coder of the moment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fhir_gateway.terminology.catalogue import Catalogue
from fhir_gateway.terminology.catalogue_join import NO_LISTS, ListCodes
from fhir_gateway.terminology.coder import Coder
from fhir_gateway.terminology.local_map import LocalMap, Row, local_map

if TYPE_CHECKING:
    from fhir_gateway.terminology.matcher import Matcher

Add = Callable[[dict[str, Any], str], tuple[list[str], list[str]]]


class LocalCodes:
    """What is known of the local codes, as of an epoch of the store. `coders` is for the context.

    `known` are the active maps of local codes in the store: whose each is, by logical id. `t` is
    the commit up to which that was read, `loaded` the institutions whose maps were read since.
    """

    def __init__(self, catalogue: Catalogue, tables: Mapping[str, LocalMap]) -> None:
        """`tables` by the institutions' logical ids. Nothing of the store is known yet."""
        self.catalogue = catalogue
        self.tables = tables
        self.epoch, self.t = -1, -1
        self.known: dict[str, str] = {}
        self.loaded: set[str] = set()
        self._merged: dict[str, LocalMap] = {}
        self._lists: ListCodes = NO_LISTS
        self.matcher: Matcher | None = None  # made when proposals are asked for first
        self._use()

    def holds(self, institution: str, epoch: int) -> bool:
        """Whether what is known of an institution is as of this epoch, or newer. Hot."""
        return epoch <= self.epoch and institution in self.loaded

    def turn(
        self,
        *,
        epoch: int,
        t: int,
        changed: Mapping[str, str | None],
        lists: ListCodes | None = None,
    ) -> None:
        """Moves on to an epoch: `changed` are maps that were stored or taken back (None).

        `lists` are the codes of imported lists, None when they are as they were.
        """
        self.epoch, self.t = epoch, t
        if lists is not None and lists != self._lists:
            self._lists = lists
            self._use()
        for id, institution in changed.items():
            before = self.known.pop(id, None)
            if institution is not None:
                self.known[id] = institution
            self.loaded -= {before, institution}

    def map_of(self, institution: str) -> LocalMap | None:
        """The map of an institution, of both layers; None when it has none."""
        return self._merged.get(institution) or self.tables.get(institution)

    def put(self, institution: str, rows: list[Row]) -> None:
        """Takes the stored rows of an institution; they go before those of its table."""
        self.loaded.add(institution)
        changed = self._merged.pop(institution, None) is not None
        if rows:
            table = self.tables.get(institution)
            both = [*rows, *(table.rows if table else ())]
            self._merged[institution] = local_map(institution, both)
        if rows or changed:
            self._use()

    def _use(self) -> None:
        self.coder = Coder(self.catalogue, {**self.tables, **self._merged}, self._lists)
        self.coders: tuple[Add, ...] = (self.coder.add,)
