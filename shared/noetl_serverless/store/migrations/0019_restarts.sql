-- Executions that go on with another one that has ended, from one of its steps. The release before knows no such
-- executions, and leaves them alone, since it cannot read their states.

ALTER TABLE noetl.execution ADD COLUMN restart_of bigint;
ALTER TABLE noetl.archived ADD COLUMN restart_of bigint;
CREATE INDEX execution_restart ON noetl.execution (restart_of) WHERE restart_of IS NOT NULL;
CREATE INDEX archived_restart ON noetl.archived (restart_of) WHERE restart_of IS NOT NULL;

-- What an execution goes on with at last; that one itself, whether it is still there or not.
CREATE FUNCTION noetl.restart_root(id bigint) RETURNS bigint LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
    before bigint;
BEGIN
    LOOP
        before := coalesce(
            (SELECT e.restart_of FROM noetl.execution e WHERE e.execution_id = id),
            (SELECT a.restart_of FROM noetl.archived a WHERE a.execution_id = id));
        IF before IS NULL THEN
            RETURN id;
        END IF;
        id := before;
    END LOOP;
END $$;

-- An execution and all that go on with it, directly or through others. `is_open`: it runs, or may be retried.
CREATE FUNCTION noetl.restart_tree(root bigint) RETURNS TABLE (execution_id bigint, is_open boolean)
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE tree AS (
        SELECT root AS id
        UNION
        SELECT r.id FROM tree t CROSS JOIN LATERAL (
            SELECT e.execution_id AS id FROM noetl.execution e WHERE e.restart_of = t.id
            UNION ALL
            SELECT a.execution_id AS id FROM noetl.archived a WHERE a.restart_of = t.id
        ) r
    )
    SELECT t.id, EXISTS (SELECT FROM noetl.execution e WHERE e.execution_id = t.id AND e.status = 'RUNNING')
        OR EXISTS (SELECT FROM noetl.quarantine q WHERE q.execution_id = t.id)
    FROM tree t;
END $$;

-- What runs of an execution and of those that it has started, directly or through others, whether these have ended or not.
CREATE FUNCTION noetl.running_below(id bigint) RETURNS TABLE (execution_id bigint, depth integer)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE below AS (
        SELECT running_below.id AS id
        UNION
        SELECT r.id FROM below b CROSS JOIN LATERAL (
            SELECT e.execution_id AS id FROM noetl.execution e WHERE e.parent_execution_id = b.id
            UNION ALL
            SELECT a.execution_id AS id FROM noetl.archived a WHERE a.parent_execution_id = b.id
        ) r
    )
    SELECT e.execution_id, e.depth FROM below b JOIN noetl.execution e ON e.execution_id = b.id WHERE e.status = 'RUNNING';
END $$;

-- The same of an execution and of those that go on with it, where such a one, `of_id`, has ended or undoes what it did;
-- also of those that go on with what is below it.
CREATE FUNCTION noetl.restarts_running(root bigint) RETURNS TABLE (execution_id bigint, of_id bigint)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    RETURN QUERY
    WITH RECURSIVE below AS (
        SELECT t.execution_id AS id, t.execution_id AS top FROM noetl.restart_tree(root) t
        WHERE NOT EXISTS (SELECT FROM noetl.execution e WHERE e.execution_id = t.execution_id AND e.status = 'RUNNING')
            OR EXISTS (
                SELECT FROM noetl.event v WHERE v.execution_id = t.execution_id AND v.type = 'compensation.started')
        UNION
        SELECT r.id, b.top FROM below b CROSS JOIN LATERAL (
            SELECT e.execution_id AS id FROM noetl.execution e WHERE e.parent_execution_id = b.id
            UNION ALL
            SELECT a.execution_id AS id FROM noetl.archived a WHERE a.parent_execution_id = b.id
            -- those that go on with the top are tops themselves
            UNION ALL
            SELECT e.execution_id AS id FROM noetl.execution e WHERE e.restart_of = b.id AND b.id <> b.top
            UNION ALL
            SELECT a.execution_id AS id FROM noetl.archived a WHERE a.restart_of = b.id AND b.id <> b.top
        ) r
    )
    SELECT e.execution_id, b.top FROM below b JOIN noetl.execution e ON e.execution_id = b.id WHERE e.status = 'RUNNING';
END $$;

-- `noetl.commit_limited`, and the executions that it opens are linked to those they go on with. Nothing is written if
-- another execution goes on with the same that is not among `related`, and one of the two would undo what it has taken
-- over if it failed: the other may rely on it, or undo it, too. Nor if this one would, and any of them has not ended. One
-- that has ended never begins to undo. Nor is anything written if `noetl.restarts_running` finds one that is not among
-- `seen`: it may undo what would be done again meanwhile.
-- restarts    [{id, restart_of, related, undoes, seen}]
CREATE FUNCTION noetl.commit_restarting(
    executions json, events json, closes json, commands json, stages json, frames json, refs json,
    taken json, appends json, quarantined json, restarts json
) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answer json;
    restart record;
