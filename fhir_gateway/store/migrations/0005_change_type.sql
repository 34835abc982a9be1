-- The history of one type, and what of it changed since, without reading all others.
CREATE INDEX change_type ON change (type, t, n, i);
-- Few rows: what an export lists as deleted.
CREATE INDEX change_deleted ON change (type, t, n, i) WHERE op = 'delete';
