-- Variables of executions: a projection of the log, but for how often users have read them, and when.

CREATE TABLE noetl.transient (
    execution_id bigint NOT NULL,
    var_name text NOT NULL,
    var_type text NOT NULL CHECK (var_type IN ('user_defined', 'step_result', 'computed', 'iterator_state')),
    var_value json NOT NULL,
    source_step text,
    created_at timestamptz NOT NULL,
    -- when a user has read it last; if nobody has, when it was created
    accessed_at timestamptz NOT NULL,
    access_count bigint NOT NULL DEFAULT 0,
    -- while its execution is paused, this is not reached: see `noetl.expiry_clock`
    expires_at timestamptz,
    -- who sees it: its execution alone
    scope text NOT NULL DEFAULT 'execution' CHECK (scope = 'execution'),
    PRIMARY KEY (execution_id, var_name)
);

-- The instant by which variables of an execution have expired, or not: its time stands still while it is paused.
CREATE FUNCTION noetl.expiry_clock(id bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT e.paused_at FROM noetl.execution e WHERE e.execution_id = id AND e.status = 'RUNNING'), now())
$$;

-- Write what has changed of the variables of executions that are locked.
-- changes     [{id, set: [{name, type, value, source_step, created_at, expires_at}], gone: [name]}]; instants in ms
CREATE FUNCTION noetl.write_variables(changes json) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    DELETE FROM noetl.transient t USING (
        SELECT c.id, g.name FROM json_to_recordset(changes) AS c(id bigint, gone json)
        CROSS JOIN LATERAL json_array_elements_text(c.gone) AS g(name)
    ) gone
    WHERE t.execution_id = gone.id AND t.var_name = gone.name;
    INSERT INTO noetl.transient AS t (
        execution_id, var_name, var_type, var_value, source_step, created_at, accessed_at, expires_at)
    SELECT c.id, s.name, s.type, coalesce(s.value, 'null'), s.source_step, to_timestamp(s.created_at / 1000.0),
        to_timestamp(s.created_at / 1000.0), to_timestamp(s.expires_at / 1000.0)
    FROM json_to_recordset(changes) AS c(id bigint, set json)
    CROSS JOIN LATERAL json_to_recordset(c.set) AS s(
        name text, type text, value json, source_step text, created_at float8, expires_at float8)
    ORDER BY c.id, s.name
    ON CONFLICT (execution_id, var_name) DO UPDATE SET
        var_type = excluded.var_type, var_value = excluded.var_value, source_step = excluded.source_step,
        created_at = excluded.created_at, expires_at = excluded.expires_at,
        -- one that was deleted and set again is another one
        access_count = CASE WHEN t.created_at = excluded.created_at THEN t.access_count ELSE 0 END,
        accessed_at = CASE WHEN t.created_at = excluded.created_at THEN t.accessed_at ELSE excluded.accessed_at END;
END $$;

-- Another commit, and what has changed of variables: `noetl.commit_restarting` if any execution is opened that goes on with
-- another one, `noetl.commit_pausing` if any is paused or goes on, `noetl.commit_limited` if `limited`, else
-- `noetl.commit_dropping` or `noetl.commit`. The other arguments are those of these functions.
CREATE FUNCTION noetl.commit_variables(
    executions json, events json, closes json, commands json, stages json, frames json, refs json,
    taken json, appends json, quarantined json, dropped json, pauses json, restarts json, limited boolean, variables json
) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answer json;
BEGIN
    IF json_array_length(restarts) > 0 THEN
        answer := noetl.commit_restarting(
            executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, restarts);
    ELSIF json_array_length(pauses) > 0 THEN
        answer := noetl.commit_pausing(
            executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, dropped, pauses);
    ELSIF limited THEN
        answer := noetl.commit_limited(
            executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, dropped);
    ELSIF json_array_length(dropped) > 0 THEN
        answer := noetl.commit_dropping(
            executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, dropped);
    ELSE
        answer := noetl.commit(executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined);
    END IF;
    PERFORM noetl.write_variables((
        SELECT coalesce(json_agg(v), '[]') FROM json_array_elements(variables) v
        WHERE (v ->> 'id')::bigint IN (SELECT g::bigint FROM json_array_elements_text(answer -> 'good') g)));
    RETURN answer;
END $$;

-- An execution that leaves takes its variables with it.
CREATE FUNCTION noetl.delete_variables() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    DELETE FROM noetl.transient t USING gone WHERE t.execution_id = gone.execution_id;
    RETURN NULL;
END $$;
CREATE TRIGGER delete_variables AFTER DELETE ON noetl.execution REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION noetl.delete_variables();

-- Its role may call no function: this is `noetl.expiry_clock` once more.
CREATE VIEW noetl_query.transient AS
SELECT execution_id, var_name, var_type, var_value, source_step, created_at, accessed_at, access_count, expires_at, scope
FROM noetl.transient t WHERE expires_at IS NULL OR expires_at > coalesce(
    (SELECT e.paused_at FROM noetl.execution e WHERE e.execution_id = t.execution_id AND e.status = 'RUNNING'), now());

-- Direct workers report what steps set.
ALTER FUNCTION noetl.worker_routines() RENAME TO worker_routines_without_variables;
CREATE FUNCTION noetl.worker_routines() RETURNS SETOF regprocedure LANGUAGE sql STABLE AS $$
    SELECT * FROM noetl.worker_routines_without_variables()
    UNION ALL
    SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'noetl'::regnamespace AND p.proname = 'commit_variables'
$$;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
