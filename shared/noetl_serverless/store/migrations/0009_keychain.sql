-- The cache of fetched secrets: see `store/keychain.py`. The release before knows nothing of it.
--
-- No part of it is granted to the role of direct workers, who ask the control plane for secrets as for credentials.

CREATE TABLE noetl.keychain (
    -- name:catalog:execution, name:catalog:global or name:catalog:shared:execution
    cache_key text NOT NULL,
    -- SHA-256, in hexadecimal, of the entry as it is written and of the workload that it reads
    inputs text NOT NULL,
    catalog_id bigint NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    scope text NOT NULL CHECK (scope IN ('local', 'global', 'shared')),
    auto_renew boolean NOT NULL,
    -- with which it ends; null for a global one
    execution_id bigint,
    -- nonce, then the AES-256-GCM text of the fields' JSON, bound to cache_key and inputs; null before the first is fetched
    sealed bytea,
    key_id text,
    -- the names of the fields
    fields text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    fetched_at timestamptz,
    -- before anything is fetched: when the first fetch is given up
    expires_at timestamptz NOT NULL,
    -- who fetches it, and until when nobody else does
    fetch_id text,
    fetching_until timestamptz,
    PRIMARY KEY (cache_key, inputs)
);
CREATE INDEX keychain_catalog ON noetl.keychain (catalog_id, cache_key, inputs);
CREATE INDEX keychain_expiry ON noetl.keychain (expires_at);
CREATE INDEX keychain_execution ON noetl.keychain (execution_id) WHERE execution_id IS NOT NULL;

INSERT INTO noetl.chore (name) VALUES ('keychain') ON CONFLICT DO NOTHING;
