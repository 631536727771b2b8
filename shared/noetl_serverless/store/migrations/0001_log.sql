-- The log and what is folded from it.
--
-- event       append-only, the truth. Facts come from outside, decisions name their fact in `cause`.
-- inbox       facts that have happened and have no place in the log yet: written by those who cannot wait for the
--             execution's row, or come from another execution; whoever next goes on with the execution takes them in.
-- execution   one row per execution: the compare-and-set point (`head`), the folded state, what people ask for.
-- command     what is out: pending, claimed under a lease, a timer, or dead. A command that has ended is in the log alone,
--             so the table stays as small as the work in progress.
-- stage       one row per loop instance; its collection stands in the `loop.opened` event at `seq`.
-- frame       one row per finished run of loop items; its results stand in the `frame.committed` event at `seq`.
-- result_ref  where a result that is too large for the log was put.
--
-- Lock order: execution rows by execution_id, then command rows; the inbox is only inserted into and deleted from.

CREATE TABLE noetl.event (
    execution_id bigint NOT NULL,
    seq integer NOT NULL,
    cause integer,
    type text NOT NULL,
    step text,
    generation integer,
    command_id text,
    at timestamptz NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (execution_id, seq)
) PARTITION BY RANGE (execution_id);

CREATE TABLE noetl.event_default PARTITION OF noetl.event DEFAULT;

CREATE TABLE noetl.execution (
    execution_id bigint PRIMARY KEY,
    catalog_id bigint NOT NULL,
    path text NOT NULL,
    version integer NOT NULL,
    plan_hash text NOT NULL,
    parent_execution_id bigint,
    parent jsonb,
    depth integer NOT NULL DEFAULT 0,
    status text NOT NULL DEFAULT 'RUNNING' CHECK (status IN ('RUNNING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    -- the last seq of the log, and the last one folded into `state`: a snapshot is written every few dozen events, and
    -- whoever loads it folds the rest
    head integer NOT NULL DEFAULT 0,
    folded integer NOT NULL DEFAULT 0,
    -- how many steps have an outcome. What every commit changes stands side by side, before what few do: the WAL of an
    -- update holds all that lies between the first column that changes and the last
    finished integer NOT NULL DEFAULT 0,
    state jsonb NOT NULL,
    workload jsonb NOT NULL,
    result jsonb,
    error jsonb,
    idempotency_key text,
    request_hash text,
    created_at timestamptz NOT NULL,
    ended_at timestamptz
) WITH (fillfactor = 60);

CREATE UNIQUE INDEX execution_idempotency ON noetl.execution (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX execution_parent ON noetl.execution (parent_execution_id) WHERE parent_execution_id IS NOT NULL;
CREATE INDEX execution_status ON noetl.execution (status, execution_id);
CREATE INDEX execution_path ON noetl.execution (path, execution_id);

CREATE TABLE noetl.inbox (
    execution_id bigint NOT NULL,
    inbox_id bigint GENERATED ALWAYS AS IDENTITY,
    type text NOT NULL,
    step text,
    generation integer,
    command_id text,
    at timestamptz NOT NULL,
    payload jsonb NOT NULL,
    PRIMARY KEY (execution_id, inbox_id)
);

CREATE SEQUENCE noetl.fence CACHE 32;

CREATE TABLE noetl.command (
    execution_id bigint NOT NULL,
    command_id text NOT NULL,
    step text NOT NULL,
    generation integer NOT NULL,
    kind text NOT NULL,
    attempt integer NOT NULL,
    pool text NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'claimed', 'timer', 'dead')),
    -- of the `command.issued` or `timer.set` event, which holds the rest
    seq integer NOT NULL,
    deliveries integer NOT NULL DEFAULT 0,
    worker text,
    fence bigint NOT NULL DEFAULT 0,
    lease_until timestamptz,
    due_at timestamptz,
    issued_at timestamptz NOT NULL,
    PRIMARY KEY (execution_id, command_id)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);

CREATE INDEX command_pending ON noetl.command (pool, issued_at) WHERE status = 'pending';
CREATE INDEX command_lease ON noetl.command (lease_until) WHERE status = 'claimed';
CREATE INDEX command_due ON noetl.command (due_at) WHERE status = 'timer';

CREATE TABLE noetl.stage (
    execution_id bigint NOT NULL,
    step text NOT NULL,
    generation integer NOT NULL,
    seq integer NOT NULL,
    count integer NOT NULL,
    status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'ok', 'error')),
    PRIMARY KEY (execution_id, step, generation)
);

