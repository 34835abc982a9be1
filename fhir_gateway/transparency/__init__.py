"""Transparency: numbers, signs, serves and checks the audit log (RFC 9162, C2SP tlog-tiles)."""
