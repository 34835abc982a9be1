"""LOINC (loinc.org) as far as the catalogue uses it: a fragment, with LOINC's own names.

Names are unchanged from the LOINC table (terminology/loinc-names.csv), and the notice that its
licence asks for goes with them.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhir_gateway.fhir.terminology import ConceptRow
from fhir_gateway.terminology.catalogue import LOINC, Catalogue
from fhir_gateway.terminology.listed_system import ListedSystem


def loinc(catalogue: Catalogue) -> ListedSystem:
    """The codes of LOINC that the catalogue's items carry."""

    def rows() -> Iterator[ConceptRow]:
        for code, name in catalogue.loinc_names.items():
            yield ConceptRow(code, name)

    return ListedSystem(
        url=LOINC,
        title="LOINC: the codes of the catalogue",
        load=rows,
        content="fragment",
        case_sensitive=False,
        notice=next((notice for notice in catalogue.notices if "LOINC" in notice), ""),
        value_set="http://loinc.org/vs",
    )
