-- commit: append, fold and project for any number of executions in one transaction
SELECT noetl.commit(
    :executions::json, :events::json, :closes::json, :commands::json, :stages::json, :frames::json, :refs::json,
    :taken::json, :appends::json, :quarantined::json);

-- commit_dropping: the same where commands or timers of steps that have ended are left
SELECT noetl.commit_dropping(
    :executions::json, :events::json, :closes::json, :commands::json, :stages::json, :frames::json, :refs::json,
    :taken::json, :appends::json, :quarantined::json, :dropped::json);

-- commit_pausing: the same where executions are paused or go on
SELECT noetl.commit_pausing(
    :executions::json, :events::json, :closes::json, :commands::json, :stages::json, :frames::json, :refs::json,
    :taken::json, :appends::json, :quarantined::json, :dropped::json, :pauses::json);
-- commit_limited: the same where limited commands are issued, or end; and which others may begin then
SELECT noetl.commit_limited(
    :executions::json, :events::json, :closes::json, :commands::json, :stages::json, :frames::json, :refs::json,
    :taken::json, :appends::json, :quarantined::json, :dropped::json);

-- startable: limited commands that may begin now, and when a rate lets the next one begin
SELECT noetl.startable(CAST(:limit AS integer));
-- commit_restarting: the same where an execution is opened that goes on with another one
SELECT noetl.commit_restarting(
    :executions::json, :events::json, :closes::json, :commands::json, :stages::json, :frames::json, :refs::json,
    :taken::json, :appends::json, :quarantined::json, :restarts::json);

-- commit_variables: any of these where variables have changed
SELECT noetl.commit_variables(
    :executions::json, :events::json, :closes::json, :commands::json, :stages::json, :frames::json, :refs::json,
    :taken::json, :appends::json, :quarantined::json, :dropped::json, :pauses::json, :restarts::json, :limited,
    :variables::json);

-- load: the rows that a decision starts from, with the events that the snapshot does not have yet
SELECT e.execution_id::text, e.catalog_id::text, e.path, e.version, e.plan_hash, e.parent, e.depth, e.head, e.folded, e.state,
    e.state_version, e.principal, e.workload, (
        SELECT json_agg(json_build_array(
            v.execution_id::text, v.seq, v.cause, v.type, v.step, v.generation, v.command_id,
            (extract(epoch FROM v.at) * 1000)::bigint, v.payload) ORDER BY v.seq)
        FROM noetl.event v WHERE v.execution_id = e.execution_id AND v.seq > e.folded)
FROM noetl.execution e WHERE e.execution_id = ANY (CAST(:ids AS bigint[]));

-- lock: keep others from committing to an execution
SELECT 1 FROM noetl.execution WHERE execution_id = :id FOR UPDATE;

-- lock_children: keep others from committing to children of a locked execution; their status
SELECT execution_id, status FROM noetl.execution WHERE execution_id = ANY (CAST(:ids AS bigint[]))
ORDER BY execution_id FOR SHARE;

-- issued_events: the events from which the rows of commands and timers are made
SELECT seq, type, step, generation, command_id, (extract(epoch FROM at) * 1000)::bigint, json_strip_nulls(json_build_object(
    'kind', payload->'kind', 'attempt', payload->'attempt', 'timer', payload->'timer', 'due', payload->'due',
    'limits', payload->'limits'))
FROM noetl.event WHERE execution_id = :id AND (
    (type = 'command.issued' AND command_id = ANY (CAST(:commands AS text[])))
    OR (type = 'timer.set' AND payload->>'timer' = ANY (CAST(:timers AS text[]))))
ORDER BY seq;

-- read_inbox: the first facts that are not in the log yet, ending with the one that reaches the byte limit; the last tells whether there are more
SELECT inbox_id, type, step, generation, command_id, (extract(epoch FROM at) * 1000)::bigint, payload, more
FROM noetl.waiting(:id, CAST(:limit AS integer), CAST(:bytes AS bigint));

-- append_to_inbox: close commands and put their facts into the inbox
SELECT noetl.append(:facts::json);

-- clear_inbox: delete facts that came too late for an execution that has ended
SELECT noetl.clear_inbox(:id);

-- events: an execution's log in order of writing
SELECT execution_id::text, seq, cause, type, step, generation, command_id, (extract(epoch FROM at) * 1000)::bigint, payload
FROM noetl.event WHERE execution_id = :id ORDER BY seq;

