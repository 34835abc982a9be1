-- The history of one type, and what of it changed since, without reading all others.
CREATE INDEX change_type ON change (type, t, n, i);
