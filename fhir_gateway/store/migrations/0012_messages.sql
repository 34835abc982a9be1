-- What came in by each door, and what became of it (docs/messages.md). A row is one content under
-- one once key at one institution: sent again it is the same row. `state` is '' or, for what was
-- refused and is to be looked after, open, and then retried, overtaken or aside.
CREATE TABLE message (
    id BLOB PRIMARY KEY, institution TEXT NOT NULL, door TEXT NOT NULL, kind TEXT NOT NULL,
    name TEXT NOT NULL, key BLOB NOT NULL, hash BLOB NOT NULL, size INTEGER NOT NULL,
    outcome TEXT NOT NULL, code TEXT NOT NULL, rule TEXT NOT NULL, issues BLOB NOT NULL,
    ack BLOB NOT NULL, stated INTEGER NOT NULL, issued INTEGER NOT NULL,
    received INTEGER NOT NULL,      -- first time, µs
    last INTEGER NOT NULL, attempts INTEGER NOT NULL,
    state TEXT NOT NULL, settled INTEGER NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL,
    t INTEGER NOT NULL, n INTEGER NOT NULL
) STRICT;
CREATE INDEX message_time ON message (institution, received, id);
CREATE INDEX message_name ON message (institution, name);
CREATE INDEX message_key ON message (key);
CREATE INDEX message_open ON message (institution, rule, received, id) WHERE state = 'open';

CREATE TABLE refused (          -- bytes of what was refused: the oldest go when there is no room
    hash BLOB PRIMARY KEY, institution TEXT NOT NULL, at INTEGER NOT NULL, size INTEGER NOT NULL,
    media TEXT NOT NULL, enc INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX refused_time ON refused (institution, at, size, hash);

CREATE TABLE message_count (    -- counters, kept in the commit of each message
    institution TEXT NOT NULL, door TEXT NOT NULL, kind TEXT NOT NULL,
    received INTEGER NOT NULL, stored INTEGER NOT NULL, flagged INTEGER NOT NULL,
    refused INTEGER NOT NULL, repeated INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (institution, door, kind)
) STRICT, WITHOUT ROWID;
