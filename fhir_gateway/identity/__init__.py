"""Identity: several Patient records, one person."""
