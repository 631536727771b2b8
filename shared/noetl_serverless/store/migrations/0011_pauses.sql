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
        PERFORM pg_advisory_xact_lock(4215077394);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(4215077394);
    END IF;
END $$;

-- The status of a command that is given back.
CREATE FUNCTION noetl.given_back(id bigint) RETURNS text LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN CASE WHEN EXISTS (SELECT FROM noetl.execution e WHERE e.execution_id = id AND e.paused_at IS NOT NULL)
        THEN 'paused' ELSE 'pending' END;
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

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
