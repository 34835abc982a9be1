"""The persons behind the Patients that a request names: all their records, as far as they are sure.

A Patient stands for all records of the person: those of its home and of every home that is linked
with it (docs/adr/0023, 0027). What is contested stays apart, since a document that is used under
two names may be of two people; what is only likely is said and not included. Only records that the
caller may see are named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from fhir_gateway.store.people_sql import PersonRecord, beside, of_homes
from fhir_gateway.store.store import Person, Reader

Doubt = Literal["", "contested", "doubtful"]


class People(NamedTuple):
    """One person as a request means it: the Patient that it names, and the records of the answer.

    `records` is empty for a Patient that is not there, or not for this caller. `doubt` says that
    the same document is used under another name (contested), or that a record of another person
    may be this one's (doubtful).
    """

    asked: str
    records: Sequence[PersonRecord] = ()
    doubt: Doubt = ""

    @property
    def ids(self) -> tuple[str, ...]:
        """The records' logical ids; the id that was named where nothing is known of it."""
        return tuple(one.id for one in self.records) or (self.asked,)

    @property
    def is_plain(self) -> bool:
        """True when there is one record and nothing to be said of it."""
        return len(self.records) < 2 and not self.doubt


async def people_of(reader: Reader, patients: Iterable[str]) -> list[People]:
    """The person behind each of these Patients."""
    return [await person_of(reader, patient) for patient in patients]


async def person_of(reader: Reader, patient: str) -> People:
    """The person behind a Patient. Costs one statement where there is one record."""
    records, connected = await reader.steps(lambda seen: beside(seen, patient))
    own = [one for one in records if one.id == patient]
    if not own or (len(records) == 1 and not connected):
        return People(patient, own)
    person = await reader.person(patient)
    if person is None:
        return People(patient)
    if person.contested:
        return People(patient, own, "contested")
    if len(person.homes) > 1:
        homes = person.homes
        records = await reader.steps(lambda seen: of_homes(seen, homes))
    return People(patient, records, "doubtful" if await is_doubted(reader, person) else "")


async def is_doubted(reader: Reader, person: Person) -> bool:
    """Whether a record that the caller may see may be this person's, and nobody confirmed it."""
    if not person.rivals:
        return False
    rivals = person.rivals
    return bool(await reader.steps(lambda seen: of_homes(seen, rivals)))