BEGIN
    FOR restart IN
        SELECT noetl.restart_root(x.restart_of) AS root, x.related, x.undoes, x.seen
        FROM json_to_recordset(restarts) AS x(restart_of bigint, related bigint[], undoes boolean, seen bigint[]) ORDER BY 1
    LOOP
        PERFORM pg_advisory_xact_lock(421508, hashint8(restart.root));
        IF EXISTS (
            SELECT FROM noetl.restart_tree(restart.root) t
            WHERE restart.undoes AND t.is_open OR t.execution_id <> ALL (restart.related) AND (restart.undoes OR EXISTS (
                SELECT FROM noetl.event v
                WHERE v.execution_id = t.execution_id AND v.type = 'execution.restarted'
                    AND v.payload->'undoes' IS NOT NULL))
        ) OR EXISTS (
            SELECT FROM noetl.restarts_running(restart.root) r WHERE r.execution_id <> ALL (restart.seen)
        ) THEN
            RETURN '{"good": [], "claimed": [], "appended": []}'::json;
        END IF;
    END LOOP;
    answer := noetl.commit_limited(
        executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, '[]');
    UPDATE noetl.execution e SET restart_of = x.restart_of
    FROM json_to_recordset(restarts) AS x(id bigint, restart_of bigint)
    WHERE e.execution_id = x.id AND x.id IN (SELECT g::text::bigint FROM json_array_elements_text(answer->'good') g);
    RETURN answer;
END $$;

-- Whether an execution that goes on with this one, directly or through others, runs or ended after `instant`: it may use
-- the results of this one.
CREATE FUNCTION noetl.is_used_after(id bigint, instant timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
BEGIN
    RETURN EXISTS (
        WITH RECURSIVE later AS (
            SELECT id AS execution_id, NULL::timestamptz AS ended_at
            UNION
            SELECT r.execution_id, r.ended_at FROM later l CROSS JOIN LATERAL (
                SELECT execution_id, ended_at FROM noetl.execution WHERE restart_of = l.execution_id
                UNION ALL
                SELECT execution_id, ended_at FROM noetl.archived WHERE restart_of = l.execution_id
            ) r
        )
        SELECT FROM later l WHERE l.execution_id <> id AND (l.ended_at IS NULL OR l.ended_at > instant));
END $$;

-- Whether an execution, those above it and those that go on with any of these ended before `cutoff`, or are gone: until
-- then they may use its results.
CREATE OR REPLACE FUNCTION noetl.settled(id bigint, cutoff timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
DECLARE
    above bigint;
    ended timestamptz;
BEGIN
    WHILE id IS NOT NULL LOOP
        SELECT x.parent_execution_id, x.ended_at INTO above, ended FROM (
            SELECT parent_execution_id, ended_at FROM noetl.execution WHERE execution_id = id
            UNION ALL
            SELECT parent_execution_id, ended_at FROM noetl.archived WHERE execution_id = id
        ) x LIMIT 1;
        IF NOT FOUND THEN
            RETURN true;
        END IF;
        IF ended IS NULL OR ended >= cutoff OR noetl.is_used_after(id, cutoff) THEN
            RETURN false;
        END IF;
        id := above;
    END LOOP;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION noetl.leaving(wanted text, cutoff timestamptz, most integer)
RETURNS TABLE (execution_id bigint, head integer) LANGUAGE sql STABLE AS $$
    SELECT e.execution_id, e.head FROM noetl.execution e
    WHERE e.execution_id < noetl.id_of(cutoff) AND e.ended_at < cutoff AND e.status <> 'RUNNING'
      AND NOT EXISTS (SELECT FROM noetl.archived a WHERE a.execution_id = e.execution_id)
      AND NOT EXISTS (SELECT FROM noetl.inbox i WHERE i.execution_id = e.execution_id)
      AND NOT EXISTS (SELECT FROM noetl.quarantine q WHERE q.execution_id IN (e.execution_id, e.parent_execution_id))
      -- an archive keeps what those above, or those that go on with it, may still use; expiry does not
      AND (wanted = 'archive' OR noetl.settled(e.execution_id, cutoff))
    ORDER BY e.execution_id LIMIT most
$$;

-- As before, and what each execution goes on with is kept.
CREATE OR REPLACE FUNCTION noetl.plan_archive(id bigint, wanted text, cutoff timestamptz, most integer, most_events bigint)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    chosen bigint[];
BEGIN
    -- one at a time, or two would choose the same
    PERFORM pg_advisory_xact_lock(4215077393);
    SELECT array_agg(o.execution_id) INTO chosen FROM (
        SELECT l.execution_id, sum(l.head) OVER w - l.head AS before, noetl.month_of(l.execution_id) AS month,
            first_value(noetl.month_of(l.execution_id)) OVER w AS first_month
        FROM noetl.leaving(wanted, cutoff, most) l WINDOW w AS (ORDER BY l.execution_id)
    ) o WHERE o.month = o.first_month AND (o.before < most_events OR o.before = 0);
    IF chosen IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO noetl.archive (archive_id, kind, month, first_id, last_id, executions, events, ended_at)
    SELECT id, wanted, noetl.month_of(min(execution_id)), min(execution_id), max(execution_id), count(*), sum(head), max(ended_at)
    FROM noetl.execution WHERE execution_id = ANY (chosen);
    INSERT INTO noetl.archived (
        execution_id, archive_id, catalog_id, path, version, parent_execution_id, restart_of, status, head, finished,
        created_at, ended_at)
    SELECT execution_id, id, catalog_id, path, version, parent_execution_id, restart_of, status, head, finished,
        created_at, ended_at
    FROM noetl.execution WHERE execution_id = ANY (chosen);
    RETURN id;
END $$;

-- Workers' roles also read what an execution goes on with: its results may be referred to.
CREATE OR REPLACE FUNCTION noetl.grant_worker(role_name name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM noetl.grant_worker_to_run(role_name);
    EXECUTE format('GRANT SELECT (deleted_at) ON noetl.catalog TO %I', role_name);
    EXECUTE format('GRANT SELECT (restart_of) ON noetl.execution TO %I', role_name);
    EXECUTE format('GRANT SELECT (restart_of) ON noetl.archived TO %I', role_name);
END $$;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
