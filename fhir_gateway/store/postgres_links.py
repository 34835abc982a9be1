"""Who is who, and who may look in, in a batch on PostgreSQL: what was fetched, and what the batch
does laid over it.

What a batch begins and ends again has never been: it is not written at all, since what is ended is
ended before what is new is added.
"""

from __future__ import annotations

from fhir_gateway.store.lookups import Edge, Opened, OpeningKey
from fhir_gateway.store.postgres_wanted import Found
from fhir_gateway.store.rows import Row, Rows


class Links:
    """Live rows of `alias`, `person` and `proposal`, and of `opening` those that no resource stands
    for, with the commit at which each began."""

    def __init__(self) -> None:
        self._aliases: dict[Edge, int] = {}
        self._proposals: dict[Edge, int] = {}
        self._persons: dict[int, tuple[int, int]] = {}
        self._openings: dict[OpeningKey, Opened] = {}

    def lay(self, found: Found) -> None:
        """Takes in what the database has."""
        for *edge, began, person, since in found.aliases:
            self._aliases[Edge(*edge)] = began
            if person is not None:
                self._persons[edge[0]] = (person, since)
        self._proposals |= {Edge(*edge): began for *edge, began in found.proposals}
        self._openings |= {tuple(row[:4]): Opened(*row[4:]) for row in found.opened}

    def aliases(self, home: int) -> dict[Edge, int]:
        """The live aliases from a home."""
        return {edge: began for edge, began in self._aliases.items() if edge.home == home}

    def aliases_of(self, source: int) -> dict[Edge, int]:
        """The live aliases that a resource has given rise to."""
        return {edge: began for edge, began in self._aliases.items() if edge.source == source}

    def proposals_of(self, source: int) -> dict[Edge, int]:
        """The live proposals that a resource has given rise to."""
        return {edge: began for edge, began in self._proposals.items() if edge.source == source}

    def person(self, home: int) -> tuple[int, int] | None:
        """Who a home is, None when it stands for itself."""
        return self._persons.get(home)

    def homes_of(self, home: int) -> list[int]:
        """All homes of the person whose home this is."""
        person = self.person(home)
        if person is None:
            return [home]
        return [one for one, (of, _) in self._persons.items() if of == person[0]]

    def homes(self) -> set[int]:
        """All homes that were met."""
        return {*self._persons}

    def opened(self, key: OpeningKey) -> Opened | None:
        """The live opening of that key."""
        return self._openings.get(key)

    def take(self, new: Rows, all: Rows) -> None:
        """Notes what begins and ends; of `all`, the rows of the batch so far, what ends again is
        taken out."""
        _turn(self._aliases, new.alias, new.alias_ended, all.alias)
        _turn(self._proposals, new.proposal, new.proposal_ended, all.proposal)
        for _, home, _ in new.person_ended:
            del self._persons[home]
        new.person_ended[:] = [
            (t, home, since)
            for t, home, since in new.person_ended
            if since != t or not _taken_out(all.person, (home, since))
        ]
        self._persons |= {home: (person, since) for home, since, person in new.person}
        self._turn_openings(new, all.opening)

    def _turn_openings(self, new: Rows, all: list[Row]) -> None:
        for _, home, party, kind, source, _, began in new.opening_ended:
            held = self._openings.get((home, party, kind, source))
            if held is not None and held.t_from == began:  # else it is a resource's
                del self._openings[home, party, kind, source]
        new.opening_ended[:] = [
            row for row in new.opening_ended if row[-1] != row[0] or not _taken_out(all, row[1:])
        ]
        kept = []
        for until, *key in new.opening_extended:
            name = (key[0], key[1], key[2], key[3])
            self._openings[name] = self._openings[name]._replace(until=until)
            made = next((row for row in all if row[:6] == tuple(key)), None)
            if made is None:
                kept.append((until, *key))
            else:
                all[all.index(made)] = (*made[:-1], until)
        new.opening_extended[:] = kept
        for home, party, kind, source, _, t, rid, *what in new.opening:
            if not rid:
                self._openings[home, party, kind, source] = Opened(t, *what)


def _turn(live: dict[Edge, int], begun: list[Row], ended: list[Row], all: list[Row]) -> None:
    for _, *edge, _ in ended:
        del live[Edge(*edge)]
    ended[:] = [row for row in ended if row[-1] != row[0] or not _taken_out(all, row[1:])]
    live |= {Edge(*edge): began for *edge, began in begun}


def _taken_out(rows: list[Row], key: Row) -> bool:
    """Takes the row that begins with this key out, if there is one."""
    for place, row in enumerate(rows):
        if row[: len(key)] == key:
            del rows[place]
            return True
    return False
