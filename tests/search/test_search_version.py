"""The version of the index is another one whenever the rows of a resource are."""

from __future__ import annotations

import json

from search_samples import DIGESTS, SECRET, digests, full

from fhir_gateway.fhir.definitions import definitions
from fhir_gateway.search.index import Extractor
from fhir_gateway.search.registry import COLUMNS, searchables
from fhir_gateway.search.version import INDEX_VERSION


def test_rows_are_those_of_the_version() -> None:
    """When this fails, stores in use lack the new rows: raise INDEX_VERSION in
    fhir_gateway/search/version.py, so that they are brought up to date, and run
    `python tests/search/search_samples.py`.
    """
    kept = json.loads(DIGESTS.read_text())
    found = digests()
    other = sorted(name for name in found if found[name] != kept["digests"].get(name))
    assert (kept["version"], other) == (INDEX_VERSION, [])
    assert set(found) == set(kept["digests"])


def test_the_samples_reach_the_search_parameters() -> None:
    """Nearly every parameter of every type has a row of its own in the samples."""
    extractor = Extractor(SECRET)
    count = reached = 0
    for type in definitions().resource_types:
        rows = extractor.rows(type, full(type))
        numbers = {row[0] for row in (*rows.ints, *rows.texts)}
        for code, one in searchables(type).items():
            if code in COLUMNS or one.refused or one.flat or one.parts != (code,):
                continue
            if one.kind == "composite":
                continue
            count += 1
            reached += bool(numbers & {one.number, one.exact_number, one.present_number})
    assert reached > 0.95 * count
    assert count > 1_000
