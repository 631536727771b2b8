-- What users bring: playbooks in versions, sealed credentials, schedules.

CREATE TABLE noetl.catalog (
    catalog_id bigint PRIMARY KEY,
    path text NOT NULL,
    version integer NOT NULL,
    kind text NOT NULL,
    -- the text as it was registered
    content text NOT NULL,
    -- of the compiled plan: what executions and workers know a version by
    hash text NOT NULL,
    meta jsonb NOT NULL DEFAULT '{}',
    -- the workload: the inputs and their defaults
    payload jsonb NOT NULL DEFAULT '{}',
    -- how many steps the plan has: what progress is counted against
    steps integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (path, version)
);
CREATE INDEX catalog_hash ON noetl.catalog (hash);

CREATE TABLE noetl.credential (
    credential_id bigint PRIMARY KEY,
    name text NOT NULL UNIQUE,
    type text NOT NULL,
    -- nonce, then the AES-256-GCM text of the data's JSON, bound to name and type
    sealed bytea NOT NULL,
    key_id text NOT NULL,
    meta jsonb NOT NULL DEFAULT '{}',
    tags text[] NOT NULL DEFAULT '{}',
    description text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX credential_key ON noetl.credential (key_id);

CREATE TABLE noetl.schedule (
    schedule_id bigint PRIMARY KEY,
    name text UNIQUE,
    playbook_path text NOT NULL,
    -- null: the newest version at the time of the run
    playbook_version integer,
    cron text,
    interval_seconds integer CHECK (interval_seconds > 0),
    timezone text NOT NULL DEFAULT 'UTC',
    enabled boolean NOT NULL DEFAULT true,
    missed_policy text NOT NULL DEFAULT 'fire_once' CHECK (missed_policy IN ('skip', 'fire_once', 'catch_up')),
    -- null while disabled
    next_run_at timestamptz,
    last_run_at timestamptz,
    last_status text,
    last_execution_id bigint,
    input_payload jsonb NOT NULL DEFAULT '{}',
    meta jsonb NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((cron IS NULL) <> (interval_seconds IS NULL))
);
CREATE INDEX schedule_due ON noetl.schedule (next_run_at) WHERE enabled;

-- One row per run that a schedule owes. It is written in the transaction that moves next_run_at on, so that a crash
-- between the two can lose no run and double none; it stays open until its execution is known to have started.
CREATE TABLE noetl.schedule_fire (
    schedule_id bigint NOT NULL REFERENCES noetl.schedule ON DELETE CASCADE,
    due_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'started', 'failed')),
    -- who took it may start it until then
    lease_until timestamptz,
    execution_id bigint,
    error jsonb,
    PRIMARY KEY (schedule_id, due_at)
);
CREATE INDEX schedule_fire_open ON noetl.schedule_fire (due_at) WHERE status = 'open';
