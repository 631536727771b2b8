-- Secrets that are given over REST, under the inputs `given`, and how often a secret is used. The release before passes
-- over both: it looks for other inputs.

ALTER TABLE noetl.keychain
    -- when it was read last, and how often: of workers one use a minute is counted
    ADD COLUMN accessed_at timestamptz,
    ADD COLUMN access_count bigint NOT NULL DEFAULT 0;
