"""The verbs of FHIR, one function each, free of HTTP (hl7.org/fhir/R4/http.html)."""
