"""FHIR R4 (4.0.1) as pure functions: definitions, parsing, validation, FHIRPath, rendering."""
