"""Accountability: who looked at a person's data, who was handed them, how long things are kept."""
