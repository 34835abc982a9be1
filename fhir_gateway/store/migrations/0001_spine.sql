-- The first schema. Times are microseconds since 1970 UTC, keys of names are 64-bit hashes,
-- every patient-bound table leads with `home`. Reasons: docs/architecture.md, section 5.

CREATE TABLE clock (            -- one row: the only clock of the database
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    t          INTEGER NOT NULL,    -- number of the last batch
    epoch      INTEGER NOT NULL,    -- raised by definitions, rule sets, registers, consents
    updated    INTEGER NOT NULL,    -- time of the last batch, never backwards
    rid        INTEGER NOT NULL,    -- last resource number given
    home       INTEGER NOT NULL,    -- last person home given
    drained_t  INTEGER NOT NULL,    -- journal rows up to (t, n, i) have index rows
    drained_n  INTEGER NOT NULL,
    drained_i  INTEGER NOT NULL,
    index_key  BLOB NOT NULL
) STRICT;

CREATE TABLE locator (          -- global key: where a resource lives
    type INTEGER NOT NULL,
    id   TEXT NOT NULL,
    home INTEGER NOT NULL,
    rid  INTEGER NOT NULL,
    PRIMARY KEY (type, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE resource (         -- current versions, a person's rows side by side
    home        INTEGER NOT NULL,
    type        INTEGER NOT NULL,
    rid         INTEGER NOT NULL,
    id          TEXT NOT NULL,
    version     INTEGER NOT NULL,
    t           INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    updated     INTEGER NOT NULL,
    deleted     INTEGER NOT NULL,
    owner       INTEGER NOT NULL,   -- acl: owning institution, 0 for none
    sensitivity INTEGER NOT NULL,   -- acl: sensitivity class
    patient     TEXT,               -- logical id of the Patient the row names
    source      BLOB,               -- hash of the received bytes
    enc         INTEGER NOT NULL,   -- 0 raw, 1 zstd with the shipped dictionary, 9 in the journal
    body        BLOB,
    PRIMARY KEY (home, type, rid)
) STRICT, WITHOUT ROWID;
CREATE INDEX resource_type ON resource (type, rid);

CREATE TABLE version (          -- superseded versions
    home INTEGER NOT NULL, rid INTEGER NOT NULL, version INTEGER NOT NULL,
    t INTEGER NOT NULL, n INTEGER NOT NULL, updated INTEGER NOT NULL,
    deleted INTEGER NOT NULL, owner INTEGER NOT NULL, sensitivity INTEGER NOT NULL,
    source BLOB, enc INTEGER NOT NULL, body BLOB,
    PRIMARY KEY (home, rid, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE px (               -- index of a home: numbers and hashes
    home INTEGER NOT NULL, parameter INTEGER NOT NULL,
    v1 INTEGER NOT NULL, v2 INTEGER NOT NULL, rid INTEGER NOT NULL,
    PRIMARY KEY (home, parameter, v1, v2, rid)
) STRICT, WITHOUT ROWID;
CREATE TABLE px_text (          -- index of a home: folded strings and uris
    home INTEGER NOT NULL, parameter INTEGER NOT NULL,
    text TEXT NOT NULL, rid INTEGER NOT NULL,
    PRIMARY KEY (home, parameter, text, rid)
) STRICT, WITHOUT ROWID;
-- An update removes a resource's old rows by a scan of its home; homes that are shared by many
-- resources (0 and institutions') have an index for it. Every gx row mirrors a px row.
CREATE INDEX px_shared ON px (home, rid) WHERE home <= 0;
CREATE INDEX px_text_shared ON px_text (home, rid) WHERE home <= 0;
CREATE TABLE gx (               -- small global index: identifiers, references between home-0 types
    parameter INTEGER NOT NULL, v1 INTEGER NOT NULL, v2 INTEGER NOT NULL,
    home INTEGER NOT NULL, rid INTEGER NOT NULL,
    PRIMARY KEY (parameter, v1, v2, home, rid)
) STRICT, WITHOUT ROWID;
CREATE TABLE gx_text (          -- small global index: names, canonical urls
    parameter INTEGER NOT NULL, text TEXT NOT NULL,
    home INTEGER NOT NULL, rid INTEGER NOT NULL,
    PRIMARY KEY (parameter, text, home, rid)
) STRICT, WITHOUT ROWID;

CREATE TABLE fact (             -- recognition facts: one covering row each
    home INTEGER NOT NULL, item TEXT NOT NULL, time INTEGER NOT NULL, rid INTEGER NOT NULL,
    t_from INTEGER NOT NULL, ordinal INTEGER NOT NULL,  -- a resource may say two of one item
    t_to INTEGER NOT NULL, version INTEGER NOT NULL,
    time_high INTEGER NOT NULL, issued INTEGER NOT NULL, kind TEXT NOT NULL,
    status TEXT NOT NULL, issuer TEXT NOT NULL, specimen TEXT NOT NULL, unit TEXT NOT NULL,
    method TEXT NOT NULL, value TEXT NOT NULL, laterality TEXT NOT NULL, flags INTEGER NOT NULL,
    mark TEXT NOT NULL, source TEXT NOT NULL, patient TEXT NOT NULL,
    result INTEGER NOT NULL,        -- key64 of source, joins result_of
    owner INTEGER NOT NULL, sensitivity INTEGER NOT NULL,
    PRIMARY KEY (home, item, time DESC, rid, t_from, ordinal)
) STRICT, WITHOUT ROWID;
CREATE TABLE result_of (        -- which report carries a result, and that report's status
    home INTEGER NOT NULL, result INTEGER NOT NULL, rid INTEGER NOT NULL,
    t_from INTEGER NOT NULL, t_to INTEGER NOT NULL,
    status TEXT NOT NULL, issued INTEGER NOT NULL, source TEXT NOT NULL,
    PRIMARY KEY (home, result, rid, t_from)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluation (       -- register of quality evaluations
    institution TEXT NOT NULL, item TEXT NOT NULL, rid INTEGER NOT NULL, ordinal INTEGER NOT NULL,
    t_from INTEGER NOT NULL, t_to INTEGER NOT NULL,
    area TEXT NOT NULL, "start" TEXT NOT NULL, "end" TEXT NOT NULL, passed INTEGER NOT NULL,
    evaluator TEXT NOT NULL, round TEXT NOT NULL,
    PRIMARY KEY (institution, item, rid, ordinal, t_from)
) STRICT, WITHOUT ROWID;
CREATE INDEX evaluation_rid ON evaluation (rid);

CREATE TABLE identity (         -- keyed identity of persons; kind 1 document and name, 2 document
    key BLOB NOT NULL, kind INTEGER NOT NULL, home INTEGER NOT NULL, rid INTEGER NOT NULL,
    PRIMARY KEY (key, kind, home, rid)
) STRICT, WITHOUT ROWID;
CREATE INDEX identity_rid ON identity (rid);

CREATE TABLE change (           -- append-only change log: history, _since, export, notification
    t INTEGER NOT NULL, n INTEGER NOT NULL, i INTEGER NOT NULL,
    home INTEGER NOT NULL, type INTEGER NOT NULL, rid INTEGER NOT NULL,
    version INTEGER NOT NULL, op TEXT NOT NULL,
    PRIMARY KEY (t, n, i)
) STRICT, WITHOUT ROWID;

CREATE TABLE journal (          -- append-only: AuditEvent and GuidanceResponse
    t INTEGER NOT NULL, n INTEGER NOT NULL, i INTEGER NOT NULL,
    type INTEGER NOT NULL, id TEXT NOT NULL, home INTEGER NOT NULL, updated INTEGER NOT NULL,
    patient TEXT,                   -- logical id of the Patient the act concerns
    owner INTEGER NOT NULL, nonce BLOB NOT NULL, leaf BLOB NOT NULL,
    enc INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (t, n, i)
) STRICT, WITHOUT ROWID;
CREATE TABLE journal_home (
    home INTEGER NOT NULL, t INTEGER NOT NULL, n INTEGER NOT NULL, i INTEGER NOT NULL,
    PRIMARY KEY (home, t, n, i)
) STRICT, WITHOUT ROWID;

CREATE TABLE change_set (       -- ids of judged change sets, kept for a day: safe to send again
    t INTEGER NOT NULL, n INTEGER NOT NULL, id BLOB NOT NULL UNIQUE,
    updated INTEGER NOT NULL, outcome BLOB NOT NULL,
    PRIMARY KEY (t, n)
) STRICT, WITHOUT ROWID;
CREATE TABLE once (             -- answers to repeats, and business keys that may be used once
    kind TEXT NOT NULL, key BLOB NOT NULL, t INTEGER NOT NULL, n INTEGER NOT NULL,
    updated INTEGER NOT NULL, response BLOB NOT NULL,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE counter (
    key BLOB PRIMARY KEY, k INTEGER NOT NULL CHECK (k >= 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE received (
    hash BLOB PRIMARY KEY, media TEXT NOT NULL, at INTEGER NOT NULL,
    enc INTEGER NOT NULL, body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE seen (             -- newest commit of each sending institution
    institution TEXT PRIMARY KEY, updated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE credential (
    hash BLOB PRIMARY KEY, institution TEXT NOT NULL, active INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX credential_institution ON credential (institution);
CREATE TABLE job (              -- long work: leased, resumable, fenced
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, state TEXT NOT NULL, payload TEXT NOT NULL,
    progress TEXT NOT NULL, attempts INTEGER NOT NULL, fence INTEGER NOT NULL,
    lease_until INTEGER NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX job_due ON job (kind, state, lease_until);
