-- The audit log over the journal: an RFC 9162 tree in tiles of 256 hashes (C2SP tlog-tiles), its
-- signed heads, and who may sign. A leaf's index is its rank in the order (t, n, i): a tile names
-- the place of its first leaf, so that no row a leaf is needed. Reasons: docs/adr/0039.
CREATE TABLE log_seat (         -- one row, none at first: the process that numbers and signs
    one    BIGINT PRIMARY KEY CHECK (one = 1),
    holder TEXT COLLATE "C" NOT NULL,
    fence  BIGINT NOT NULL,         -- raised with every change of the holder
    until  BIGINT NOT NULL,         -- its lease, microseconds
    alarm  TEXT COLLATE "C" NOT NULL -- why nothing is signed, '' while all is well
);
CREATE TABLE log_tile (         -- hashes of leaves (level 0) and of whole tiles below (1, 2, …)
    number BIGINT NOT NULL, level BIGINT NOT NULL,
    t BIGINT NOT NULL, n BIGINT NOT NULL, i BIGINT NOT NULL, -- level 0: the first leaf's place
    hashes BYTEA NOT NULL,
    PRIMARY KEY (number, level)
);
ALTER TABLE log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL; -- hashes cannot be compressed
CREATE INDEX log_tile_place ON log_tile (t, n, i) WHERE level = 0;
CREATE TABLE log_head (         -- signed heads (C2SP tlog-checkpoint), one for each size
    size BIGINT PRIMARY KEY,
    t BIGINT NOT NULL, n BIGINT NOT NULL, i BIGINT NOT NULL, -- the last leaf's place
    signed BIGINT NOT NULL,         -- when, seconds since 1970 UTC
    note TEXT COLLATE "C" NOT NULL, -- the checkpoint with its signatures, as it is served
    beat TEXT COLLATE "C" NOT NULL  -- a later signature of the same head: the log was alive then
);
CREATE TABLE log_turn (         -- signed statements: the log began, changed its key, was recovered
    ordinal BIGINT PRIMARY KEY,
    size    BIGINT NOT NULL,        -- larger heads are signed as the statement says
    kind    TEXT COLLATE "C" NOT NULL, -- begin, key, recovery
    note    TEXT COLLATE "C" NOT NULL,
    event   TEXT COLLATE "C" NOT NULL -- the AuditEvent that tells of it in the log itself
);
