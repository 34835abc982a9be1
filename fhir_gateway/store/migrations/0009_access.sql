-- Who may look into a person's home (docs/adr/0036-sight-in-the-store.md). Rows are never deleted,
-- only ended, and hold from `since` until before `until` (µs) besides.
--
-- An opening is a treatment relation of a party (an owner key), or an emergency: grade 1 opens
-- ordinary rows, 2 all. `source` is key64 of the resource that says so; `rid` is that resource, 0
-- where none stands for it.
CREATE TABLE opening (
    home INTEGER NOT NULL, party INTEGER NOT NULL, kind TEXT NOT NULL, source INTEGER NOT NULL,
    ordinal INTEGER NOT NULL, t_from INTEGER NOT NULL, t_to INTEGER NOT NULL,
    rid INTEGER NOT NULL, grade INTEGER NOT NULL, since INTEGER NOT NULL, "until" INTEGER NOT NULL,
    PRIMARY KEY (home, party, kind, source, ordinal, t_from)
) STRICT, WITHOUT ROWID;
-- What a person permits or denies: to a party (0 everybody), of an owner's rows (0 everybody's), of
-- a sensitivity class (-1 all).
CREATE TABLE consent (
    home INTEGER NOT NULL, party INTEGER NOT NULL, owner INTEGER NOT NULL, class INTEGER NOT NULL,
    rid INTEGER NOT NULL, ordinal INTEGER NOT NULL, t_from INTEGER NOT NULL, t_to INTEGER NOT NULL,
    rank INTEGER NOT NULL, permit INTEGER NOT NULL, since INTEGER NOT NULL,
    "until" INTEGER NOT NULL,
    PRIMARY KEY (home, party, owner, class, rid, ordinal, t_from)
) STRICT, WITHOUT ROWID;
-- Whose the report is that carries a result, and of which class: a result may be seen where its
-- report may not. Rows from before say nobody's and ordinary until all is indexed again.
ALTER TABLE result_of ADD COLUMN owner INTEGER NOT NULL DEFAULT 0;
ALTER TABLE result_of ADD COLUMN sensitivity INTEGER NOT NULL DEFAULT 0;
