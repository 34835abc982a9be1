"""The store room: the only input and output of data. See docs/architecture.md, section 5."""
