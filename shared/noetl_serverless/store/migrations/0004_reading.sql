-- What every watcher asks, a function so that its plan is kept behind a pooler too.

CREATE TYPE noetl.tailed AS (
    head integer, status text, execution_id bigint, seq integer, cause integer, type text, step text, generation integer,
    command_id text, at timestamptz, payload jsonb
);

-- How far the log of an execution has come, and its events after a position, in order; of one type only, unless null.
CREATE FUNCTION noetl.tail(id bigint, after_seq integer, only_type text, most integer) RETURNS SETOF noetl.tailed
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    SELECT x.head, x.status, x.execution_id, v.seq, v.cause, v.type, v.step, v.generation, v.command_id, v.at, v.payload
    FROM noetl.execution x LEFT JOIN LATERAL (
        SELECT e.* FROM noetl.event e
        WHERE e.execution_id = x.execution_id AND e.seq > after_seq AND e.seq <= x.head
          AND (only_type IS NULL OR e.type = only_type)
        ORDER BY e.seq LIMIT most
    ) v ON true
    WHERE x.execution_id = id ORDER BY v.seq;
END $$;
