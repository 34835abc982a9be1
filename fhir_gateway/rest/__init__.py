"""The REST door: FHIR R4 over HTTP, JSON only (hl7.org/fhir/R4/http.html)."""
