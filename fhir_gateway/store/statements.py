"""The SQL of the SQLite driver: every statement that changes rows, by the table it changes.

What reads under an Access stands in `visible.py`, searches in `search_sql.py`.
"""

from __future__ import annotations

# 9223372036854775807, the largest integer, is the end of validity of what is still valid.

CLOCK = "SELECT t, epoch, updated, rid, home, indexed, indexing FROM clock"
ADVANCE = "UPDATE clock SET t = ?, epoch = ?, updated = ?, rid = ?, home = ?, indexed = ?"

# -- what is there ---------------------------------------------------------------------------

CURRENT = """
SELECT r.home, r.rid, r.version, r.deleted, r.patient, r.owner
FROM locator l JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
WHERE l.type = ? AND l.id = ?"""
CURRENTS = """
SELECT l.type, l.id, r.home, r.rid, r.version, r.deleted, r.patient, r.owner
FROM json_each(?) CROSS JOIN locator l ON l.type = value ->> 0 AND l.id = value ->> 1
CROSS JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid"""
HOME = "SELECT home FROM locator WHERE type = ? AND id = ?"
BODY = """
SELECT r.enc, r.body
FROM locator l JOIN resource r ON r.home = l.home AND r.type = l.type AND r.rid = l.rid
WHERE l.type = ? AND l.id = ?"""
HOME_OF_IDENTITY = "SELECT home FROM identity WHERE key = ? AND kind = 1 LIMIT 1"
HOMES_OF_KEY = "SELECT rid, home FROM identity WHERE key = ? AND kind = 1"
KEYS_OF_HOME = """
SELECT i.key, i.rid FROM resource r JOIN identity i ON i.rid = r.rid AND i.kind = 1
WHERE r.home = ? AND r.type = ?"""
ALIASES = """
SELECT home, other, cause, source, t_from FROM alias
WHERE home = ? AND t_to = 9223372036854775807"""
ALIASES_OF = """
SELECT home, other, cause, source, t_from FROM alias
WHERE source = ? AND source <> 0 AND t_to = 9223372036854775807"""
PROPOSALS_OF = """
SELECT home, other, grade, source, t_from FROM proposal
WHERE source = ? AND t_to = 9223372036854775807"""
PERSON = "SELECT person, t_from FROM person WHERE home = ? AND t_to = 9223372036854775807"
OPENED = """
SELECT t_from, grade, since, "until" FROM opening
WHERE home = ? AND party = ? AND kind = ? AND source = ? AND rid = 0
  AND t_to = 9223372036854775807"""
CHANGE_SET = "SELECT outcome FROM change_set WHERE id = ?"
ONCE = "SELECT t, n, updated, response FROM once WHERE kind = ? AND key = ?"
COUNTER = "SELECT k FROM counter WHERE key = ?"
MATCHES = """
SELECT DISTINCT r.id FROM gx g JOIN resource r ON r.home = g.home AND r.type = ? AND r.rid = g.rid
WHERE g.parameter = ? AND g.v1 = ? AND (?4 IS NULL OR g.v2 = ?4) AND r.deleted = 0
  AND (?5 IS NULL OR r.owner = 0 OR r.owner IN (SELECT value FROM json_each(?5))) LIMIT 5"""
CHANGED = """
SELECT EXISTS (SELECT 1 FROM change WHERE t > ?1 AND type IN (SELECT value FROM json_each(?2))
    AND (?3 IS NULL OR home IN (SELECT value FROM json_each(?3))))"""

# -- one resource ----------------------------------------------------------------------------

ADD_LOCATOR = "INSERT INTO locator (type, id, home, rid) VALUES (?, ?, ?, ?)"
ADD_RESOURCE = """
INSERT INTO resource (home, type, rid, id, version, t, n, updated, deleted, owner, sensitivity,
  patient, source, enc, body, key) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
KEEP_VERSION = """
INSERT INTO version (home, rid, version, t, n, updated, deleted, owner, sensitivity, source, enc,
  body)
