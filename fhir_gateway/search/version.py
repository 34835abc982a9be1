"""The version of what is derived from a resource when it is stored.

Search rows, and beside them facts, report links, identity keys and rows of the register. The number
is raised whenever a stored resource would get other rows than before; a test compares the rows of
sample resources with those of the number, so that it cannot be forgotten. A store says which
version its rows have (`store/index_version.py`), and how it is brought up to date is in
docs/operate.md, section Upgrade.
"""

from __future__ import annotations

#: 1: every search parameter of R4, with texts of tokens, UCUM base units, pinyin and composites.
INDEX_VERSION = 1
