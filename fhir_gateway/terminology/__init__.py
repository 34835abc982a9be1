"""The catalogue of items, local codes, specimens, units, areas and national numbers. Pure."""
