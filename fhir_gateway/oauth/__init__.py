"""Floor 5: the door where systems ask for tokens, and where it is said how (SMART, OAuth 2.0)."""
