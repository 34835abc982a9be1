-- Chains and _has follow references from row to row: px.v1 of a reference is the 64-bit key of
-- "Type/id", and a resource is found by the same key. Existing rows are given theirs in pieces
-- before the next migration (store/backfill.py).
ALTER TABLE resource ADD COLUMN key INTEGER NOT NULL DEFAULT 0;
