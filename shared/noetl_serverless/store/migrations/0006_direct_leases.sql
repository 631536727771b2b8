-- Leases without a row: the command that is handed over in the answer to a report, and is all that its execution waits for,
-- stands in the execution's own row, which the commit writes anyway. A step that goes straight on so writes no command row,
-- and no entry of an index but those of its events.
--
-- A direct lease lasts as long as the log stands where the lease was granted: the report of its holder takes it out of the
-- row, and puts the next one in. Any other commit, and whatever gives the command to someone else, gives it a row first
-- (`noetl.materialise`) and goes on as with any row. So the columns are known to `noetl.advance`, to `noetl.extend`, and to
-- those who look for leases: what is held, and what ran out. Readers of both go by `noetl.outstanding`.
--
-- None of the columns is in an index but `direct_playbook` and `direct_worker`, which one step after the other leaves as they
-- are: the update stays within its page.

ALTER TABLE noetl.execution
    -- of the `command.issued` event, which holds the rest
    ADD COLUMN direct_seq integer,
    ADD COLUMN direct_fence bigint,
    -- when it was issued, and at once claimed, for the first time
    ADD COLUMN direct_since timestamptz,
    ADD COLUMN direct_command text,
    -- what mostly stays as it is from one step to the next comes last, and so is not in the WAL of the update
    ADD COLUMN direct_pool text,
    -- who holds it. Null: there is no direct lease, and all of these are null
    ADD COLUMN direct_worker text,
    -- how long from `direct_since`
    ADD COLUMN direct_lease interval,
    ADD COLUMN direct_playbook integer,
    ADD COLUMN direct_weight smallint;

-- As few as run at the moment: whoever looks for those that ran out, or for those of a worker, looks at all. Who asks for one
-- execution says `direct_fence IS NOT NULL`, with which no plan begins here.
CREATE INDEX execution_direct ON noetl.execution (direct_playbook, execution_id) WHERE direct_worker IS NOT NULL;

-- Direct leases as the rows of `noetl.command` that they would be.
CREATE VIEW noetl.direct_lease AS
SELECT e.execution_id, e.direct_command AS command_id, i.step, i.generation, i.payload ->> 'kind' AS kind,
    coalesce((i.payload ->> 'attempt')::integer, 1) AS attempt, e.direct_pool AS pool, 'claimed' AS status, e.direct_seq AS seq,
    1 AS deliveries, e.direct_worker AS worker, e.direct_fence AS fence, e.direct_since + e.direct_lease AS lease_until,
    NULL::timestamptz AS due_at, e.direct_since AS issued_at, e.direct_since AS claimed_at, NULL::json AS lost,
    e.direct_playbook AS playbook, e.direct_weight AS weight
FROM noetl.execution e JOIN noetl.event i ON i.execution_id = e.execution_id AND i.seq = e.direct_seq
WHERE e.direct_worker IS NOT NULL;

-- All commands that wait, run, are due some time, or are dead.
CREATE VIEW noetl.outstanding AS
SELECT execution_id, command_id, step, generation, kind, attempt, pool, status, seq, deliveries, worker, fence, lease_until,
    due_at, issued_at, claimed_at, lost, playbook, weight
FROM noetl.command
UNION ALL
SELECT * FROM noetl.direct_lease;

-- Give the direct leases of these executions, if they have any, rows of their own. Locks the executions by id.
CREATE FUNCTION noetl.materialise(ids bigint[]) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    held bigint[];
BEGIN
    IF ids IS NULL OR ids = '{}' THEN
        RETURN;
    END IF;
    SELECT array_agg(locked.execution_id) INTO held FROM (
        SELECT DISTINCT unnest(ids) AS id ORDER BY 1
    ) named CROSS JOIN LATERAL (
        SELECT e.execution_id FROM noetl.execution e
        WHERE e.execution_id = named.id AND e.direct_fence IS NOT NULL FOR UPDATE
    ) locked;
    IF held IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO noetl.command (
        execution_id, command_id, step, generation, kind, attempt, pool, status, seq, deliveries, worker, fence, lease_until,
        due_at, issued_at, claimed_at, lost, playbook, weight)
    SELECT l.* FROM unnest(held) h(id) CROSS JOIN LATERAL (
        SELECT * FROM noetl.direct_lease d WHERE d.execution_id = h.id OFFSET 0
    ) l
    ON CONFLICT DO NOTHING;
    UPDATE noetl.execution SET direct_seq = NULL, direct_fence = NULL, direct_since = NULL, direct_command = NULL,
        direct_pool = NULL, direct_worker = NULL, direct_lease = NULL, direct_playbook = NULL, direct_weight = NULL
    WHERE execution_id = ANY (held);
END $$;

-- What a caller says that somebody holds.
CREATE TYPE noetl.holding AS (execution_id bigint, command_id text, fence bigint, worker text);

-- The executions of which one of these is the direct lease. Locks them by id.
CREATE FUNCTION noetl.held_directly(held noetl.holding[]) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (
        SELECT array_agg(locked.execution_id) FROM (
            SELECT DISTINCT h.execution_id, h.command_id, h.fence, h.worker FROM unnest(held) h ORDER BY 1
        ) named CROSS JOIN LATERAL (
            SELECT e.execution_id FROM noetl.execution e
            WHERE e.execution_id = named.execution_id AND e.direct_command = named.command_id
              AND e.direct_fence = named.fence AND e.direct_worker IS NOT DISTINCT FROM named.worker
            FOR UPDATE
        ) locked);
END $$;

-- Whether a direct lease has run out.
CREATE FUNCTION noetl.has_expired_direct_leases() RETURNS boolean LANGUAGE plpgsql STABLE SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN EXISTS (SELECT FROM noetl.execution e WHERE e.direct_worker IS NOT NULL AND e.direct_since + e.direct_lease < now());
END $$;

-- When a function of the release before was seen, which looks for leases among the rows alone: while there are such, none
-- is direct. Its reconciler calls `noetl.ensure_partitions` when it starts and then every hour; its control plane calls one of
-- the functions above to claim, to report, and for each commit, but not to extend or release leases.
CREATE TABLE noetl.older_release (seen_at timestamptz NOT NULL);
INSERT INTO noetl.older_release
SELECT CASE WHEN EXISTS (SELECT FROM noetl.migration WHERE at < now()) THEN now() ELSE '-infinity' END;

CREATE FUNCTION noetl.note_older_release() RETURNS void LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE noetl.older_release SET seen_at = now() WHERE ctid = ANY (ARRAY(
        SELECT o.ctid FROM noetl.older_release o WHERE o.seen_at < now() - interval '1 minute' FOR UPDATE SKIP LOCKED));
    -- whoever has not seen this yet may still grant one: the next call finds it
    PERFORM noetl.materialise(ARRAY(
        SELECT e.execution_id FROM noetl.execution e WHERE e.direct_worker IS NOT NULL FOR UPDATE SKIP LOCKED));
END $$;