-- starts_by_key: the executions that idempotency keys have started
SELECT idempotency_key, execution_id::text, version, request_hash, principal
FROM noetl.execution WHERE idempotency_key = ANY (CAST(:keys AS text[]));

-- claim: lease pending commands, and limited ones that may begin: those of the keys, or with null any of them, by a fair claim
SELECT * FROM noetl.lease(:worker, :pool, CAST(:lease AS float8), CAST(:limit AS integer), CAST(:keys AS json));

-- recover_leases: commands that a worker holds without knowing it, after a response was lost
SELECT * FROM noetl.holdings(:worker, CAST(:lease AS float8), CAST(:holding AS json));

-- loop_opened: the payload of the event that opened a loop
SELECT o.payload FROM noetl.stage s
JOIN noetl.event o ON o.execution_id = s.execution_id AND o.seq = s.seq
WHERE s.execution_id = :id AND s.step = :step AND s.generation = :generation;

-- extend_leases: extend the leases that the worker still holds, and return them
SELECT * FROM noetl.extend(:worker, CAST(:held AS json), CAST(:lease AS float8));

-- release_leases: release commands that were claimed and not run to their end
SELECT * FROM noetl.release(:worker, CAST(:held AS json));

-- expire_leases: release commands whose lease has expired, below the limit of deliveries, and note their workers
SELECT * FROM noetl.expire(CAST(:deliveries AS integer), CAST(:limit AS integer));

-- undeliverable: commands that were delivered too often and never reported
SELECT execution_id::text, command_id, fence, worker, deliveries, step, generation, kind, seq FROM noetl.outstanding
WHERE status = 'claimed' AND lease_until < now() AND deliveries >= :deliveries
ORDER BY lease_until LIMIT :limit;

-- add_dead_letter: keep a command as a dead letter for people to inspect
INSERT INTO noetl.command (
    execution_id, command_id, step, generation, kind, attempt, pool, status, seq, deliveries, worker, issued_at)
SELECT e.execution_id, e.command_id, e.step, e.generation, e.payload->>'kind', (e.payload->>'attempt')::integer, :pool, 'dead',
    e.seq, :deliveries, :worker, e.at
FROM noetl.event e WHERE e.execution_id = :id AND e.seq = :seq AND NOT EXISTS (
    SELECT FROM noetl.execution x WHERE x.execution_id = e.execution_id AND x.direct_command = e.command_id)
ON CONFLICT DO NOTHING;

-- pools_with_pending: the pools with commands that have been pending for a while
SELECT DISTINCT pool FROM noetl.command
WHERE status = 'pending' AND issued_at < now() - make_interval(secs => :age);

-- due_timers: timers that are due, from a position on
SELECT execution_id::text, command_id AS name, step, generation, due_at FROM noetl.command
WHERE status = 'timer' AND due_at <= now() AND due_at >= :after ORDER BY due_at LIMIT :limit;

-- timers: the timers of an execution
SELECT command_id, (extract(epoch FROM due_at) * 1000)::bigint FROM noetl.command
WHERE execution_id = :id AND kind = 'timer';

-- executions_with_inbox: executions with facts in their inbox, after a position, in order
SELECT id::text FROM (
    SELECT DISTINCT execution_id AS id FROM noetl.inbox WHERE execution_id > :after ORDER BY execution_id LIMIT :limit) waiting
ORDER BY id;

-- list_quarantined: executions in quarantine, without the facts that are kept for them
SELECT q.execution_id::text, e.path, e.version, q.seq, q.at, q.error, json_array_length(q.facts) AS fact_count
FROM noetl.quarantine q JOIN noetl.execution e USING (execution_id)
WHERE q.execution_id > :after ORDER BY q.execution_id LIMIT :limit;

-- get_quarantined: an execution in quarantine, with the facts that are kept for it
SELECT q.execution_id::text, e.path, e.version, q.seq, q.at, q.error, json_array_length(q.facts) AS fact_count, q.facts
FROM noetl.quarantine q JOIN noetl.execution e USING (execution_id)
WHERE q.execution_id = :id;

-- running_children: the running executions that an execution has started
SELECT execution_id::text FROM noetl.execution WHERE parent_execution_id = :id AND status = 'RUNNING';

