-- The schema of the PostgreSQL driver: the tables and columns of the SQLite driver (a test compares
-- them). Times are microseconds since 1970 UTC, keys of names are 64-bit hashes, integers are BIGINT
-- throughout, texts compare byte by byte (COLLATE "C"). Reasons: docs/architecture.md, section 5.
--
-- What belongs to a patient leads with `home` and is hash-partitioned by it, in 8 parts: a part's
-- indexes stay a level lower and in memory for longer, vacuum works on one part at a time and on
-- several at once, and nothing here has to change when homes are spread over servers. More parts
-- would cost every plan that names no home. Global tables lead with their own key and are whole:
-- each is found by that key alone, so parts would save nothing.
--
-- A B-tree entry holds 2,704 bytes at most, and a text may be longer: texts are indexed by their
-- first 128 characters. A statement that looks for a text says left(text, 128) = left($1, 128) too.

CREATE TABLE clock (            -- one row: the only clock of the database
    one        BIGINT PRIMARY KEY CHECK (one = 1),
    t          BIGINT NOT NULL,     -- number of the last batch
    epoch      BIGINT NOT NULL,     -- raised by definitions, rule sets, registers, consents
    updated    BIGINT NOT NULL,     -- time of the last batch, never backwards
    rid        BIGINT NOT NULL,     -- last resource number given
    home       BIGINT NOT NULL,     -- last person home given
    drained_t  BIGINT NOT NULL,     -- journal rows up to (t, n, i) have index rows
    drained_n  BIGINT NOT NULL,
    drained_i  BIGINT NOT NULL,
    index_key  BYTEA NOT NULL
);

CREATE TABLE locator (          -- global key: where a resource lives
    type BIGINT NOT NULL,
    id   TEXT COLLATE "C" NOT NULL,
    home BIGINT NOT NULL,
    rid  BIGINT NOT NULL,
    PRIMARY KEY (type, id) INCLUDE (home, rid)
);

CREATE TABLE resource (         -- current versions
    home        BIGINT NOT NULL,
    type        BIGINT NOT NULL,
    rid         BIGINT NOT NULL,
    id          TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    t           BIGINT NOT NULL,
    n           BIGINT NOT NULL,
    updated     BIGINT NOT NULL,
    deleted     BIGINT NOT NULL,
    owner       BIGINT NOT NULL,    -- acl: owning institution, 0 for none
    sensitivity BIGINT NOT NULL,    -- acl: sensitivity class
    patient     TEXT COLLATE "C",   -- logical id of the Patient the row names
    source      BYTEA,              -- hash of the received bytes
    enc         BIGINT NOT NULL,    -- 0 raw, 1 zstd with the shipped dictionary, 9 in the journal
    body        BYTEA,
    key         BIGINT NOT NULL,    -- key64 of "Type/id": what a reference's row carries in px.v1
    PRIMARY KEY (home, type, rid)
) PARTITION BY HASH (home);
CREATE INDEX resource_type ON resource (type, rid);
CREATE INDEX resource_key ON resource (key);

CREATE TABLE version (          -- superseded versions
    home BIGINT NOT NULL, rid BIGINT NOT NULL, version BIGINT NOT NULL,
    t BIGINT NOT NULL, n BIGINT NOT NULL, updated BIGINT NOT NULL,
    deleted BIGINT NOT NULL, owner BIGINT NOT NULL, sensitivity BIGINT NOT NULL,
    source BYTEA, enc BIGINT NOT NULL, body BYTEA,
    PRIMARY KEY (home, rid, version)
) PARTITION BY HASH (home);

