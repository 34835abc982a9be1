-- What came in by each door, and what became of it (docs/messages.md). A row is one content under
-- one once key at one institution: sent again it is the same row. `state` is '' or, for what was
-- refused and is to be looked after, open, and then retried, overtaken or aside.
CREATE TABLE message (
    id BYTEA PRIMARY KEY, institution TEXT COLLATE "C" NOT NULL, door TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL, name TEXT COLLATE "C" NOT NULL, key BYTEA NOT NULL,
    hash BYTEA NOT NULL, size BIGINT NOT NULL, outcome TEXT COLLATE "C" NOT NULL,
    code TEXT COLLATE "C" NOT NULL, rule TEXT COLLATE "C" NOT NULL, issues BYTEA NOT NULL,
    ack BYTEA NOT NULL, stated BIGINT NOT NULL, issued BIGINT NOT NULL, received BIGINT NOT NULL,
    last BIGINT NOT NULL, attempts BIGINT NOT NULL, state TEXT COLLATE "C" NOT NULL,
    settled BIGINT NOT NULL, who TEXT COLLATE "C" NOT NULL, reason TEXT COLLATE "C" NOT NULL,
    t BIGINT NOT NULL, n BIGINT NOT NULL
);
CREATE INDEX message_time ON message (institution, received, id);
CREATE INDEX message_name ON message (institution, name);
CREATE INDEX message_key ON message (key);
CREATE INDEX message_open ON message (institution, rule, received, id) WHERE state = 'open';

CREATE TABLE refused (
    hash BYTEA PRIMARY KEY, institution TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL,
    size BIGINT NOT NULL, media TEXT COLLATE "C" NOT NULL, enc BIGINT NOT NULL, body BYTEA NOT NULL
);
CREATE INDEX refused_time ON refused (institution, at, size, hash);

CREATE TABLE message_count (
    institution TEXT COLLATE "C" NOT NULL, door TEXT COLLATE "C" NOT NULL,
    kind TEXT COLLATE "C" NOT NULL, received BIGINT NOT NULL, stored BIGINT NOT NULL,
    flagged BIGINT NOT NULL, refused BIGINT NOT NULL, repeated BIGINT NOT NULL,
    last BIGINT NOT NULL, PRIMARY KEY (institution, door, kind)
);
