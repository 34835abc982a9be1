-- By key alone: what a reference names may live in any home.
CREATE INDEX resource_key ON resource (key);
