"""The whole person behind a home: the homes that are connected with it at a commit, and the others
of whom a proposal is open that they may be this person's.

Generators of statements for every driver (see query.py), run for whoever has a row in `person` or
`proposal` at all; most people have one home, which the driver knows already. docs/adr/0026
"""

from __future__ import annotations

from fhir_gateway.fhir.keys import type_key
from fhir_gateway.store import apart_sql
from fhir_gateway.store.dialect import Dialect
from fhir_gateway.store.query import Query, Steps
from fhir_gateway.store.store import Person

#: The grade of a proposal that makes a decision doubtful (identity/score.py).
DOUBT = "probable"

_PERSON = "SELECT person FROM person WHERE home = ? AND t_from <= ? AND ? < t_to"
_HOMES = "SELECT home FROM person WHERE person = ? AND t_from <= ? AND ? < t_to ORDER BY home"
_RIVALS = "SELECT DISTINCT other FROM proposal WHERE {} AND grade = ? AND t_from <= ? AND ? < t_to"
_DOCUMENTED = """
SELECT EXISTS (SELECT 1 FROM resource r JOIN identity i ON i.rid = r.rid
  WHERE {homes} AND r.type = ? AND r.deleted = 0)"""
#: As in visible.py, for all records of a person: another person bears the same document, or the
#: records of one home bear it under names that nobody has linked. By all records, whoever sees
#: them: it is a doubt about the caller's own record, and a wrong match harms more than it tells.
_CONTESTED = """
SELECT EXISTS (
  SELECT 1 FROM resource r
  JOIN identity mine ON mine.rid = r.rid AND mine.kind = 2
  JOIN identity other ON other.key = mine.key AND other.kind = 2 AND other.rid <> mine.rid
  WHERE {homes} AND r.type = ? AND r.deleted = 0
    AND (NOT ({theirs}) OR (other.home = mine.home AND NOT EXISTS (
      SELECT 1 FROM identity a JOIN identity b ON b.key = a.key AND b.kind = 1
      WHERE a.rid = mine.rid AND a.kind = 1 AND b.rid = other.rid))))"""
_APART = f"""
SELECT EXISTS (
  SELECT 1 FROM resource r WHERE {{homes}} AND r.type = ? AND r.deleted = 0 AND {apart_sql.APART})
"""  # noqa: S608 - constants


def whole(dialect: Dialect, known: Person, t: int) -> Steps[Person]:
    """The person with all homes as they were at commit `t`; `known` is what one home says."""
    homes = yield from homes_of(dialect, known.home, t)
    among, bound = dialect.among("home", homes)
    rows = yield Query(_RIVALS.format(among), (*bound, DOUBT, t, t))
    rivals = tuple(sorted(other for (other,) in rows if other not in homes))
    documented, contested = known.documented, known.contested
    if len(homes) > 1:
        documented, contested = yield from _papers(dialect, homes)
    return Person(known.home, documented, contested, homes, bool(rivals), rivals)


def homes_of(dialect: Dialect, home: int, t: int) -> Steps[tuple[int, ...]]:
    """The homes of the person of a home at commit `t`, in rising order."""
    persons = yield Query(_PERSON, (home, t, t))
    if not persons:
        return (home,)
    rows = yield Query(_HOMES, (persons[0][0], t, t))
    return tuple(found for (found,) in rows)


def _papers(dialect: Dialect, homes: tuple[int, ...]) -> Steps[tuple[bool, bool]]:
    """Whether some record bears a document, and whether another person bears it too."""
    mine, bound = dialect.among("r.home", homes)
    theirs, also = dialect.among("other.home", homes)
    patient = type_key("Patient")
    apart = yield Query(_APART.format(homes=mine), (*bound, patient))
    documented = yield Query(_DOCUMENTED.format(homes=mine), (*bound, patient))
    if apart[0][0] or not documented[0][0]:
        return bool(documented[0][0]), bool(apart[0][0])
    contested = yield Query(_CONTESTED.format(homes=mine, theirs=theirs), (*bound, patient, *also))
    return True, bool(contested[0][0])
