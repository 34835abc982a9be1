"""Records of one home that have come apart: they shared a document and a name, and do not any more.

A home is given once and rows never move. So a record that lost the document, or was deleted while
its results stand, stays in the home of the person whom it was taken for. Nothing says then whose
the rows are: the identity counts as contested, until the record bears the document and the name
again, or a link or a merge says of two records of this home that they are one person's.
docs/identity.md; docs/adr/0026
"""

from __future__ import annotations

_LIVE = 9223372036854775807

#: A record that stands, or was deleted and has left facts.
_COUNTS = """
      AND ({0}.deleted = 0 OR EXISTS (SELECT 1 FROM fact WHERE fact.home = {0}.home
        AND fact.patient = {0}.id AND fact.t_to = 9223372036854775807))"""

_APART = """EXISTS (
    SELECT 1 FROM resource one JOIN resource two
      ON two.home = one.home AND two.type = one.type AND two.rid <> one.rid
    WHERE one.home = r.home AND one.type = r.type{counts}{seen}
      AND NOT EXISTS (
        SELECT 1 FROM identity mine JOIN identity other ON other.key = mine.key
          AND other.kind = 1 AND other.home = mine.home AND other.rid <> mine.rid
        WHERE mine.rid = one.rid AND mine.kind = 1)
      AND NOT EXISTS (
        SELECT 1 FROM alias WHERE alias.home = one.home AND alias.other = one.home
          AND alias.t_to = {live}))"""


def apart(one: str = "", two: str = "") -> str:
    """Whether a Patient of the home of a Patient r shares no key of kind 1 with any other of the
    home. One Patient in a home is the rule, and costs one look at the range of the home's Patients.

    `one` and `two` are what must hold of these rows besides: that the caller sees both.
    """
    seen = "".join(f" AND ({rule})" for rule in (one, two) if rule)
    counts = _COUNTS.format("one") + _COUNTS.format("two")
    return _APART.format(counts=counts, seen=seen, live=_LIVE)


APART = apart()