SELECT home, rid, version, t, n, updated, deleted, owner, sensitivity, source, enc, body
FROM resource WHERE home = ? AND type = ? AND rid = ?"""
DROP_RESOURCE = "DELETE FROM resource WHERE home = ? AND type = ? AND rid = ?"
ADD_CHANGE = """
INSERT INTO change (t, n, i, home, type, rid, version, op) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""

# -- its index rows: the rows of shared homes are found by an index that is partial -------------

INDEX_ROWS = "SELECT parameter, v1, v2 FROM px WHERE home = ? AND rid = ?"
INDEX_TEXTS = "SELECT parameter, text FROM px_text WHERE home = ? AND rid = ?"
DROP_INDEX_ROWS = "DELETE FROM px WHERE home = ? AND rid = ?"
DROP_INDEX_TEXTS = "DELETE FROM px_text WHERE home = ? AND rid = ?"
SHARED = " AND home <= 0"
DROP_GLOBAL_ROW = """
DELETE FROM gx WHERE parameter = ? AND v1 = ? AND v2 = ? AND home = ? AND rid = ?"""
DROP_GLOBAL_TEXT = """
DELETE FROM gx_text WHERE parameter = ? AND text = ? AND home = ? AND rid = ?"""
ADD_INDEX_ROW = "INSERT OR IGNORE INTO px (home, parameter, v1, v2, rid) VALUES (?, ?, ?, ?, ?)"
ADD_INDEX_TEXT = "INSERT OR IGNORE INTO px_text (home, parameter, text, rid) VALUES (?, ?, ?, ?)"
ADD_GLOBAL_ROW = "INSERT OR IGNORE INTO gx (parameter, v1, v2, home, rid) VALUES (?, ?, ?, ?, ?)"
ADD_GLOBAL_TEXT = "INSERT OR IGNORE INTO gx_text (parameter, text, home, rid) VALUES (?, ?, ?, ?)"

# -- what it says: never deleted, only ended. A row that began in this very batch was never seen
#    by anybody and is replaced. ------------------------------------------------------------------

