-- Paused executions, and signals. The release before leaves executions that use them to this one: see `State.version`.
--
-- What waits for a worker, or is due some time, has a row with the status `paused` while its execution is paused: nothing
-- claims it, and no timer fires. What a worker has begun goes on to its end, and is reported as ever.

ALTER TABLE noetl.execution ADD COLUMN paused_at timestamptz;
CREATE INDEX execution_paused ON noetl.execution (execution_id) WHERE paused_at IS NOT NULL;

ALTER TABLE noetl.command DROP CONSTRAINT command_status_check;
ALTER TABLE noetl.command ADD CONSTRAINT command_status_check
    CHECK (status IN ('pending', 'claimed', 'timer', 'dead', 'paused'));

-- Whoever pauses executions holds this lock alone, and whoever gives back commands shares it: of two that do so at once, the
-- second one sees what the first one has written. It comes before all rows.
CREATE FUNCTION noetl.lock_pauses(alone boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF alone THEN
        PERFORM pg_advisory_xact_lock(4215077393);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(4215077393);
    END IF;
END $$;

-- The status of a command that is given back.
CREATE FUNCTION noetl.given_back(id bigint) RETURNS text LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN CASE WHEN EXISTS (SELECT FROM noetl.execution e WHERE e.execution_id = id AND e.paused_at IS NOT NULL)
        THEN 'paused' ELSE 'pending' END;
END $$;

-- `noetl.commit_dropping`, and executions that are paused or go on.
-- pauses      [{id, at, timers}]: `at` in ms; null: it goes on, with the timers {name: when it is due, in ms}
-- The answer also has {resumed: [[id, command, pool]]}, the commands that wait for a worker again.
CREATE FUNCTION noetl.commit_pausing(
    executions json, events json, closes json, commands json, stages json, frames json, refs json,
    taken json, appends json, quarantined json, dropped json, pauses json
) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answer json;
    good bigint[];
    resumed json;
BEGIN
    PERFORM noetl.lock_pauses(true);
    answer := noetl.commit_dropping(
        executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, dropped);
    good := ARRAY(SELECT g::text::bigint FROM json_array_elements_text(answer->'good') g);
    UPDATE noetl.execution e SET paused_at = to_timestamp(x.at / 1000.0)
    FROM json_to_recordset(pauses) AS x(id bigint, at float8)
    WHERE e.execution_id = x.id AND x.id = ANY (good);
    PERFORM 1 FROM (
        SELECT c.execution_id, c.command_id FROM json_to_recordset(pauses) AS x(id bigint)
        JOIN noetl.command c ON c.execution_id = x.id AND c.status IN ('pending', 'timer', 'paused')
        WHERE x.id = ANY (good) ORDER BY 1, 2
    ) named CROSS JOIN LATERAL (
        SELECT FROM noetl.command c WHERE c.execution_id = named.execution_id AND c.command_id = named.command_id FOR UPDATE
    ) locked;
    UPDATE noetl.command c SET status = 'paused'
    FROM json_to_recordset(pauses) AS x(id bigint, at float8)
    WHERE c.execution_id = x.id AND x.id = ANY (good) AND x.at IS NOT NULL AND c.status IN ('pending', 'timer');
    WITH going_on AS (
        UPDATE noetl.command c SET status = CASE WHEN c.kind = 'timer' THEN 'timer' ELSE 'pending' END,
            due_at = coalesce(to_timestamp((x.timers ->> c.command_id)::float8 / 1000.0), c.due_at)
        FROM json_to_recordset(pauses) AS x(id bigint, at float8, timers json)
        WHERE c.execution_id = x.id AND x.id = ANY (good) AND x.at IS NULL AND c.status = 'paused'
        RETURNING c.execution_id, c.command_id, c.pool, c.kind
    )
    SELECT coalesce(json_agg(json_build_array(g.execution_id::text, g.command_id, g.pool) ORDER BY g.command_id), '[]')
    INTO resumed
    FROM going_on g WHERE g.kind <> 'timer';
    RETURN json_build_object(
        'good', answer->'good', 'claimed', answer->'claimed', 'appended', answer->'appended', 'resumed', resumed);
END $$;

CREATE OR REPLACE FUNCTION noetl.release(worker_id text, held json)
RETURNS TABLE (id text, command text, its_pool text) LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wanted tid[];
BEGIN
    PERFORM noetl.lock_pauses(false);
    PERFORM noetl.materialise(noetl.held_directly(ARRAY(
        SELECT (k.execution_id, k.command_id, k.fence, worker_id)::noetl.holding
        FROM json_to_recordset(held) AS k(execution_id bigint, command_id text, fence bigint))));
    wanted := noetl.still_held(worker_id, held);
    RETURN QUERY
    WITH released AS (
        UPDATE noetl.command c SET status = noetl.given_back(c.execution_id), worker = NULL, lease_until = NULL,
            deliveries = c.deliveries - 1,
            lost = CASE WHEN (c.execution_id, c.command_id, c.fence) IN (
                SELECT k.execution_id, k.command_id, k.fence
                FROM json_to_recordset(held) AS k(execution_id bigint, command_id text, fence bigint, begun boolean)
                WHERE k.begun)
            THEN noetl.noted(c, now()) ELSE c.lost END
        WHERE c.ctid = ANY (wanted)
        RETURNING c.execution_id, c.command_id, c.pool, c.status
    )
    SELECT r.execution_id::text, r.command_id, r.pool FROM released r WHERE r.status <> 'paused';
END $$;

CREATE OR REPLACE FUNCTION noetl.expire(most_deliveries integer, most integer)
RETURNS TABLE (id text, command text, its_pool text) LANGUAGE plpgsql
-- whatever is known of the table: leases come in the order of their index
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wanted tid[];
BEGIN
    PERFORM noetl.lock_pauses(false);
    PERFORM noetl.materialise(ARRAY(
        SELECT e.execution_id FROM noetl.execution e WHERE e.direct_worker IS NOT NULL AND e.direct_since + e.direct_lease < now()
        ORDER BY e.direct_since + e.direct_lease LIMIT most FOR UPDATE SKIP LOCKED));
    SELECT array_agg(w.place) INTO wanted FROM (
        SELECT c.ctid AS place FROM noetl.command c
        WHERE c.status = 'claimed' AND c.lease_until < now() AND c.deliveries < most_deliveries
        ORDER BY c.lease_until LIMIT most FOR UPDATE SKIP LOCKED
    ) w;
    RETURN QUERY
    WITH expired AS (
        UPDATE noetl.command c SET status = noetl.given_back(c.execution_id), worker = NULL, lease_until = NULL,
            lost = noetl.noted(c, NULL)
        WHERE c.ctid = ANY (wanted)
        RETURNING c.execution_id, c.command_id, c.pool, c.status
    )
    SELECT x.execution_id::text, x.command_id, x.pool FROM expired x WHERE x.status <> 'paused';
END $$;

CREATE OR REPLACE FUNCTION noetl.worker_routines() RETURNS SETOF regprocedure LANGUAGE sql STABLE AS $$
    SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'noetl'::regnamespace AND (
        p.proname IN ('advance', 'lease', 'holdings', 'extend', 'release', 'waiting', 'clear_inbox',
            'commit_dropping', 'commit_pausing')
        -- those without jsonb: the others are for the release before, which has no such workers
        OR p.proname IN ('commit', 'append') AND 'jsonb'::regtype <> ALL (p.proargtypes::oid[]))
    ORDER BY 1
$$;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
