-- use_repeatable_read: read everything in this transaction from one snapshot of the database
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- execution: the projected row of an execution; instants in ms
SELECT execution_id::text, path, version, plan_hash, parent_execution_id::text, restart_of::text, parent, depth, status, head,
    folded, state, principal, workload, result, error, (extract(epoch FROM created_at) * 1000)::bigint AS created_at,
    (extract(epoch FROM ended_at) * 1000)::bigint AS ended_at, results_kept
FROM noetl.execution WHERE execution_id = :id;

-- lock_execution: lock the execution's row, which every commit locks first
SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE;

-- materialise: give its direct lease a row
SELECT noetl.materialise(ARRAY[CAST(:id AS bigint)]);

-- lock_commands: lock the execution's commands, so that no claim comes between
SELECT 1 FROM noetl.command WHERE execution_id = :id ORDER BY command_id FOR UPDATE;

-- events: the log, up to a number of events
SELECT seq, cause, type, step, generation, command_id, (extract(epoch FROM at) * 1000)::bigint, payload
FROM noetl.event WHERE execution_id = :id ORDER BY seq LIMIT CAST(:limit AS integer);

-- commands: the outstanding commands, timers and dead letters
SELECT command_id, step, generation, kind, attempt, seq, CASE
    WHEN status IN ('pending', 'claimed', 'limited') THEN 'open'
    WHEN status = 'paused' THEN CASE kind WHEN 'timer' THEN 'timer' ELSE 'open' END
    ELSE status END AS status, (extract(epoch FROM due_at) * 1000)::bigint AS due, limits
FROM noetl.outstanding WHERE execution_id = :id;

-- stages: loops
SELECT step, generation, seq, count, status FROM noetl.stage WHERE execution_id = :id;

-- frames: finished frames of loops
SELECT step, generation, seq, start_item AS "start", end_item AS "end", ok, failed FROM noetl.frame WHERE execution_id = :id;

