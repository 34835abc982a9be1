-- Who may ask for tokens, and the tokens that were given out (docs/adr/0034). `body` is JSON
-- (security/clients.py). A token is kept by its SHA-256 alone, and forgotten once it has ended.
CREATE TABLE client (
    id TEXT COLLATE "C" PRIMARY KEY, active BIGINT NOT NULL, updated BIGINT NOT NULL,
    body BYTEA NOT NULL
);
CREATE TABLE client_token (
    hash BYTEA PRIMARY KEY, client TEXT COLLATE "C" NOT NULL, active BIGINT NOT NULL,
    issued BIGINT NOT NULL, "until" BIGINT NOT NULL, body BYTEA NOT NULL
);
CREATE INDEX client_token_client ON client_token (client, "until");
CREATE INDEX client_token_until ON client_token ("until");