END_FACTS = """
UPDATE fact SET t_to = ? WHERE home = ? AND rid = ? AND t_to = 9223372036854775807"""
END_LINKS = """
UPDATE result_of SET t_to = ? WHERE home = ? AND rid = ? AND t_to = 9223372036854775807"""
END_OPENINGS = """
UPDATE opening SET t_to = ? WHERE home = ? AND rid = ? AND t_to = 9223372036854775807"""
END_CONSENTS = """
UPDATE consent SET t_to = ? WHERE home = ? AND rid = ? AND t_to = 9223372036854775807"""
END_EVALUATIONS = "UPDATE evaluation SET t_to = ? WHERE rid = ? AND t_to = 9223372036854775807"
DROP_IDENTITY = "DELETE FROM identity WHERE rid = ?"
ADD_FACT = """
INSERT OR REPLACE INTO fact (home, item, time, rid, t_from, ordinal, t_to, version, time_high,
  issued, kind, status, issuer, specimen, unit, method, value, laterality, flags, mark, source,
  patient, result, owner, sensitivity, more)
VALUES (?, ?, ?, ?, ?, ?, 9223372036854775807,
  ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
ADD_LINK = """
INSERT OR REPLACE INTO result_of (home, result, rid, t_from, t_to, status, issued, source, more,
  owner, sensitivity) VALUES (?, ?, ?, ?, 9223372036854775807, ?, ?, ?, ?, ?, ?)"""
ADD_EVALUATION = """
INSERT OR REPLACE INTO evaluation (institution, item, rid, ordinal, t_from, t_to, area, "start",
  "end", passed, evaluator, round) VALUES (?, ?, ?, ?, ?, 9223372036854775807, ?, ?, ?, ?, ?, ?)"""
ADD_ALIAS = """
INSERT OR REPLACE INTO alias (home, other, cause, source, t_from, t_to)
VALUES (?, ?, ?, ?, ?, 9223372036854775807)"""
ADD_PERSON = """
INSERT OR REPLACE INTO person (home, t_from, person, t_to)
VALUES (?, ?, ?, 9223372036854775807)"""
ADD_PROPOSAL = """
INSERT OR REPLACE INTO proposal (home, other, grade, source, t_from, t_to)
VALUES (?, ?, ?, ?, ?, 9223372036854775807)"""
ADD_OPENING = """
INSERT OR REPLACE INTO opening (home, party, kind, source, ordinal, t_from, t_to, rid, grade, since,
  "until") VALUES (?, ?, ?, ?, ?, ?, 9223372036854775807, ?, ?, ?, ?)"""
ADD_CONSENT = """
INSERT OR REPLACE INTO consent (home, party, owner, class, rid, ordinal, t_from, t_to, rank, permit,
  since, "until") VALUES (?, ?, ?, ?, ?, ?, ?, 9223372036854775807, ?, ?, ?, ?)"""
END_ALIAS = """
UPDATE alias SET t_to = ?
WHERE home = ? AND other = ? AND cause = ? AND source = ? AND t_from = ?"""
END_PERSON = "UPDATE person SET t_to = ? WHERE home = ? AND t_from = ?"
END_PROPOSAL = """
UPDATE proposal SET t_to = ?
WHERE home = ? AND other = ? AND grade = ? AND source = ? AND t_from = ?"""
END_OPENING = """
UPDATE opening SET t_to = ?
WHERE home = ? AND party = ? AND kind = ? AND source = ? AND ordinal = ? AND t_from = ?"""
EXTEND_OPENING = """
UPDATE opening SET "until" = ?
WHERE home = ? AND party = ? AND kind = ? AND source = ? AND ordinal = ? AND t_from = ?"""
END_CONSENT = """
UPDATE consent SET t_to = ?
WHERE home = ? AND party = ? AND owner = ? AND class = ? AND rid = ? AND ordinal = ?
  AND t_from = ?"""
ADD_IDENTITY = "INSERT OR IGNORE INTO identity (key, kind, home, rid) VALUES (?, ?, ?, ?)"

# -- what was derived otherwise: rows by their whole key --------------------------------------

HELD_ACL = "SELECT owner, sensitivity FROM resource WHERE home = ? AND type = ? AND rid = ?"
HELD_INTS = """
SELECT p.home, p.parameter, p.v1, p.v2, p.rid, EXISTS (
  SELECT 1 FROM gx g WHERE g.parameter = p.parameter AND g.v1 = p.v1 AND g.v2 = p.v2
    AND g.home = p.home AND g.rid = p.rid)
FROM px p WHERE p.home = ?"""
HELD_TEXTS = """
SELECT p.home, p.parameter, p.text, p.rid, EXISTS (
  SELECT 1 FROM gx_text g WHERE g.parameter = p.parameter AND g.text = p.text
    AND g.home = p.home AND g.rid = p.rid)
FROM px_text p WHERE p.home = ?"""
#: In a person's home its rows are read once, in the homes that many share by their partial index.
HELD_OF_PERSON = " AND +p.rid IN (SELECT value FROM json_each(?))"
HELD_SHARED = " AND p.rid = ? AND p.home <= 0"
HELD_FACTS = """
SELECT home, item, time, rid, t_from, ordinal, version, time_high, issued, kind, status, issuer,
  specimen, unit, method, value, laterality, flags, mark, source, patient, result, owner,
  sensitivity, more
