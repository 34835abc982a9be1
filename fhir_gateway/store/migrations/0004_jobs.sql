-- Jobs belong to whoever asked for them, keep where they are to be taken up again, and end.
ALTER TABLE job ADD COLUMN owner TEXT NOT NULL DEFAULT '';       -- logical id of the institution
ALTER TABLE job ADD COLUMN checkpoint TEXT NOT NULL DEFAULT '';  -- JSON of the kind's own
ALTER TABLE job ADD COLUMN expires INTEGER NOT NULL DEFAULT 0;   -- 0: not yet known
CREATE INDEX job_owner ON job (owner, state);
