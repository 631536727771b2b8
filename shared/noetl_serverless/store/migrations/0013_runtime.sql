-- Which instances of functions there are, and what else registers as a component: see `store/runtimes.py`. The release before
-- knows nothing of it.

CREATE TABLE noetl.runtime (
    runtime_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    -- whose commands it runs, of a worker
    pool text,
    runtime text,
    uri text,
    -- as it said last; whether it is still there follows from its heartbeat
    status text NOT NULL CHECK (status IN ('ready', 'busy', 'idle')),
    -- commands at once, and how many there were at its last heartbeat
    capacity integer,
    running integer,
    labels jsonb,
    version text,
    pid bigint,
    hostname text,
    meta jsonb,
    heartbeat timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (kind, name)
);
CREATE INDEX runtime_heartbeat ON noetl.runtime (heartbeat);

-- Write an instance down, or its heartbeat with all that it says of itself; one with the status `ended` is deleted. Null if
-- there is nothing to delete. The parameters are read as the type of the table's columns.
CREATE FUNCTION noetl.register_runtime(instance json) RETURNS bigint LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    id bigint;
BEGIN
    IF instance->>'status' = 'ended' THEN
        DELETE FROM noetl.runtime r WHERE r.kind = instance->>'kind' AND r.name = instance->>'name' RETURNING r.runtime_id INTO id;
        RETURN id;
    END IF;
    INSERT INTO noetl.runtime AS r (kind, name, pool, runtime, uri, status, capacity, running, labels, version, pid, hostname, meta)
    SELECT x.kind, x.name, x.pool, x.runtime, x.uri, x.status, x.capacity, x.running, x.labels, x.version, x.pid, x.hostname, x.meta
    FROM json_to_record(instance) AS x(
        kind text, name text, pool text, runtime text, uri text, status text, capacity integer, running integer, labels jsonb,
        version text, pid bigint, hostname text, meta jsonb)
    ON CONFLICT (kind, name) DO UPDATE SET
        pool = excluded.pool, runtime = excluded.runtime, uri = excluded.uri, status = excluded.status,
        capacity = excluded.capacity, running = excluded.running, labels = excluded.labels, version = excluded.version,
        pid = excluded.pid, hostname = excluded.hostname, meta = excluded.meta, heartbeat = now(), updated_at = now()
    RETURNING r.runtime_id INTO id;
    RETURN id;
END $$;
REVOKE EXECUTE ON FUNCTION noetl.register_runtime(json) FROM PUBLIC;

INSERT INTO noetl.chore (name) VALUES ('runtime') ON CONFLICT DO NOTHING;
