-- Which version of the gateway the derived rows are of (search/version.py). Stores from before have
-- rows of no known version: 0.
ALTER TABLE clock ADD COLUMN indexed INTEGER NOT NULL DEFAULT 0;   -- all resources have these rows
ALTER TABLE clock ADD COLUMN indexing INTEGER NOT NULL DEFAULT 0;  -- what is stored now gets these
