-- What few facts say, packed into one text (recognition/facts_more.py, docs/adr/0028), and what a
-- report says for all its results. Rows from before say nothing; they stay as decisions read them.
ALTER TABLE fact ADD COLUMN more TEXT NOT NULL DEFAULT '';
ALTER TABLE result_of ADD COLUMN more TEXT NOT NULL DEFAULT '';
