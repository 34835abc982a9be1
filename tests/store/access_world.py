"""A store with rows of many kinds in many homes, and what an Access shows of them, in plain Python.

The rule is written here once more from what security/actor.py says, without SQL; the tests compare
it with what each way of reading answers.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

from hypothesis import strategies as st
from store_builders import body, event, fact

from fhir_gateway.fhir.home import PERSONAL_TYPES
from fhir_gateway.fhir.keys import key64
from fhir_gateway.security.actor import RESTRICTED, Access, Sight
from fhir_gateway.store.changes import (
    ChangeSet,
    ConsentRow,
    Derived,
    Opening,
    Put,
    ReportLink,
)

NOW = 1_790_000_000_000_000
HOUR = 3_600_000_000
OWNERS = (0, 11, 22, 33)
PARTIES = (11, 22)
CLASSES = (0, 0, 0, 1, 2, RESTRICTED)
TYPES = ("Patient", "Observation", "DiagnosticReport", "Encounter", "AuditEvent",
         "GuidanceResponse", "Organization")  # fmt: skip
TIMES = (NOW - 3 * HOUR, NOW - HOUR, NOW, NOW + HOUR, NOW + 3 * HOUR)
PEOPLE = 14
TOKEN = 900


class Seen(NamedTuple):
    """One version as the rule judges it."""

    type: str
    home: int
    owner: int
    sensitivity: int
    key: int = 0


class World:
    """What was stored. `versions` are of (type, id), the first at the front."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.chance = random.Random(6)
        self.versions: dict[tuple[str, str], list[Seen]] = {}
        self.openings: list[Opening] = []
        self.consents: list[tuple[int, ConsentRow]] = []
        self.persons: dict[int, set[int]] = {}

    # -- what is stored ------------------------------------------------------------------------

    async def fill(self, store: Any) -> None:
        """Stores two versions of most, openings and consents of some, links between two homes."""
        self._begin()  # each driver's store has the same
        chance = self.chance
        put = [self._put("Organization", f"org{n}", home=0) for n in range(4)]
        await store.commit(ChangeSet(chance.randbytes(16), puts=put))
        for person in range(1, PEOPLE + 1):
            puts = self._person(person)
            openings = [self._opening(person, n) for n in range(chance.choice((0, 0, 1, 2)))]
            openings += self._alone(person, key64(f"Patient/p{person}"))
            self.openings += openings
            journal = [self._entry(type, person) for type in ("AuditEvent", "GuidanceResponse")]
            await store.commit(
                ChangeSet(chance.randbytes(16), puts=puts, openings=openings, journal=journal)
            )
            again = [self._put(one.type, one.id, person, derived=one.derived)
                     for one in puts if chance.random() < 0.4]  # fmt: skip
            await store.commit(ChangeSet(chance.randbytes(16), puts=again))
        await store.commit(ChangeSet(chance.randbytes(16), puts=self._links()))

    def _person(self, person: int) -> list[Put]:
        found = [self._put("Patient", f"p{person}", person)]
        for number in range(3):
            name = f"o{person}-{number}"
            facts = [fact(f"L{number}", number, f"Observation/{name}")]
            derived = Derived(facts=facts, global_ints=[(TOKEN, number, 0)])
            found.append(self._put("Observation", name, person, derived=derived))
        named = [ReportLink(key64(f"Observation/o{person}-{n}"), "final", 1) for n in range(3)]
        report = Derived(links=named)
        found.append(self._put("DiagnosticReport", f"d{person}", person, derived=report))
        found.append(self._put("Encounter", f"e{person}", person, derived=self._said(person)))
        return found

    def _put(self, type: str, id: str, home: int, derived: Derived | None = None) -> Put:
        chance = self.chance
        versions = self.versions.setdefault((type, id), [])
        owner = versions[0].owner if versions else chance.choice(OWNERS)
        sensitivity = chance.choice(CLASSES) if type != "Patient" else 0
        versions.append(Seen(type, home, owner, sensitivity, key64(f"{type}/{id}")))
        return Put(
            type, id, "update", 0, body(f"{len(versions)}"),
            patient=f"p{home}" if home > 0 else None, owner=owner, sensitivity=sensitivity,
            derived=derived or Derived(),
        )  # fmt: skip

    def _said(self, person: int) -> Derived:
        """What an Encounter may open, and a consent that it stands for here."""
        chance = self.chance
        openings = [self._opening(person, n) for n in range(chance.choice((0, 1)))]
        consents = [self._consent() for _ in range(chance.choice((0, 0, 1, 3)))]
        alone = self._alone(person, key64(f"Encounter/e{person}"))
        openings += alone
        self.openings += openings
        self.consents += [(person, one) for one in consents]
        own = [Opening(0, *(getattr(one, name) for name in _OF_OPENING)) for one in openings]
        return Derived(openings=own, consents=consents)

    def _opening(self, home: int, source: int) -> Opening:
        chance = self.chance
        since, until = sorted(chance.sample(TIMES, 2))
        kind = chance.choice(("encounter", "break-glass"))
        grade = chance.choice((1, 2)) if kind == "break-glass" else 0
        return Opening(home, chance.choice(PARTIES), kind, grade, since, until, source)

    def _alone(self, home: int, source: int) -> list[Opening]:
        """What opens one row and nothing else, now and then."""
        if self.chance.random() < 0.6:
            return []
        party = self.chance.choice(PARTIES)
        since, until = sorted(self.chance.sample(TIMES, 2))
        return [Opening(home, party, "appointment", -1, since, until, source)]

    def _consent(self) -> ConsentRow:
        chance = self.chance
        permit = chance.random() < 0.5
        class_ = chance.choice((0, 1, 2)) if permit else chance.choice((-1, 0, 1))
        since, until = sorted(chance.sample(TIMES, 2))
        return ConsentRow(
            chance.choice((0, *PARTIES)), chance.choice(OWNERS), class_, chance.choice((0, 1, 2)),
            permit, since, until,
        )  # fmt: skip

    def _entry(self, type: str, person: int) -> Any:
        home, owner = self.chance.choice((0, person)), self.chance.choice(OWNERS)
        id = f"{type[0].lower()}{person}"
        self.versions[type, id] = [Seen(type, home, owner, 0)]
        return event(id, type=type, home=home, owner=owner)

    def _links(self) -> list[Put]:
        """Says of pairs of homes that they are one person's."""
        found = []
        for one, other in ((1, 2), (3, 4), (4, 5)):
            derived = Derived(aliases=[(f"p{one}", f"p{other}", "linkage")])
            put = Put("Linkage", f"l{one}", "update", 0, body(), derived=derived)
            self.versions["Linkage", f"l{one}"] = [Seen("Linkage", 0, 0, 0)]
            found.append(put)
        for group in ({1, 2}, {3, 4, 5}):
            self.persons |= dict.fromkeys(group, group)
        return found

    # -- the rule ------------------------------------------------------------------------------

    def sees(self, access: Access, row: Seen) -> bool:
        """Whether the row is seen under the Access now."""
        owners, homes, graded = access.owners, access.homes, row.sensitivity <= access.max_class
        mine = row.owner in (owners or ())
        if homes is not None and row.home > 0 and row.home not in homes:
            return False
        if owners is None and access.sight is None:
            return row.type in access.whole or (row.type not in access.closed and graded)
        if access == Access(access.max_class, owners):
            return graded and (mine or row.owner == 0)
        is_person = homes is not None and access.sight is None and not owners
        if row.type in access.whole or mine or (is_person and row.home > 0):
            return True
        shared = row.home <= 0 and row.type not in PERSONAL_TYPES
        near = shared or (row.owner == 0 and graded)
        opened = access.sight is not None and self._opens(access.sight, row)
        return row.type not in access.closed and (near or opened)

    def _opens(self, sight: Sight, row: Seen) -> bool:
        homes, at = self.persons.get(row.home, {row.home}), sight.at or NOW
        openings = [
            one
            for one in self.openings
            if one.home in homes and one.party == sight.party and one.since <= at < one.until
        ]
        needed = 1 if row.sensitivity == 0 else 2
        if any(one.grade == -1 and (one.home, one.source) == (row.home, row.key)
               for one in openings):  # fmt: skip
            return True
        openings = [one for one in openings if one.grade >= 0]
        if any(one.grade >= needed and one.home == row.home for one in openings):
            return True
        if sight.relation and not openings:
            return False
        said = [
            (one.rank, not one.permit)
            for home, one in self.consents
            if home in homes and one.since <= at < one.until
            and one.party in (0, sight.party) and one.owner in (0, row.owner)
            and (one.class_ == row.sensitivity or (one.class_ == -1 and not one.permit))
            and (one.permit or sight.denials or row.sensitivity > 0)
        ]  # fmt: skip
        if said:
            return not max(said)[1]
        return row.sensitivity == 0 and sight.permit

    def seen(self, access: Access, *, type: str = "") -> set[str]:
        """Names of what is seen in its current version."""
        return {
            f"{name}/{id}"
            for (name, id), versions in self.versions.items()
            if type in ("", name) and self.sees(access, versions[-1])
        }


_OF_OPENING = ("party", "kind", "grade", "since", "until")

_types = st.frozensets(st.sampled_from(TYPES), max_size=3)
sights = st.builds(
    Sight, st.sampled_from(PARTIES), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from((0, *TIMES)),
)  # fmt: skip
accesses = st.builds(
    Access,
    st.sampled_from((-1, 0, 1, RESTRICTED)),
    st.one_of(st.none(), st.frozensets(st.sampled_from(OWNERS[1:]), max_size=2)),
    st.one_of(st.none(), sights, sights),
    st.one_of(st.none(), st.none(), st.frozensets(st.integers(1, PEOPLE), max_size=8)),
    st.one_of(st.just(frozenset()), _types),
    st.one_of(st.just(frozenset()), _types),
)
