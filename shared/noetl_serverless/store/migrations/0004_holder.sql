-- A fence is good in the hands of the worker that it was given to, and in no other: fences are small numbers in a row, which
-- can be guessed. `commit` and `append` are as they were in 0001 but for the column `worker` of `closes` and `facts`: null
-- for a timer, which nobody holds.

CREATE OR REPLACE FUNCTION noetl.commit(
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

CREATE OR REPLACE FUNCTION noetl.append(facts jsonb) RETURNS jsonb LANGUAGE plpgsql SET enable_seqscan = off
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