CREATE TABLE noetl.frame (
    execution_id bigint NOT NULL,
    step text NOT NULL,
    generation integer NOT NULL,
    start_item integer NOT NULL,
    end_item integer NOT NULL,
    seq integer NOT NULL,
    ok integer NOT NULL,
    failed integer NOT NULL,
    PRIMARY KEY (execution_id, step, generation, start_item)
);

CREATE TABLE noetl.result_ref (
    execution_id bigint NOT NULL,
    key text NOT NULL,
    ref text NOT NULL,
    step text,
    store text NOT NULL,
    bytes bigint NOT NULL,
    sha256 text NOT NULL,
    content_type text NOT NULL,
    scope text NOT NULL,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (execution_id, key)
);

-- Event partitions by month of the execution's start, which its id begins with: made ahead, so that the default stays empty.
CREATE FUNCTION noetl.ensure_partitions(at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz := date_trunc('month', at, 'UTC');
    first bigint;
    last bigint;
    name text;
BEGIN
    FOR i IN 0..1 LOOP
        first := ((extract(epoch FROM month + make_interval(months => i)) * 1000)::bigint - 1704067200000) << 22;
        last := ((extract(epoch FROM month + make_interval(months => i + 1)) * 1000)::bigint - 1704067200000) << 22;
        name := 'event_' || to_char((month + make_interval(months => i)) AT TIME ZONE 'UTC', 'YYYY_MM');
        IF to_regclass('noetl.' || name) IS NULL THEN
            PERFORM pg_advisory_xact_lock(4215077392);
            IF to_regclass('noetl.' || name) IS NULL THEN
                EXECUTE format('CREATE TABLE noetl.%I PARTITION OF noetl.event FOR VALUES FROM (%s) TO (%s)', name, first, last);
            END IF;
        END IF;
    END LOOP;
END $$;
SELECT noetl.ensure_partitions(now());

-- One transaction for any number of executions, each whole or not at all. Its plans are made while the tables are small and
-- kept while they grow: they must go from the few rows given to their index entries, hence the settings, here and below.
-- executions  [{id, expect, row?, head, status, finished, state?, result?, error?, ended?}]; row: insert; expect: compare-and-set
-- events      [{id, seq, cause, type, step, generation, command, at, payload}], at in ms
-- closes      [{id, command, fence, worker}]: each must be the current holder, or the whole execution is refused; fences are
--             small numbers in a row, which can be guessed, so that one is good in the hands of its worker alone. A timer
--             is held by nobody: null
-- commands    [{id, command, step, generation, kind, attempt, pool, status, seq, worker, lease, due}], lease in s, due in ms
-- taken       [{id, inbox}]: facts of the inbox that stand in the log now
-- appends     [{from, id, type, step, generation, at, payload}]: a fact for another execution's inbox, if `from` commits
-- Returns {good: [id], claimed: [[id, command, fence, lease_until]], appended: [id]}.
CREATE FUNCTION noetl.commit(
    executions jsonb, events jsonb, closes jsonb, commands jsonb, stages jsonb, frames jsonb, refs jsonb,
    taken jsonb, appends jsonb
) RETURNS jsonb LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    good bigint[];
    fresh bigint[];
    claimed jsonb := '[]';
    appended jsonb := '[]';
BEGIN
    WITH held AS (
        SELECT e.execution_id, e.head FROM noetl.execution e
        WHERE e.execution_id = ANY (ARRAY(SELECT (x->>'id')::bigint FROM jsonb_array_elements(executions) x))
        ORDER BY e.execution_id FOR UPDATE
    )
    SELECT coalesce(array_agg(held.execution_id), '{}') INTO good
    FROM held JOIN jsonb_to_recordset(executions) AS x(id bigint, expect integer)
      ON x.id = held.execution_id AND x.expect = held.head;

    IF jsonb_array_length(closes) > 0 THEN
        PERFORM 1 FROM noetl.command c JOIN jsonb_to_recordset(closes) AS x(id bigint, command text)
          ON c.execution_id = x.id AND c.command_id = x.command
        ORDER BY c.execution_id, c.command_id FOR UPDATE OF c;
        SELECT coalesce(array_agg(g), '{}') INTO good FROM unnest(good) g
        WHERE NOT EXISTS (
            SELECT FROM jsonb_to_recordset(closes) AS x(id bigint, command text, fence bigint, worker text)
            LEFT JOIN noetl.command c ON c.execution_id = x.id AND c.command_id = x.command AND c.fence = x.fence
                AND c.status IN ('claimed', 'timer') AND c.worker IS NOT DISTINCT FROM x.worker
            WHERE x.id = g AND c.command_id IS NULL
        );
        DELETE FROM noetl.command c USING jsonb_to_recordset(closes) AS x(id bigint, command text)
        WHERE c.execution_id = x.id AND c.command_id = x.command AND x.id = ANY (good);
    END IF;

    UPDATE noetl.execution e SET
        head = x.head, status = x.status, finished = x.finished,
        state = coalesce(x.state, e.state), folded = CASE WHEN x.state IS NULL THEN e.folded ELSE x.head END,
        result = x.result, error = x.error, ended_at = to_timestamp(x.ended / 1000.0)
    FROM jsonb_to_recordset(executions) AS x(
        id bigint, head integer, status text, finished integer, state jsonb, result jsonb, error jsonb, ended float8)
    WHERE e.execution_id = x.id AND x.id = ANY (good);

    IF executions @? '$[*].row' THEN
        WITH added AS (
            INSERT INTO noetl.execution (
                execution_id, catalog_id, path, version, plan_hash, parent_execution_id, parent, depth, status, head, folded,
                state, finished, workload, result, error, idempotency_key, request_hash, created_at, ended_at)
            SELECT x.id, r.catalog_id, r.path, r.version, r.plan_hash, r.parent_execution_id, r.parent, r.depth, x.status, x.head,
                x.head, x.state, x.finished, r.workload, x.result, x.error, r.idempotency_key, r.request_hash,
                to_timestamp(r.at / 1000.0), to_timestamp(x.ended / 1000.0)
            FROM jsonb_to_recordset(executions) AS x(
                id bigint, "row" jsonb, head integer, status text, finished integer, state jsonb, result jsonb, error jsonb, ended float8)
            CROSS JOIN jsonb_to_record(x."row") AS r(
                catalog_id bigint, path text, version integer, plan_hash text, parent_execution_id bigint, parent jsonb,
                depth integer, workload jsonb, idempotency_key text, request_hash text, at float8)
            WHERE x."row" IS NOT NULL
            -- a child begins only with the parent's commit that starts it
            AND (r.parent_execution_id IS NULL OR r.parent_execution_id = ANY (good))
            ON CONFLICT DO NOTHING
            RETURNING execution_id
        )
        SELECT coalesce(array_agg(execution_id), '{}') INTO fresh FROM added;
        IF EXISTS (
            SELECT FROM jsonb_to_recordset(executions) AS x(id bigint, "row" jsonb)
            WHERE (x."row"->>'parent_execution_id')::bigint = ANY (good) AND x.id <> ALL (fresh)
        ) THEN
            RAISE EXCEPTION 'a child execution id is taken' USING ERRCODE = 'unique_violation';
        END IF;
        good := good || fresh;
    END IF;

    INSERT INTO noetl.event (execution_id, seq, cause, type, step, generation, command_id, at, payload)
    SELECT x.id, x.seq, x.cause, x.type, x.step, x.generation, x.command, to_timestamp(x.at / 1000.0), x.payload
    FROM jsonb_to_recordset(events) AS x(
        id bigint, seq integer, cause integer, type text, step text, generation integer, command text, at float8, payload jsonb)
    WHERE x.id = ANY (good);

    IF executions @? '$[*].ended' THEN
        DELETE FROM noetl.command c USING jsonb_to_recordset(executions) AS x(id bigint, status text)
        WHERE x.status <> 'RUNNING' AND c.execution_id = x.id AND x.id = ANY (good) AND c.status <> 'dead';
    END IF;

    IF jsonb_array_length(commands) > 0 THEN
        WITH issued AS (
            INSERT INTO noetl.command (
                execution_id, command_id, step, generation, kind, attempt, pool, status, seq, worker, fence, lease_until,
                deliveries, due_at, issued_at)
            SELECT x.id, x.command, x.step, x.generation, x.kind, x.attempt, x.pool, x.status, x.seq, x.worker,
                CASE WHEN x.status = 'claimed' THEN nextval('noetl.fence') ELSE 0 END,
                now() + make_interval(secs => x.lease), CASE WHEN x.status = 'claimed' THEN 1 ELSE 0 END,
                to_timestamp(x.due / 1000.0), now()
            FROM jsonb_to_recordset(commands) AS x(
                id bigint, command text, step text, generation integer, kind text, attempt integer, pool text, status text,
                seq integer, worker text, lease float8, due float8)
            WHERE x.id = ANY (good)
            ON CONFLICT DO NOTHING
            RETURNING execution_id, command_id, status, fence, lease_until
        )
        SELECT coalesce(jsonb_agg(jsonb_build_array(execution_id::text, command_id, fence, lease_until)), '[]')
        INTO claimed FROM issued WHERE status = 'claimed';
    END IF;

    IF jsonb_array_length(stages) > 0 THEN
        INSERT INTO noetl.stage (execution_id, step, generation, seq, count, status)
        SELECT x.id, x.step, x.generation, x.seq, x.count, x.status
        FROM jsonb_to_recordset(stages) AS x(id bigint, step text, generation integer, seq integer, count integer, status text)
        WHERE x.id = ANY (good)
        ON CONFLICT (execution_id, step, generation) DO UPDATE SET status = excluded.status;
    END IF;

    IF jsonb_array_length(frames) > 0 THEN
        INSERT INTO noetl.frame (execution_id, step, generation, start_item, end_item, seq, ok, failed)
        SELECT x.id, x.step, x.generation, x.start, x."end", x.seq, x.ok, x.failed
        FROM jsonb_to_recordset(frames) AS x(
            id bigint, step text, generation integer, start integer, "end" integer, seq integer, ok integer, failed integer)
        WHERE x.id = ANY (good);
    END IF;

    IF jsonb_array_length(refs) > 0 THEN
        INSERT INTO noetl.result_ref (ref, execution_id, step, store, key, bytes, sha256, content_type, scope, expires_at)
        SELECT x.ref, x.id, x.step, x.store, x.key, x.bytes, x.sha256, x.content_type, x.scope, x.expires_at
        FROM jsonb_to_recordset(refs) AS x(
            ref text, id bigint, step text, store text, key text, bytes bigint, sha256 text, content_type text, scope text,
            expires_at timestamptz)
        WHERE x.id = ANY (good)
        ON CONFLICT DO NOTHING;
    END IF;

    IF jsonb_array_length(taken) > 0 THEN
        DELETE FROM noetl.inbox i USING jsonb_to_recordset(taken) AS x(id bigint, inbox bigint)
        WHERE i.execution_id = x.id AND i.inbox_id = x.inbox AND x.id = ANY (good);
    END IF;

    IF jsonb_array_length(appends) > 0 THEN
        WITH added AS (
            INSERT INTO noetl.inbox (execution_id, type, step, generation, at, payload)
            SELECT x.id, x.type, x.step, x.generation, to_timestamp(x.at / 1000.0), x.payload
            FROM jsonb_to_recordset(appends) AS x(
                "from" bigint, id bigint, type text, step text, generation integer, at float8, payload jsonb)
            JOIN noetl.execution e ON e.execution_id = x.id AND e.status = 'RUNNING'
            WHERE x."from" = ANY (good)
            RETURNING execution_id
        )
        SELECT coalesce(jsonb_agg(DISTINCT execution_id::text), '[]') INTO appended FROM added;
    END IF;

    RETURN jsonb_build_object(
        'good', (SELECT coalesce(jsonb_agg(g::text), '[]') FROM unnest(good) g), 'claimed', claimed, 'appended', appended);
END $$;

-- Outcomes without their decision, for a reporter that has lost the race for the execution's row: the commands are closed
-- and their facts put into the inbox, without touching that row.
-- facts  [{id, command, fence, worker, type, step, generation, at, payload, refs}]; returns [[id, command]] of those accepted.
CREATE FUNCTION noetl.append(facts jsonb) RETURNS jsonb LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    accepted jsonb;
BEGIN
    WITH reported AS (
        SELECT x.* FROM jsonb_to_recordset(facts) AS x(
            id bigint, command text, fence bigint, type text, step text, generation integer, at float8, payload jsonb,
            refs jsonb, worker text)
    ), closed AS (
        DELETE FROM noetl.command c USING reported x
        WHERE c.execution_id = x.id AND c.command_id = x.command AND c.fence = x.fence AND c.status = 'claimed'
            AND c.worker = x.worker
        RETURNING c.execution_id, c.command_id
    ), added AS (
        INSERT INTO noetl.inbox (execution_id, type, step, generation, command_id, at, payload)
        SELECT x.id, x.type, x.step, x.generation, x.command, to_timestamp(x.at / 1000.0), x.payload
        FROM reported x JOIN closed c ON c.execution_id = x.id AND c.command_id = x.command
        RETURNING execution_id, command_id
    ), stored AS (
        INSERT INTO noetl.result_ref (
            ref, execution_id, step, store, key, bytes, sha256, content_type, scope, expires_at)
        SELECT r.ref, x.id, r.step, r.store, r.key, r.bytes, r.sha256, r.content_type, r.scope, r.expires_at
        FROM reported x JOIN closed c ON c.execution_id = x.id AND c.command_id = x.command
        CROSS JOIN jsonb_to_recordset(x.refs) AS r(
            ref text, step text, store text, key text, bytes bigint, sha256 text, content_type text, scope text,
            expires_at timestamptz)
        ON CONFLICT DO NOTHING
    )
    SELECT coalesce(jsonb_agg(jsonb_build_array(execution_id::text, command_id)), '[]') INTO accepted FROM added;
    RETURN accepted;
END $$;

-- A command with what it was issued with, and for a frame the opening of its loop.
CREATE TYPE noetl.claimed AS (
    execution_id text, command_id text, fence bigint, lease_until timestamptz, deliveries integer, seq integer, step text,
    generation integer, payload jsonb, opening jsonb
);

CREATE FUNCTION noetl.orders(taken noetl.command[]) RETURNS SETOF noetl.claimed LANGUAGE sql STABLE SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
    SELECT t.execution_id::text, t.command_id, t.fence, t.lease_until, t.deliveries, t.seq, t.step, t.generation,
        issued.payload, opened.payload
    FROM unnest(taken) t
    JOIN noetl.event issued ON issued.execution_id = t.execution_id AND issued.seq = t.seq
    LEFT JOIN noetl.stage s ON t.kind = 'frame'
        AND s.execution_id = t.execution_id AND s.step = t.step AND s.generation = t.generation
    LEFT JOIN noetl.event opened ON opened.execution_id = s.execution_id AND opened.seq = s.seq
    ORDER BY t.issued_at, t.execution_id, t.seq
$$;

-- Lease pending commands of a pool: those named by `keys` [{execution_id, command_id}], or with null those that have
-- waited longest. Functions, so that their plans are kept behind a pooler too.
CREATE FUNCTION noetl.claim(worker_id text, pool_name text, lease float8, most integer, keys jsonb)
RETURNS SETOF noetl.claimed LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    taken noetl.command[];
BEGIN
    IF keys IS NULL THEN
        WITH wanted AS (
            SELECT execution_id, command_id FROM noetl.command WHERE status = 'pending' AND pool = pool_name
            ORDER BY issued_at LIMIT most FOR UPDATE SKIP LOCKED
        ), leased AS (
            UPDATE noetl.command c SET status = 'claimed', worker = worker_id, fence = nextval('noetl.fence'),
                lease_until = now() + make_interval(secs => lease), deliveries = c.deliveries + 1
            FROM wanted w WHERE c.execution_id = w.execution_id AND c.command_id = w.command_id RETURNING c
        )
        SELECT array_agg(c) INTO taken FROM leased;
    ELSE
        WITH wanted AS (
            SELECT c.execution_id, c.command_id FROM noetl.command c
            JOIN (SELECT DISTINCT * FROM jsonb_to_recordset(keys) AS k(execution_id bigint, command_id text)) k
              USING (execution_id, command_id)
            WHERE c.status = 'pending' AND c.pool = pool_name
            ORDER BY c.issued_at LIMIT most FOR UPDATE OF c SKIP LOCKED
        ), leased AS (
            UPDATE noetl.command c SET status = 'claimed', worker = worker_id, fence = nextval('noetl.fence'),
                lease_until = now() + make_interval(secs => lease), deliveries = c.deliveries + 1
            FROM wanted w WHERE c.execution_id = w.execution_id AND c.command_id = w.command_id RETURNING c
        )
        SELECT array_agg(c) INTO taken FROM leased;
    END IF;
    IF taken IS NOT NULL THEN
        RETURN QUERY SELECT * FROM noetl.orders(taken);
    END IF;
END $$;

-- What a worker holds beside `holding` [{execution_id, command_id}], its leases prolonged.
CREATE FUNCTION noetl.held(worker_id text, lease float8, holding jsonb) RETURNS SETOF noetl.claimed LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    taken noetl.command[];
BEGIN
    WITH leased AS (
        UPDATE noetl.command c SET lease_until = now() + make_interval(secs => lease)
        WHERE c.worker = worker_id AND c.status = 'claimed' AND NOT EXISTS (
            SELECT FROM jsonb_to_recordset(holding) AS k(execution_id bigint, command_id text)
            WHERE k.execution_id = c.execution_id AND k.command_id = c.command_id)
        RETURNING c
    )
    SELECT array_agg(c) INTO taken FROM leased;
    IF taken IS NOT NULL THEN
        RETURN QUERY SELECT * FROM noetl.orders(taken);
    END IF;
END $$;

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
