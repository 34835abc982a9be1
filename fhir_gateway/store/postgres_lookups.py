"""The answers of a batch on PostgreSQL: fetched at once, and what the batch does laid over them.

What was not fetched is never answered: a question that nobody foresaw is a fault of ours and
raises KeyError, for "not there" would be a lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store.changes import Absent, ChangeSet, Settled
from fhir_gateway.store.lookups import Current, Edge, Held, Opened, OpeningKey, Place
from fhir_gateway.store.postgres_claims import AskedClaims, PostgresSeating
from fhir_gateway.store.postgres_links import Links
from fhir_gateway.store.postgres_wanted import PATIENT, Found, Resource, Token, Wanted, token_of
from fhir_gateway.store.rows import Row, Rows

#: Where the resource number stands in a row, for the tables whose rows a next version replaces.
_RID = (
    ("px", 4), ("px_text", 3), ("gx", 4), ("gx_text", 3), ("fact", 3), ("result_of", 2),
    ("evaluation", 2), ("identity", 3), ("opening", 6), ("consent", 4),
)  # fmt: skip

#: The columns of a `resource` row that its row in `version` has.
_KEPT = (0, 2, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14)


class PostgresLookups(PostgresSeating):
    """See lookups.Lookups. `rows` and `versions` are what the whole batch is to write; `versions`
    are rows of versions that the batch made and superseded.
    """

    def __init__(self, wanted: Wanted, found: Found) -> None:
        super().__init__(found.clock.home)
        self.rows = Rows()
        self.versions: list[Row] = []
        self._made: dict[int, Row] = {}  # rid -> the row of the version made in this batch
        self._outcomes: dict[bytes, bytes | None] = dict.fromkeys(wanted.outcomes)
        self._onces: dict[tuple[str, bytes], tuple[int, int, int, bytes] | None] = dict.fromkeys(
            wanted.onces
        )
        self._current: dict[Resource, Current | None] = dict.fromkeys(wanted.resources)
        self._bodies: dict[Resource, tuple[int, bytes]] = {}
        self._identities: dict[bytes, dict[int, int]] = {key: {} for key in wanted.identities}
        self._counters: dict[bytes, int] = dict.fromkeys(wanted.counters, 0)
        self._tokens: dict[Token, dict[int, str]] = {token: {} for token in wanted.tokens}
        self._by_value: dict[tuple[int, ...], list[Token]] = {}
        for token in wanted.tokens:
            self._by_value.setdefault(token[:3], []).append(token)
        self._settled: dict[Settled, bool] = dict.fromkeys(wanted.settled, False)
        self._changed: set[tuple[int, int]] = set()  # (type, home) changed by the batch
        self._held = Held(Rows(), {})
        self._links = Links()
        self._lay(wanted, found)

    def _lay(self, wanted: Wanted, found: Found) -> None:
        """Puts the answers into the dictionaries."""
        self._outcomes.update((id, outcome) for id, outcome in found.outcomes)
        for kind, key, t, n, updated, response in found.onces:
            self._onces[kind, key] = (t, n, updated, response)
        for type, id, home, rid, version, deleted, patient, owner, *body in found.resources:
            self._current[type, id] = Current(home, rid, version, deleted, patient, owner)
            if body and body[0] is not None:
                self._bodies[type, id] = (body[0], body[1])
        for key, home, rid in (*found.identities, *found.bearers):
            self._identities.setdefault(key, {})[rid] = home
        self._links.lay(found)
        self._counters.update((key, k) for key, k in found.counters)
        tokens, settled = list(wanted.tokens), list(wanted.settled)
        for number, id, rid in found.tokens:
            self._tokens[tokens[number - 1]][rid] = id
        for (number,) in found.settled:
            self._settled[settled[number]] = True

    # -- answers -----------------------------------------------------------------------------

    def foresee(self, change_set: ChangeSet) -> None:
        """Nothing: all that the batch may ask was fetched when it began."""

    def current(self, type: int, id: str) -> Current | None:
        """The current version, also a deletion; None when never stored."""
        return self._current[type, id]

    def home(self, type: int, id: str) -> int | None:
        """The home of a resource that was ever stored."""
        current = self._current[type, id]
        return current.home if current else None

    def home_of_identity(self, key: bytes) -> int | None:
        """The home of the person with this identity key of kind 1 (document and name)."""
        return next(iter(self._identities[key].values()), None)

    def homes_of_key(self, key: bytes) -> Mapping[int, int]:
        """The homes of those who bear an identity key of kind 1, by the Patient's number."""
        return self._identities[key]

    def keys_of_home(self, home: int) -> list[tuple[bytes, int]]:
        """(key, number of the Patient) of the identity keys of kind 1 in a home."""
        return [
            (key, rid)
            for key, bearers in self._identities.items()
            for rid, found in bearers.items()
            if found == home
        ]

    def aliases(self, home: int) -> dict[Edge, int]:
        """The live aliases from a home, with the commit at which each began."""
        return self._links.aliases(home)

    def aliases_of(self, source: int) -> dict[Edge, int]:
        """The live aliases that a resource (key64) has given rise to."""
        return self._links.aliases_of(source)

    def proposals_of(self, source: int) -> dict[Edge, int]:
        """The live proposals that a resource (key64) has given rise to."""
        return self._links.proposals_of(source)

    def person(self, home: int) -> tuple[int, int] | None:
        """(person, commit at which that began) of a home that is connected with others."""
        return self._links.person(home)

    def opened(self, key: OpeningKey) -> Opened | None:
        """The live opening of that key which no resource stands for."""
        return self._links.opened(key)

    def body(self, type: int, id: str) -> tuple[int, bytes]:
        """Encoding and body of the current version of a resource that is there."""
        return self._bodies[type, id]

    def outcome(self, id: bytes) -> bytes | None:
        """The encoded outcome of a change set that was judged before."""
        return self._outcomes[id]

    def once(self, kind: str, key: bytes) -> tuple[int, int, int, bytes] | None:
        """(t, n, updated, response) of an earlier use of the key."""
        return self._onces[kind, key]

    def counter(self, key: bytes) -> int:
        """Where the counter stands."""
        return self._counters[key]

    def matches(self, guard: Absent) -> list[str]:
        """Ids of current resources with this token, at least two when there are several."""
        return list(self._tokens[token_of(guard)].values())[:5]

    def changed(self, guard: Settled) -> bool:
        """Whether a version of these types and homes came after the guard's commit."""
        if self._settled[guard]:
            return True
        types = {type_key(type) for type in guard.types}
        return any(
            type in types and (not guard.homes or home in guard.homes)
            for type, home in self._changed
        )

    def patients(self) -> dict[str, int]:
        """The homes of all Patients that were asked for or stored."""
        return {
            id: current.home
            for (type, id), current in self._current.items()
            if type == PATIENT and current is not None
        }

    def homes_of(self, home: int) -> list[int]:
        """The homes of the person whose home this is."""
        return self._links.homes_of(home)

    def asked(self, wanted: Wanted) -> AskedClaims:
        """What is to be fetched for the claims of the batch."""
        homes = {home for bearers in self._identities.values() for home in bearers.values()}
        linked = {self.home(PATIENT, id) for id in wanted.linked}
        homes |= {home for home in linked if home is not None}
        return wanted.claims.asked(self.home, homes | self._links.homes())

    def places(self, wanted: Wanted) -> list[Place]:
        """Where those stand whose rows are derived again."""
        found = ((type, self._current[type, id]) for type, id in wanted.reindexed)
        return [
            Place(current.home, type, current.rid) for type, current in found if current is not None
        ]

    def hold(self, held: Held) -> None:
        """What those have given rise to, as the database had it when the batch began."""
        self._held = held

    def held(self, places: Sequence[Place]) -> Held:
        """What the current versions in these places have given rise to.

        Of a batch with several change sets that would not be the truth: see PostgresWriter.
        """
        return self._held

    # -- what the batch does -----------------------------------------------------------------

    def take(self, rows: Rows) -> None:
        """Takes over what was gathered, and empties it."""
        for row in rows.retired:
            self._retire(row)
        for made in rows.resource:
            self._add(made)
        if self._tokens:
            self._add_tokens(rows)
        for key, kind, home, rid in rows.identity:
            if kind == 1 and key in self._identities:
                self._identities[key][rid] = home
        for kind, key, t, n, updated, response in rows.once:
            self._onces[kind, key] = (t, n, updated, response)
        self._counters.update(rows.counter)
        for _, _, id, _, outcome in rows.change_set:
            self._outcomes[id] = outcome
        rows.retired.clear()
        self._links.take(rows, self.rows)
        self._take_seats(rows, self.rows)
        self.rows.add(rows)

    def _retire(self, row: tuple[int, int, int, int]) -> None:
        """The current version of a resource is not current any more."""
        _, _, rid, _ = row
        for owners in self._identities.values():
            owners.pop(rid, None)
        for matches in self._tokens.values():
            matches.pop(rid, None)
        if rid in self._made:
            self._supersede(rid)
        else:
            self.rows.retired.append(row)

    def _supersede(self, rid: int) -> None:
        """A version that this very batch made: nobody has seen it, only its body is kept."""
        made = self._made.pop(rid)
        self.versions.append(tuple(made[column] for column in _KEPT))
        self.rows.resource.remove(made)
        for name, place in _RID:
            table: list[Row] = getattr(self.rows, name)
            table[:] = [row for row in table if row[place] != rid]

    def _add(self, made: Row) -> None:
        home, type, rid, id, version, _, _, _, deleted, owner, _, patient, _, enc, body, _ = made
        self._made[rid] = made
        self._current[type, id] = Current(home, rid, version, deleted, patient, owner)
        if body is not None:
            self._bodies[type, id] = (enc, body)
        self._changed.add((type, home))

    def _add_tokens(self, rows: Rows) -> None:
        for parameter, v1, v2, _, rid in rows.gx:
            if rid not in self._made:
                continue  # derived again, after all was judged
            _, type, _, id, _, _, _, _, _, owner, *_ = self._made[rid]
            for token in self._by_value.get((type, parameter, v1), ()):
                *_, system, owners = token
                if system in (v2, None) and (owners is None or owner in (0, *owners)):
                    self._tokens[token][rid] = id
