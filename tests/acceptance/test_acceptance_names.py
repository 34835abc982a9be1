"""A refusal names the parameter that was sent, not a word out of its value."""

from __future__ import annotations

import pytest

REFUSED = {
    "Patient?_sort=nonsense": "_sort",
    "Patient?_sort=identifier": "_sort",
    "Patient?_sort=-telecom": "_sort",
    "Patient?_elements=nonsense": "_elements",
    "Patient?_include=Nonsense:x": "_include",
    "Patient?_include=Patient:nonsense": "_include",
    "Patient?_include:iterate=*": "_include",
    "Patient?_revinclude=*": "_revinclude",
    "Patient?_revinclude=Nonsense:x": "_revinclude",
    "PlanDefinition?_include=PlanDefinition:definition": "_include",
    "Patient?_has:Nonsense:patient:code=x": "_has",
    "Patient?_has:Observation:nonsense:code=x": "_has",
    "Patient?_total=perhaps": "_total",
    "Patient?nonsense=x": "nonsense",
    "Patient?name:nonsense=x": "name:nonsense",
    "Patient?_text=x": "_text",
}


@pytest.mark.parametrize("url", REFUSED)
def test_a_refused_search_names_its_parameter(client, url: str) -> None:
    answer = client.get(f"/fhir/{url}")
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["expression"] == [REFUSED[url]]


def test_a_read_that_names_no_element_names_the_parameter(client) -> None:
    answer = client.get("/fhir/Patient/x?_elements=nonsense")
    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["_elements"])
