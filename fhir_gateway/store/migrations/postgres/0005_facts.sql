-- What few facts say, packed into one text (recognition/facts_more.py, docs/adr/0028), and what a
-- report says for all its results. Rows from before say nothing; they stay as decisions read them.
-- The keys are built again, so that facts are still read from their index alone.
ALTER TABLE fact ADD COLUMN more TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE fact DROP CONSTRAINT fact_pkey;
ALTER TABLE fact ADD PRIMARY KEY (home, item, time, rid, t_from, ordinal) INCLUDE (
    t_to, version, time_high, issued, kind, status, issuer, specimen, unit, method, value,
    laterality, flags, mark, source, patient, result, owner, sensitivity, more);
ALTER TABLE result_of ADD COLUMN more TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE result_of DROP CONSTRAINT result_of_pkey;
ALTER TABLE result_of ADD PRIMARY KEY (home, result, rid, t_from) INCLUDE (
    t_to, status, issued, source, more);
