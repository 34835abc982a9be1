"""Who asks, and what they may touch. Pure values; the checks that use them stand with the data."""
