-- Who may ask for tokens, and the tokens that were given out (docs/adr/0034). `body` is JSON
-- (security/clients.py). A token is kept by its SHA-256 alone, and forgotten once it has ended.
CREATE TABLE client (
    id TEXT PRIMARY KEY, active INTEGER NOT NULL, updated INTEGER NOT NULL, body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE client_token (
    hash BLOB PRIMARY KEY, client TEXT NOT NULL, active INTEGER NOT NULL, issued INTEGER NOT NULL,
    "until" INTEGER NOT NULL, body BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX client_token_client ON client_token (client, "until");
CREATE INDEX client_token_until ON client_token ("until");
