"""Floor 1, mapping: what other standards send, as FHIR resources. Pure, driven by tables."""
