"""The figures of docs/performance.md: a seeded store, a load from the same machine, a floor."""
