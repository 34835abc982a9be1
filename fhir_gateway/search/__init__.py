"""FHIR search as data: syntax (params), meaning (plan), index rows (index), paging (page)."""
