"""One module per type of search parameter: how a value becomes rows, how a query a condition.

Both stand side by side so that they always agree (hl7.org/fhir/R4/search.html, 3.1.1.4.5 on).
"""
