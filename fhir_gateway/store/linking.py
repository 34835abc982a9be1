"""Who is who: what a change set says of two homes, and which homes are one person's from then on.

A link (Linkage), a merge (Patient.link) and the key of a document with its name connect homes; rows
never move. The groups are computed under the write lock when a connection begins or ends, with the
commits between which they hold, so that a snapshot of an earlier commit sees who was who. A person
has at most MOST_HOMES homes: a link or a merge beyond is refused, a shared key connects no more.
Everything is found out before anything is written. docs/adr/0023-identity.md, 0026
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from fhir_gateway.errors import Unprocessable
from fhir_gateway.fhir.keys import key64, type_key
from fhir_gateway.store.changes import Derived
from fhir_gateway.store.lookups import Edge, Lookups
from fhir_gateway.store.placing import Placed
from fhir_gateway.store.rows import Rows

#: Homes of one person (docs/architecture.md, section 5.1).
MOST_HOMES = 8

#: The cause of a connection that is a shared document and name; it names no resource.
KEY = "key"

#: The cause that is an institution's own word on two of its own numbers (Patient.link).
MERGE = "patient-link"

#: The kind of identity key by which homes are shared and connected.
_DOCUMENT_AND_NAME = 1

_PATIENT = type_key("Patient")

#: Types that may say something of two homes.
LINKING = frozenset({"Patient", "Linkage", "Task"})


class Said(NamedTuple):
    """What one resource says from now on. `rid` is 0 for one that is new, `derived` None for one
    that says nothing any more."""

    type: str
    id: str
    home: int
    rid: int
    derived: Derived | None

    @property
    def source(self) -> int:
        """What its rows are found by."""
        return key64(f"{self.type}/{self.id}")


class _Turned(NamedTuple):
    """A Patient whose keys are others than before."""

    said: Said
    before: frozenset[bytes]
    now: frozenset[bytes]


def link(lookups: Lookups, rows: Rows, placed: Sequence[Placed], t: int) -> None:
    """Gathers what new versions begin and end between homes. Raises as `Linking.link` does."""
    said = _said(placed)
    if said:
        stored = {
            one.put.id: (one.home, one.put.owner) for one in placed if one.put.type == "Patient"
        }
        Linking(lookups, stored).link(rows, said, t)


def _said(placed: Iterable[Placed]) -> list[Said]:
    """What new versions say, where they say anything of homes or may have done so before."""
    found = []
    for one in placed:
        put, current = one.put, one.current
        if put.type not in LINKING or one.outcome == "unchanged":
            continue
        derived = None if put.op == "delete" else put.derived
        rid = current.rid if current is not None else 0
        if rid or (derived and (derived.aliases or derived.proposals or derived.identity)):
            found.append(Said(put.type, put.id, one.home, rid, derived))
    return found


class Linking:
    """The change of one change set. `stored` are (home, owner) of the Patients that it stores."""

    def __init__(
        self, lookups: Lookups, stored: Mapping[str, tuple[int, int]], *, strict: bool = True
    ) -> None:
        self._lookups = lookups
        self._patients = stored
        self._strict = strict
        self._begun: dict[Edge, None] = {}
        self._ended: dict[Edge, int] = {}
        self._bearers: dict[bytes, set[int]] = {}  # homes that have a key when all is stored
        self._live: dict[int, dict[Edge, int]] = {}

    def link(self, rows: Rows, said: Sequence[Said], t: int) -> None:
        """Gathers the rows that begin and end at commit `t`.

        Raises Unprocessable when a link or a merge names a Patient that is not stored, when a merge
        names another institution's, or when a person would have more than MOST_HOMES homes. One
        that is not `strict` says nothing instead.
        """
        for one in said:
            self._turn_aliases(one)
        self._turn_keys([one for one in said if one.type == "Patient"])
        proposed = [self._turned_proposals(one) for one in said]
        for new, gone in proposed:
            rows.proposal += [(*edge, t) for edge in new]
            rows.proposal_ended += [(t, *edge, began) for edge, began in gone.items()]
        if self._begun or self._ended:
            rows.alias += [(*edge, t) for edge in self._begun]
            rows.alias_ended += [(t, *edge, began) for edge, began in self._ended.items()]
            self._turn_persons(rows, t)

    # -- what resources say ------------------------------------------------------------------

    def _turn_aliases(self, one: Said) -> None:
        before = self._lookups.aliases_of(one.source) if one.rid else {}
        now = set(self._edges(one.derived.aliases, one)) if one.derived else set()
        self._ended |= {edge: began for edge, began in before.items() if edge not in now}
        for edge in sorted(now - before.keys()):
            if edge.home == edge.other:  # of one home: nobody is joined, but it settles a doubt
                self._begun[edge] = None
            elif edge.home < edge.other and not self._connect(edge) and self._strict:
                raise Unprocessable(
                    f"By {one.type}/{one.id} a person would have more than {MOST_HOMES} homes; "
                    "look whether an earlier link of this person is wrong, and take it back first",
                    expression=one.type,
                    rule="person-too-wide",
                )

    def _turned_proposals(self, one: Said) -> tuple[list[Edge], dict[Edge, int]]:
        before = self._lookups.proposals_of(one.source) if one.rid else {}
        edges = self._edges(one.derived.proposals, one) if one.derived else ()
        now = {edge for edge in edges if edge.home != edge.other}
        gone = {edge: began for edge, began in before.items() if edge not in now}
        return sorted(now - before.keys()), gone

    def _edges(self, pairs: Iterable[tuple[str, str, str]], one: Said) -> Iterator[Edge]:
        """The pairs of Patients as pairs of homes, in both directions."""
        for patient, other, why in pairs:
            mine, theirs = self._patient(patient), self._patient(other)
            fault = _fault(one, why, mine, theirs)
            if fault is not None and self._strict:
                raise fault
            if fault is None and mine and theirs:
                yield Edge(mine[0], theirs[0], why, one.source)
                yield Edge(theirs[0], mine[0], why, one.source)

    def _patient(self, id: str) -> tuple[int, int] | None:
        """Home and owner of a Patient that is, or was ever, stored."""
        found = self._patients.get(id)
        if found is None:
            current = self._lookups.current(_PATIENT, id)
            found = (current.home, current.owner) if current is not None else None
        return found

    def _connect(self, edge: Edge) -> bool:
        """Begins a connection; False when the person would have too many homes."""
        both = edge, edge.turned()
        self._begun |= dict.fromkeys(both)
        if len(self._group(edge.home)) <= MOST_HOMES:
            return True
        for one in both:
            del self._begun[one]
        return False

    # -- shared documents ----------------------------------------------------------------------

    def _turn_keys(self, patients: Sequence[Said]) -> None:
        """Begins and ends connections by the same document with the same name."""
        turned = [_Turned(one, self._keys_before(one), _keys_of(one.derived)) for one in patients]
        turned = [one for one in turned if one.before != one.now or not self._strict]
        gone = {one.said.rid for one in turned}
        for one in turned:
            for key in one.now | one.before:
                stored = self._lookups.homes_of_key(key)
                self._bearers[key] = {home for rid, home in stored.items() if rid not in gone}
        for one in turned:
            for key in one.now:
                self._bearers[key].add(one.said.home)
        for one in turned:
            if one.before - one.now:
                self._end_keys(one.said.home, turned)
        for one in turned:
            home, new = one.said.home, one.now - one.before if self._strict else one.now
            for other in sorted({far for key in new for far in self._bearers[key]}):
                edge = Edge(home, other, KEY, 0)
                if other != home and edge not in self._edges_of(home):
                    self._connect(edge)

    def _keys_before(self, one: Said) -> frozenset[bytes]:
        if not one.rid:
            return frozenset()
        return frozenset(key for key, rid in self._lookups.keys_of_home(one.home) if rid == one.rid)

    def _end_keys(self, home: int, turned: Sequence[_Turned]) -> None:
        """Ends the connections of a home by keys that it does not share any more."""
        gone = {one.said.rid for one in turned}
        kept = {key for key, rid in self._lookups.keys_of_home(home) if rid not in gone}
        kept |= {key for one in turned if one.said.home == home for key in one.now}
        shared = set[int]()
        for key in kept:
            known = self._bearers.get(key)
            shared |= set(self._lookups.homes_of_key(key).values()) if known is None else known
        for edge, began in self._stored(home).items():
            if edge.why == KEY and edge.other not in shared:
                self._ended |= {edge: began, edge.turned(): began}

    # -- groups --------------------------------------------------------------------------------

    def _stored(self, home: int) -> dict[Edge, int]:
        known = self._live.get(home)
        if known is None:
            known = self._live[home] = self._lookups.aliases(home)
        return known

    def _edges_of(self, home: int) -> set[Edge]:
        """The live connections of a home, as they will be."""
        begun = {edge for edge in self._begun if edge.home == home}
        return (self._stored(home).keys() - self._ended.keys()) | begun

    def _group(self, home: int, *, before: bool = False) -> set[int]:
        """All homes that will be connected with one; `before` also those that were."""
        found, waiting = {home}, [home]
        while waiting:
            here = waiting.pop()
            edges = self._edges_of(here)
            if before:
                edges |= self._stored(here).keys()
            for other in {edge.other for edge in edges} - found:
                found.add(other)
                waiting.append(other)
        return found

    def _turn_persons(self, rows: Rows, t: int) -> None:
        """Says anew who is who, for all homes that are touched."""
        touched = {edge.home for edge in (*self._begun, *self._ended)}
        for home in sorted({far for one in touched for far in self._group(one, before=True)}):
            group = self._group(home)
            person = min(group) if len(group) > 1 else None
            held = self._lookups.person(home)
            if held is not None and held[0] != person:
                rows.person_ended.append((t, home, held[1]))
            if person is not None and (held is None or held[0] != person):
                rows.person.append((home, t, person))


def _fault(
    one: Said, why: str, mine: tuple[int, int] | None, theirs: tuple[int, int] | None
) -> Unprocessable | None:
    """Why two Patients cannot be connected so."""
    if mine is None or theirs is None:
        return Unprocessable(
            f"{one.type}/{one.id} names a Patient that is not stored here",
            expression=one.type,
            rule="link-patient-unknown",
        )
    if why == MERGE and mine[1] != theirs[1]:
        return Unprocessable(
            "A Patient can be merged with one of the same institution only; that two institutions "
            "have one person is proposed by a link of type seealso, and confirmed by a reviewer",
            expression="Patient.link",
            rule="merge-other-institution",
        )
    return None


def _keys_of(derived: Derived | None) -> frozenset[bytes]:
    identity = derived.identity if derived else ()
    return frozenset(key for key, kind in identity if kind == _DOCUMENT_AND_NAME)