CREATE TABLE px (               -- index of a home: numbers and hashes
    home BIGINT NOT NULL, parameter BIGINT NOT NULL,
    v1 BIGINT NOT NULL, v2 BIGINT NOT NULL, rid BIGINT NOT NULL,
    PRIMARY KEY (home, parameter, v1, v2, rid)
) PARTITION BY HASH (home);
CREATE TABLE px_text (          -- index of a home: folded strings and uris, each row once
    home BIGINT NOT NULL, parameter BIGINT NOT NULL,
    text TEXT COLLATE "C" NOT NULL, rid BIGINT NOT NULL
) PARTITION BY HASH (home);
CREATE INDEX px_text_text ON px_text (home, parameter, (left(text, 128)), rid);
-- An update removes a resource's old rows by a scan of its home; homes that are shared by many
-- resources (0 and institutions') have an index for it. Every gx row mirrors a px row.
CREATE INDEX px_shared ON px (home, rid) WHERE home <= 0;
CREATE INDEX px_text_shared ON px_text (home, rid) WHERE home <= 0;
CREATE TABLE gx (               -- small global index: identifiers, references between home-0 types
    parameter BIGINT NOT NULL, v1 BIGINT NOT NULL, v2 BIGINT NOT NULL,
    home BIGINT NOT NULL, rid BIGINT NOT NULL,
    PRIMARY KEY (parameter, v1, v2, home, rid)
);
CREATE TABLE gx_text (          -- small global index: names, canonical urls; each row once
    parameter BIGINT NOT NULL, text TEXT COLLATE "C" NOT NULL,
    home BIGINT NOT NULL, rid BIGINT NOT NULL
);
CREATE INDEX gx_text_text ON gx_text (parameter, (left(text, 128)), home, rid);

CREATE TABLE fact (             -- recognition facts: one covering row each
    home BIGINT NOT NULL, item TEXT COLLATE "C" NOT NULL, time BIGINT NOT NULL,
    rid BIGINT NOT NULL,
    t_from BIGINT NOT NULL, ordinal BIGINT NOT NULL,  -- a resource may say two of one item
    t_to BIGINT NOT NULL, version BIGINT NOT NULL,
    time_high BIGINT NOT NULL, issued BIGINT NOT NULL, kind TEXT COLLATE "C" NOT NULL,
    status TEXT COLLATE "C" NOT NULL, issuer TEXT COLLATE "C" NOT NULL,
    specimen TEXT COLLATE "C" NOT NULL, unit TEXT COLLATE "C" NOT NULL,
    method TEXT COLLATE "C" NOT NULL, value TEXT COLLATE "C" NOT NULL,
    laterality TEXT COLLATE "C" NOT NULL, flags BIGINT NOT NULL,
    mark TEXT COLLATE "C" NOT NULL, source TEXT COLLATE "C" NOT NULL,
    patient TEXT COLLATE "C" NOT NULL,
    result BIGINT NOT NULL,         -- key64 of source, joins result_of
    owner BIGINT NOT NULL, sensitivity BIGINT NOT NULL,
    PRIMARY KEY (home, item, time, rid, t_from, ordinal) INCLUDE (
        t_to, version, time_high, issued, kind, status, issuer, specimen, unit, method, value,
        laterality, flags, mark, source, patient, result, owner, sensitivity)
) PARTITION BY HASH (home);
CREATE TABLE result_of (        -- which report carries a result, and that report's status
    home BIGINT NOT NULL, result BIGINT NOT NULL, rid BIGINT NOT NULL,
    t_from BIGINT NOT NULL, t_to BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL, issued BIGINT NOT NULL, source TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (home, result, rid, t_from) INCLUDE (t_to, status, issued, source)
) PARTITION BY HASH (home);
CREATE TABLE evaluation (       -- register of quality evaluations
    institution TEXT COLLATE "C" NOT NULL, item TEXT COLLATE "C" NOT NULL,
    rid BIGINT NOT NULL, ordinal BIGINT NOT NULL,
    t_from BIGINT NOT NULL, t_to BIGINT NOT NULL,
    area TEXT COLLATE "C" NOT NULL, "start" TEXT COLLATE "C" NOT NULL,
    "end" TEXT COLLATE "C" NOT NULL, passed BIGINT NOT NULL,
    evaluator TEXT COLLATE "C" NOT NULL, round TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (institution, item, rid, ordinal, t_from)
);
CREATE INDEX evaluation_rid ON evaluation (rid);

CREATE TABLE identity (         -- keyed identity of persons; kind 1 document and name, 2 document
    key BYTEA NOT NULL, kind BIGINT NOT NULL, home BIGINT NOT NULL, rid BIGINT NOT NULL,
    PRIMARY KEY (key, kind, home, rid)
);
CREATE INDEX identity_rid ON identity (rid);

CREATE TABLE change (           -- append-only change log: history, _since, export, notification
    t BIGINT NOT NULL, n BIGINT NOT NULL, i BIGINT NOT NULL,
    home BIGINT NOT NULL, type BIGINT NOT NULL, rid BIGINT NOT NULL,
    version BIGINT NOT NULL, op TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (t, n, i)
);

CREATE TABLE journal (          -- append-only: AuditEvent and GuidanceResponse
    t BIGINT NOT NULL, n BIGINT NOT NULL, i BIGINT NOT NULL,
    type BIGINT NOT NULL, id TEXT COLLATE "C" NOT NULL, home BIGINT NOT NULL,
    updated BIGINT NOT NULL,
    patient TEXT COLLATE "C",       -- logical id of the Patient the act concerns
    owner BIGINT NOT NULL, nonce BYTEA NOT NULL, leaf BYTEA NOT NULL,
    enc BIGINT NOT NULL, body BYTEA NOT NULL,
    PRIMARY KEY (t, n, i)
);
CREATE TABLE journal_home (
    home BIGINT NOT NULL, t BIGINT NOT NULL, n BIGINT NOT NULL, i BIGINT NOT NULL,
    PRIMARY KEY (home, t, n, i)
) PARTITION BY HASH (home);

CREATE TABLE change_set (       -- ids of judged change sets, kept for a day: safe to send again
    t BIGINT NOT NULL, n BIGINT NOT NULL, id BYTEA NOT NULL UNIQUE,
    updated BIGINT NOT NULL, outcome BYTEA NOT NULL,
    PRIMARY KEY (t, n)
);
CREATE TABLE once (             -- answers to repeats, and business keys that may be used once
    kind TEXT COLLATE "C" NOT NULL, key BYTEA NOT NULL, t BIGINT NOT NULL, n BIGINT NOT NULL,
    updated BIGINT NOT NULL, response BYTEA NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE TABLE counter (
    key BYTEA PRIMARY KEY, k BIGINT NOT NULL CHECK (k >= 0)
) WITH (fillfactor = 50);
CREATE TABLE received (
    hash BYTEA PRIMARY KEY, media TEXT COLLATE "C" NOT NULL, at BIGINT NOT NULL,
    enc BIGINT NOT NULL, body BYTEA NOT NULL
);
CREATE TABLE seen (             -- newest commit of each sending institution
    institution TEXT COLLATE "C" PRIMARY KEY, updated BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE credential (
    hash BYTEA PRIMARY KEY, institution TEXT COLLATE "C" NOT NULL, active BIGINT NOT NULL
);
CREATE INDEX credential_institution ON credential (institution);
CREATE TABLE job (              -- long work: leased, resumable, fenced
    id TEXT COLLATE "C" PRIMARY KEY, kind TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL, payload TEXT COLLATE "C" NOT NULL,
    progress TEXT COLLATE "C" NOT NULL, attempts BIGINT NOT NULL, fence BIGINT NOT NULL,
    lease_until BIGINT NOT NULL, created BIGINT NOT NULL, updated BIGINT NOT NULL,
    owner TEXT COLLATE "C" NOT NULL, checkpoint TEXT COLLATE "C" NOT NULL, expires BIGINT NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX job_due ON job (kind, state, lease_until);
CREATE INDEX job_owner ON job (owner, state);

-- The eight parts of every table of homes. They are mostly added to: a vacuum at every twentieth
-- of growth keeps pages marked as visible to all, without which no scan is by its index alone.
DO $parts$
DECLARE
    whole TEXT;
    part TEXT;
BEGIN
    FOREACH whole IN ARRAY ARRAY[
        'resource', 'version', 'px', 'px_text', 'fact', 'result_of', 'journal_home'] LOOP
        FOR number IN 0..7 LOOP
            part := format('%s_%s', whole, number);
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS 8, REMAINDER %s)'
                ' WITH (autovacuum_vacuum_insert_scale_factor = 0.05,'
                ' autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05)',
                part, whole, number);
        END LOOP;
    END LOOP;
END
$parts$;

-- Bodies come packed: no second attempt at making them smaller.
ALTER TABLE resource ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE version ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE received ALTER COLUMN body SET STORAGE EXTERNAL;

-- One row, a new state of it with every batch: old states are cleared often. The row has no index
-- but that of `one`, so that its states chain within their page.
ALTER TABLE clock SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_threshold = 1000000);