-- results: where the results of steps are stored; what users have put is not in the log
SELECT key, ref, step, store, bytes, sha256, content_type, scope, (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at
FROM noetl.result_ref WHERE execution_id = :id AND put_by IS NULL;

-- variables: variables, without what counts their reads
SELECT var_name, var_type, var_value, source_step, (extract(epoch FROM created_at) * 1000)::bigint AS created_at,
    (extract(epoch FROM expires_at) * 1000)::bigint AS expires_at, scope
FROM noetl.transient WHERE execution_id = :id;

-- inbox: facts that are not in the log yet
SELECT type, step, generation, command_id, (extract(epoch FROM at) * 1000)::bigint, payload
FROM noetl.inbox WHERE execution_id = :id ORDER BY inbox_id;

-- now: the instant of the transaction, in ms
SELECT (extract(epoch FROM now()) * 1000)::bigint;

-- delete_commands: delete the commands; how many of them were leased
WITH gone AS (DELETE FROM noetl.command WHERE execution_id = :id RETURNING status)
SELECT count(*) FILTER (WHERE status = 'claimed') FROM gone;

-- delete_stages: delete the loops of an execution
DELETE FROM noetl.stage WHERE execution_id = :id;

-- delete_frames: delete the frames of an execution
DELETE FROM noetl.frame WHERE execution_id = :id;

-- delete_results: delete the rows, not the objects they refer to, and not those of what users have put or deleted
DELETE FROM noetl.result_ref WHERE execution_id = :id AND put_by IS NULL AND deleted_at IS NULL;

-- delete_variables: delete variables that the log does not have
DELETE FROM noetl.transient WHERE execution_id = :id AND NOT var_name = ANY (CAST(:names AS text[]));

-- write_variables: write variables as the log has them; how often they were read stays
SELECT noetl.write_variables(CAST(:changes AS json));

-- insert_commands: insert commands without leases; the next claim draws the next fence
INSERT INTO noetl.command (
    execution_id, command_id, step, generation, kind, attempt, pool, playbook, weight, status, seq, deliveries, worker,
    due_at, issued_at, limits, admission)
SELECT :id, x.command_id, x.step, x.generation, x.kind, x.attempt, x.pool, x.playbook, x.weight,
    CASE x.status WHEN 'open' THEN 'pending' ELSE x.status END, x.seq, coalesce(x.deliveries, 0), x.worker,
    to_timestamp(x.due / 1000.0), to_timestamp(x.at / 1000.0), x.limits,
    CASE WHEN NOT EXISTS (SELECT FROM noetl.begun b WHERE b.execution_id = :id) THEN x.admission END
FROM json_to_recordset(:rows::json) AS x(
    command_id text, step text, generation integer, kind text, attempt integer, pool text, playbook integer, weight smallint,
    status text, seq integer, deliveries integer, worker text, due float8, at float8, limits json, admission json);

-- insert_stages: insert loops
INSERT INTO noetl.stage (execution_id, step, generation, seq, count, status)
SELECT :id, x.step, x.generation, x.seq, x.count, x.status
FROM json_to_recordset(:rows::json) AS x(step text, generation integer, seq integer, count integer, status text);

-- insert_frames: insert finished frames of loops
INSERT INTO noetl.frame (execution_id, step, generation, start_item, end_item, seq, ok, failed)
SELECT :id, x.step, x.generation, x.start, x."end", x.seq, x.ok, x.failed
FROM json_to_recordset(:rows::json) AS x(
    step text, generation integer, start integer, "end" integer, seq integer, ok integer, failed integer);

-- insert_results: insert results, except those that expired, were deleted or are no longer kept, whose objects may be gone
INSERT INTO noetl.result_ref (execution_id, key, ref, step, store, bytes, sha256, content_type, scope, expires_at, created_at)
SELECT :id, x.key, x.ref, x.step, x.store, x.bytes, x.sha256, x.content_type, x.scope, x.expires_at, to_timestamp(x.at / 1000.0)
FROM json_to_recordset(:rows::json) AS x(
    key text, ref text, step text, store text, bytes bigint, sha256 text, content_type text, scope text, expires_at timestamptz,
    at float8)
WHERE (x.expires_at IS NULL OR x.expires_at > now()) AND NOT EXISTS (
    SELECT FROM noetl.execution e WHERE e.execution_id = :id AND x.scope <> 'permanent' AND (
        e.results_kept = 'permanent' OR e.results_kept = 'execution' AND x.scope = 'step'))
ON CONFLICT DO NOTHING;

-- update_execution: set the row of an execution to what the log says; its idempotency key is not in the log and stays
UPDATE noetl.execution e SET
    path = x.path, version = x.version, plan_hash = x.plan_hash, parent = x.parent,
    parent_execution_id = (x.parent->>'execution_id')::bigint, restart_of = x.restart_of, depth = x.depth, status = x.status, head = x.head,
    folded = x.head, state = x.state, state_version = x.state_version,
    principal = coalesce(x.principal, e.principal), workload = coalesce(x.workload, e.workload), result = x.result, error = x.error,
    created_at = to_timestamp(x.created_at / 1000.0), ended_at = to_timestamp(x.ended_at / 1000.0),
    paused_at = to_timestamp(x.paused_at / 1000.0)
FROM json_to_record(:row::json) AS x(
    path text, version integer, plan_hash text, parent json, restart_of bigint, depth integer, status text, head integer, state json, state_version smallint, principal json,
    workload json, result json, error json, created_at float8, ended_at float8, paused_at float8)
WHERE e.execution_id = :id;

-- insert_execution: restore the lost row of an execution
INSERT INTO noetl.execution (
    execution_id, catalog_id, path, version, plan_hash, parent_execution_id, restart_of, parent, depth, status, head, folded,
    state, state_version, principal, workload, result, error, created_at, ended_at, paused_at)
SELECT :id, c.catalog_id, x.path, x.version, x.plan_hash, (x.parent->>'execution_id')::bigint, x.restart_of, x.parent, x.depth, x.status, x.head,
    x.head, x.state, x.state_version, x.principal, x.workload, x.result, x.error, to_timestamp(x.created_at / 1000.0),
    to_timestamp(x.ended_at / 1000.0), to_timestamp(x.paused_at / 1000.0)
FROM json_to_record(:row::json) AS x(
    path text, version integer, plan_hash text, parent json, restart_of bigint, depth integer, status text, head integer, state json, state_version smallint, principal json,
    workload json, result json, error json, created_at float8, ended_at float8, paused_at float8)
JOIN noetl.catalog c ON c.path = x.path AND c.version = x.version
RETURNING execution_id;

-- ids: executions that have a log, in order, except those that have left and whose events are still to be deleted
SELECT execution_id::text FROM noetl.event v WHERE execution_id > :after AND seq = 1 AND NOT EXISTS (
    SELECT FROM noetl.archived a JOIN noetl.archive b USING (archive_id)
    WHERE a.execution_id = v.execution_id AND b.status = 'registered')
ORDER BY execution_id LIMIT CAST(:limit AS integer);

-- children: the executions that an execution has started, running or ended
SELECT execution_id::text FROM noetl.execution WHERE parent_execution_id = :id ORDER BY execution_id;

-- playbook: the text of the version that ran
SELECT content FROM noetl.catalog WHERE hash = :hash ORDER BY catalog_id DESC LIMIT 1;

-- result_place: the store and the size of the result that an execution, or one that it goes on with, has registered under a key
WITH RECURSIVE line AS (
    SELECT CAST(:id AS bigint) AS id
    UNION
    SELECT coalesce(
        (SELECT e.restart_of FROM noetl.execution e WHERE e.execution_id = line.id),
        (SELECT a.restart_of FROM noetl.archived a WHERE a.execution_id = line.id))
    FROM line WHERE line.id IS NOT NULL
)
SELECT r.store, r.bytes FROM line JOIN noetl.result_ref r ON r.execution_id = line.id AND r.key = :key AND r.deleted_at IS NULL LIMIT 1;

-- leases: the command rows with their leases, if any
WITH used AS MATERIALIZED (
    SELECT w.limits, w.admission, noetl.limit_use(w.limits::json, w.admission::json) AS says FROM (
        SELECT DISTINCT c.limits::text, c.admission::text FROM noetl.command c
        WHERE c.execution_id = :id AND c.status = 'limited' LIMIT 20) w
)
SELECT command_id, status, worker, deliveries, lease_until, due_at, issued_at, (
    SELECT u.says FROM used u WHERE o.status = 'limited' AND u.limits IS NOT DISTINCT FROM o.limits::text
        AND u.admission IS NOT DISTINCT FROM o.admission::text) AS limits
FROM noetl.outstanding o WHERE execution_id = :id
ORDER BY issued_at, command_id;
