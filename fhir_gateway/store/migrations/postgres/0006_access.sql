-- Who may look into a person's home (docs/adr/0036-sight-in-the-store.md). Rows are never deleted,
-- only ended, and hold from `since` until before `until` (µs) besides. The tables are looked at by
-- (home, party) from other rows: not partitioned, one index holds all that is asked.
--
-- An opening is a treatment relation of a party (an owner key), or an emergency: grade 1 opens
-- ordinary rows, 2 all. `source` is key64 of the resource that says so; `rid` is that resource, 0
-- where none stands for it.
CREATE TABLE opening (
    home BIGINT NOT NULL, party BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL,
    source BIGINT NOT NULL, ordinal BIGINT NOT NULL, t_from BIGINT NOT NULL, t_to BIGINT NOT NULL,
    rid BIGINT NOT NULL, grade BIGINT NOT NULL, since BIGINT NOT NULL, "until" BIGINT NOT NULL,
    PRIMARY KEY (home, party, kind, source, ordinal, t_from)
        INCLUDE (t_to, rid, grade, since, "until")
);
-- What a person permits or denies: to a party (0 everybody), of an owner's rows (0 everybody's), of
-- a sensitivity class (-1 all).
CREATE TABLE consent (
    home BIGINT NOT NULL, party BIGINT NOT NULL, owner BIGINT NOT NULL, class BIGINT NOT NULL,
    rid BIGINT NOT NULL, ordinal BIGINT NOT NULL, t_from BIGINT NOT NULL, t_to BIGINT NOT NULL,
    rank BIGINT NOT NULL, permit BIGINT NOT NULL, since BIGINT NOT NULL, "until" BIGINT NOT NULL,
    PRIMARY KEY (home, party, owner, class, rid, ordinal, t_from)
        INCLUDE (t_to, rank, permit, since, "until")
);
-- Whose the report is that carries a result, and of which class: a result may be seen where its
-- report may not. Rows from before say nobody's and ordinary until all is indexed again.
ALTER TABLE result_of ADD COLUMN owner BIGINT NOT NULL DEFAULT 0;
ALTER TABLE result_of ADD COLUMN sensitivity BIGINT NOT NULL DEFAULT 0;
ALTER TABLE result_of DROP CONSTRAINT result_of_pkey;
ALTER TABLE result_of ADD PRIMARY KEY (home, result, rid, t_from) INCLUDE (
    t_to, status, issued, source, more, owner, sensitivity);