-- running_descendants: the running executions that an execution has started, directly or through others, which may have ended; those before what they have started
SELECT execution_id::text FROM noetl.running_below(:id) WHERE execution_id <> CAST(:id AS bigint) ORDER BY depth, execution_id;

-- is_descendant: whether an execution is among those that another, or one that this goes on with, has started, directly or through others, or is one of the latter
WITH RECURSIVE line AS (
    SELECT CAST(:above AS bigint) AS id
    UNION
    SELECT coalesce(
        (SELECT e.restart_of FROM noetl.execution e WHERE e.execution_id = line.id),
        (SELECT a.restart_of FROM noetl.archived a WHERE a.execution_id = line.id))
    FROM line WHERE line.id IS NOT NULL
), up AS (
    SELECT CAST(:id AS bigint) AS id
    UNION
    SELECT coalesce(
        (SELECT e.parent_execution_id FROM noetl.execution e WHERE e.execution_id = up.id),
        (SELECT a.parent_execution_id FROM noetl.archived a WHERE a.execution_id = up.id))
    FROM up WHERE up.id IS NOT NULL
)
SELECT 1 FROM up JOIN line USING (id) WHERE CAST(:id AS bigint) <> CAST(:above AS bigint) LIMIT 1;

-- related_restarts: what an execution goes on with at last, and all that go on with that; whether each may go on, whether it has begun to undo what it did, and what it has taken over and would undo, which is not known of one that is archived
SELECT t.execution_id::text, coalesce(e.version, a.version) AS version, coalesce(e.status, a.status) AS status, t.is_open,
    CASE
        WHEN coalesce(e.status, a.status) = 'COMPLETED' THEN false
        WHEN e.execution_id IS NOT NULL THEN EXISTS (
            SELECT FROM noetl.event v WHERE v.execution_id = e.execution_id AND v.type = 'compensation.started')
    END AS has_undone,
    CASE WHEN e.execution_id IS NOT NULL THEN coalesce((
        SELECT v.payload->'undoes' FROM noetl.event v
        WHERE v.execution_id = e.execution_id AND v.type = 'execution.restarted'), '[]')
    END AS undoes
FROM noetl.restart_tree(noetl.restart_root(:id)) t
LEFT JOIN noetl.execution e ON e.execution_id = t.execution_id
LEFT JOIN noetl.archived a ON a.execution_id = t.execution_id
ORDER BY t.execution_id;

-- running_restarts: of what an execution goes on with at last, and of all that go on with that, what runs below those that have ended or undo what they did, these, and what goes on with what is below
SELECT r.execution_id::text, r.of_id::text FROM noetl.restarts_running(noetl.restart_root(:id)) r ORDER BY r.execution_id;

-- pending_work: which kinds of work are waiting
SELECT
    -- the first entry of the index; EXISTS might scan the table until it finds one
    (SELECT lease_until < now() FROM noetl.command WHERE status = 'claimed' ORDER BY lease_until LIMIT 1) IS TRUE
        OR noetl.has_expired_direct_leases() AS has_expired_leases,
    EXISTS (SELECT FROM noetl.command WHERE status = 'pending' AND issued_at < now() - make_interval(secs => :age)) AS has_pending_commands,
    EXISTS (SELECT FROM noetl.command WHERE status = 'timer' AND due_at <= now()) AS has_due_timers,
    EXISTS (SELECT FROM noetl.inbox) AS has_inboxes,
    EXISTS (SELECT FROM noetl.schedule WHERE enabled AND next_run_at <= now())
        OR EXISTS (SELECT FROM noetl.schedule_fire WHERE status = 'open' AND coalesce(start_at, due_at) <= now())
        OR EXISTS (SELECT FROM noetl.schedule_fire WHERE status = 'waiting') AS has_due_schedules,
    EXISTS (SELECT FROM noetl.chore WHERE due_at <= now()) AS maintenance,
    EXISTS (SELECT FROM noetl.trigger_event WHERE status IN ('received', 'failed') AND due_at <= now()) AS has_trigger_events,
    EXISTS (SELECT FROM noetl.trigger WHERE kind IN ('message', 'object') AND enabled AND polled_until <= now()) AS has_trigger_sources,
    EXISTS (SELECT FROM noetl.command WHERE status = 'limited') AS has_limited_commands;

-- ensure_partitions: create the event partitions of this month and the next
SELECT noetl.create_partitions(now());
