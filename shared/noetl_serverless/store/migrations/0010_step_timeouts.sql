-- The end of a step whose time is over: what is under way of it ends, whoever holds it. The release before knows no such end.

-- `noetl.commit`, and the rows of commands and timers that nothing waits for any more go.
-- dropped     [{id, command}]
CREATE FUNCTION noetl.commit_dropping(
    executions json, events json, closes json, commands json, stages json, frames json, refs json,
    taken json, appends json, quarantined json, dropped json
) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answer json;
BEGIN
    -- in the order of every commit: executions, then commands, those that are closed among them
    PERFORM 1 FROM noetl.execution e
    WHERE e.execution_id = ANY (ARRAY(SELECT x.id FROM json_to_recordset(executions) AS x(id bigint)))
    ORDER BY e.execution_id FOR UPDATE;
    PERFORM 1 FROM (
        SELECT x.id, x.command FROM json_to_recordset(dropped) AS x(id bigint, command text)
        UNION
        SELECT x.id, x.command FROM json_to_recordset(closes) AS x(id bigint, command text)
        ORDER BY 1, 2
    ) named CROSS JOIN LATERAL (
        SELECT FROM noetl.command c WHERE c.execution_id = named.id AND c.command_id = named.command FOR UPDATE
    ) locked;
    answer := noetl.commit(
        executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined);
    DELETE FROM noetl.command c USING json_to_recordset(dropped) AS x(id bigint, command text)
    WHERE c.execution_id = x.id AND c.command_id = x.command AND c.status <> 'dead'
        AND x.id IN (SELECT g::text::bigint FROM json_array_elements_text(answer->'good') g);
    RETURN answer;
END $$;

REVOKE EXECUTE ON FUNCTION noetl.commit_dropping(json, json, json, json, json, json, json, json, json, json, json) FROM PUBLIC;
