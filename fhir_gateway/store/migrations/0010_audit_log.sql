-- The audit log over the journal: an RFC 9162 tree in tiles of 256 hashes (C2SP tlog-tiles), its
-- signed heads, and who may sign. A leaf's index is its rank in the order (t, n, i): a tile names
-- the place of its first leaf, so that no row a leaf is needed. Reasons: docs/adr/0039.
CREATE TABLE log_seat (         -- one row, none at first: the process that numbers and signs
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    holder TEXT NOT NULL,
    fence  INTEGER NOT NULL,        -- raised with every change of the holder
    until  INTEGER NOT NULL,        -- its lease, microseconds
    alarm  TEXT NOT NULL            -- why nothing is signed, '' while all is well
) STRICT;
CREATE TABLE log_tile (         -- hashes of leaves (level 0) and of whole tiles below (1, 2, …)
    number INTEGER NOT NULL, level INTEGER NOT NULL,
    t INTEGER NOT NULL, n INTEGER NOT NULL, i INTEGER NOT NULL, -- level 0: the first leaf's place
    hashes BLOB NOT NULL,
    PRIMARY KEY (number, level)
) STRICT, WITHOUT ROWID;
CREATE INDEX log_tile_place ON log_tile (t, n, i) WHERE level = 0;
CREATE TABLE log_head (         -- signed heads (C2SP tlog-checkpoint), one for each size
    size INTEGER PRIMARY KEY,
    t INTEGER NOT NULL, n INTEGER NOT NULL, i INTEGER NOT NULL, -- the last leaf's place
    signed INTEGER NOT NULL,        -- when, seconds since 1970 UTC
    note TEXT NOT NULL,             -- the checkpoint with its signatures, as it is served
    beat TEXT NOT NULL              -- a later signature of the same head: the log was alive then
) STRICT;
CREATE TABLE log_turn (         -- signed statements: the log began, changed its key, was recovered
    ordinal INTEGER PRIMARY KEY,
    size    INTEGER NOT NULL,       -- larger heads are signed as the statement says
    kind    TEXT NOT NULL,          -- begin, key, recovery
    note    TEXT NOT NULL,
    event   TEXT NOT NULL           -- the AuditEvent that tells of it in the log itself
) STRICT;
