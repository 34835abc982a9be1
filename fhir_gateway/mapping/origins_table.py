"""The rows of a table as a source of origins: their cells, and the rows with one cell changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fhir_gateway.errors import GatewayError
from fhir_gateway.mapping.origins import Atom
from fhir_gateway.mapping.origins_v2 import tables_of, varied
from fhir_gateway.mapping.tables import Table
from fhir_gateway.mapping.tabular import map_group
from fhir_gateway.mapping.tabular_fields import VARYING
from fhir_gateway.mapping.tabular_map import TableMap
from fhir_gateway.mapping.tabular_rows import Group
from fhir_gateway.security.institution import Institution


class TableSource:
    """The rows of one report, order, study or patient, by their map."""

    def __init__(
        self, table: TableMap, group: Group, institution: Institution, *, mappings: str
    ) -> None:
        self.table, self.group = table, group
        self.institution, self.mappings = institution, mappings
        self.tables: Mapping[str, Table] = tables_of(f"{mappings}/v2")
        self.atoms: Sequence[Atom] = [*self._atoms()]

    def _atoms(self) -> Iterator[Atom]:
        for n, record in enumerate(self.group.records):
            if len(self.group.records) > 1:
                yield Atom(f"line {record.line}", "", (n,), whole=True)
            for column, text in record.cells.items():
                first = self.group.records[0].cells.get(column)
                if text.strip() and not (n and self._in_common(column) and first == text):
                    place = f"line {record.line}, column {column}"
                    yield Atom(place, text, (n, column), read=self._read(column, text))

    def _read(self, column: str, text: str) -> str:
        """What the map translates a cell to, "" where it takes it as it stands."""
        for field, named in self.table.columns.items():
            if named == column and (known := self.table.values.get(field, {}).get(text)):
                return known
        return ""

    def map(self, atom: Atom | None, text: str) -> list[dict[str, Any]]:
        """The resources with one cell changed. What the rows of a report have in common is told
        of the first and changed in all of them: they would contradict one another else."""
        group = self.group if atom is None else self._changed(atom, text)
        return self._mapped(self.table, group, self.institution)

    def _changed(self, atom: Atom, text: str) -> Group:
        records = [*self.group.records]
        if atom.whole:
            return self.group._replace(records=[*records[: atom.where[0]],
                                                *records[atom.where[0] + 1 :]])  # fmt: skip
        n, column = atom.where
        own, together = records[n].cells[column], self._in_common(column)
        for at, record in enumerate(records):
            if at == n or (together and record.cells.get(column) == own):
                records[at] = record._replace(cells={**record.cells, column: text})
        return self.group._replace(records=records)

    def _in_common(self, column: str) -> bool:
        varying = VARYING.get(self.table.kind, frozenset())
        return any(
            named == column and field not in varying for field, named in self.table.columns.items()
        )

    def _mapped(
        self, table: TableMap, group: Group, institution: Institution
    ) -> list[dict[str, Any]]:
        taken = map_group(table, group, institution, mappings=self.mappings)
        study = [taken.study] if taken.study is not None else []
        return [*taken.mapped.resources, *study]

    def elsewhere(self) -> list[tuple[str, list[dict[str, Any]]]]:
        """The resources for another entry of the institution, and other constants of the map."""
        found = [
            (part, self._mapped(self.table, self.group, other))
            for part, other in varied(self.institution)
        ]
        for field, text in self.table.constants.items():
            constants = {**self.table.constants, field: text[:-1]}
            if not constants[field]:
                del constants[field]
            try:
                mapped = self._mapped(
                    replace(self.table, constants=constants), self.group, self.institution
                )
            except GatewayError:
                continue  # the constant is needed as it is: what follows from it is not told apart
            found.append((f"constant {field} of the map", mapped))
        return found
