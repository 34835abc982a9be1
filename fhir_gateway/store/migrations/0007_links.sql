-- One person, several homes (docs/adr/0026). What a link, a merge or a shared document says of two
-- homes, in both directions; never deleted, only ended. `source` is key64 of the resource that says
-- so ("Linkage/x", "Patient/y"), 0 where two homes share the key of a document with a name.
CREATE TABLE alias (
    home INTEGER NOT NULL, other INTEGER NOT NULL, cause TEXT NOT NULL, source INTEGER NOT NULL,
    t_from INTEGER NOT NULL, t_to INTEGER NOT NULL,
    PRIMARY KEY (home, other, cause, source, t_from)
) STRICT, WITHOUT ROWID;
CREATE INDEX alias_source ON alias (source) WHERE source <> 0;
-- Who is who: `person` is the smallest home of all that live aliases connect. A home without a row
-- stands for itself.
CREATE TABLE person (
    home INTEGER NOT NULL, t_from INTEGER NOT NULL, person INTEGER NOT NULL, t_to INTEGER NOT NULL,
    PRIMARY KEY (home, t_from)
) STRICT, WITHOUT ROWID;
CREATE INDEX person_person ON person (person, t_from);
-- Open proposals that two homes are one person's, in both directions; `source` is of the Task.
CREATE TABLE proposal (
    home INTEGER NOT NULL, other INTEGER NOT NULL, grade TEXT NOT NULL, source INTEGER NOT NULL,
    t_from INTEGER NOT NULL, t_to INTEGER NOT NULL,
    PRIMARY KEY (home, other, grade, source, t_from)
) STRICT, WITHOUT ROWID;
CREATE INDEX proposal_source ON proposal (source);