FROM fact p WHERE home = ? AND t_to = 9223372036854775807"""
HELD_LINKS = """
SELECT home, result, rid, t_from, status, issued, source, more, owner, sensitivity
FROM result_of p WHERE home = ? AND t_to = 9223372036854775807"""
HELD_OPENINGS = """
SELECT home, party, kind, source, ordinal, t_from, rid, grade, since, "until"
FROM opening p WHERE home = ? AND t_to = 9223372036854775807"""
HELD_CONSENTS = """
SELECT home, party, owner, class, rid, ordinal, t_from, rank, permit, since, "until"
FROM consent p WHERE home = ? AND t_to = 9223372036854775807"""
HELD_EVALUATIONS = """
SELECT institution, item, rid, ordinal, t_from, area, "start", "end", passed, evaluator, round
FROM evaluation
WHERE rid IN (SELECT value FROM json_each(?)) AND t_to = 9223372036854775807"""
HELD_IDENTITY = """
SELECT key, kind, home, rid FROM identity WHERE rid IN (SELECT value FROM json_each(?))"""
DROP_INDEX_ROW = """
DELETE FROM px WHERE home = ? AND parameter = ? AND v1 = ? AND v2 = ? AND rid = ?"""
DROP_INDEX_TEXT = """
DELETE FROM px_text WHERE home = ? AND parameter = ? AND text = ? AND rid = ?"""
DROP_IDENTITY_KEY = "DELETE FROM identity WHERE key = ? AND kind = ? AND home = ? AND rid = ?"
END_FACT = """
UPDATE fact SET t_to = ?
WHERE home = ? AND item = ? AND time = ? AND rid = ? AND t_from = ? AND ordinal = ?"""
END_LINK = """
UPDATE result_of SET t_to = ? WHERE home = ? AND result = ? AND rid = ? AND t_from = ?"""
END_EVALUATION = """
UPDATE evaluation SET t_to = ?
WHERE institution = ? AND item = ? AND rid = ? AND ordinal = ? AND t_from = ?"""

# -- the rest of a change set ------------------------------------------------------------------

ADD_JOURNAL = """
INSERT INTO journal (t, n, i, type, id, home, updated, patient, owner, nonce, leaf, enc, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
ADD_JOURNAL_HOME = "INSERT INTO journal_home (home, t, n, i) VALUES (?, ?, ?, ?)"
ADD_ONCE = "INSERT INTO once (kind, key, t, n, updated, response) VALUES (?, ?, ?, ?, ?, ?)"
SET_COUNTER = """
INSERT INTO counter (key, k) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET k = excluded.k"""
ADD_RECEIVED = "INSERT OR IGNORE INTO received (hash, media, at, enc, body) VALUES (?, ?, ?, ?, ?)"
SET_CREDENTIAL = """
INSERT INTO credential (hash, institution, active) VALUES (?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET institution = excluded.institution, active = excluded.active"""
SET_SEEN = """
INSERT INTO seen (institution, updated) VALUES (?, ?)
ON CONFLICT (institution) DO UPDATE SET updated = excluded.updated"""
ADD_CHANGE_SET = "INSERT INTO change_set (t, n, id, updated, outcome) VALUES (?, ?, ?, ?, ?)"
FORGET_CHANGE_SETS = """
DELETE FROM change_set WHERE (t, n) IN
  (SELECT t, n FROM change_set ORDER BY t, n LIMIT ?) AND updated < ?"""

# -- the journal's way into the index ---------------------------------------------------------

DRAINED_TO = "SELECT drained_t, drained_n, drained_i FROM clock"
UNDRAINED = """
SELECT t, n, i, type, id, home, updated, patient, owner, enc, body
FROM journal WHERE (t, n, i) > (?, ?, ?) ORDER BY t, n, i LIMIT ?"""
DRAINED = "UPDATE clock SET drained_t = ?, drained_n = ?, drained_i = ?"
IS_UNDRAINED = """
SELECT EXISTS (SELECT 1 FROM journal j, clock c
  WHERE (j.t, j.n, j.i) > (c.drained_t, c.drained_n, c.drained_i))"""
