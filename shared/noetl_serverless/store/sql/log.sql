-- commit: append, fold and project for any number of executions in one transaction
SELECT noetl.commit(
    :executions::jsonb, :events::jsonb, :closes::jsonb, :commands::jsonb, :stages::jsonb, :frames::jsonb, :refs::jsonb,
    :taken::jsonb, :appends::jsonb);

-- load: the rows that a decision starts from, with the events that the snapshot does not have yet
SELECT e.execution_id::text, e.catalog_id::text, e.path, e.version, e.plan_hash, e.parent, e.depth, e.head, e.folded, e.state,
    e.workload, (
        SELECT jsonb_agg(jsonb_build_array(
            v.execution_id::text, v.seq, v.cause, v.type, v.step, v.generation, v.command_id,
            (extract(epoch FROM v.at) * 1000)::bigint, v.payload))
        FROM noetl.event v WHERE v.execution_id = e.execution_id AND v.seq > e.folded)
FROM noetl.execution e WHERE e.execution_id = ANY (CAST(:ids AS bigint[]));

-- inbox: facts that have no place in the log yet
SELECT inbox_id, type, step, generation, command_id, (extract(epoch FROM at) * 1000)::bigint, payload
FROM noetl.inbox WHERE execution_id = :id ORDER BY inbox_id LIMIT 1000;

-- append: close commands and put their facts into the inbox
SELECT noetl.append(:facts::jsonb);

-- discard: forget what came too late for an execution that has ended
DELETE FROM noetl.inbox i USING noetl.execution x
WHERE i.execution_id = :id AND x.execution_id = i.execution_id AND x.status <> 'RUNNING';

-- events: an execution's log in order of writing
SELECT execution_id::text, seq, cause, type, step, generation, command_id, (extract(epoch FROM at) * 1000)::bigint, payload
FROM noetl.event WHERE execution_id = :id AND seq > :after ORDER BY seq LIMIT :limit;

-- started: the execution that an idempotency key has started
SELECT execution_id::text, request_hash FROM noetl.execution WHERE idempotency_key = :key;

-- claim: lease pending commands: those named, or with null the ones that have waited longest
SELECT * FROM noetl.claim(:worker, :pool, CAST(:lease AS float8), CAST(:limit AS integer), CAST(:keys AS jsonb));

-- held: what a worker holds and does not know of, after an answer got lost
SELECT * FROM noetl.held(:worker, CAST(:lease AS float8), CAST(:holding AS jsonb));

-- opening: the opening of a loop
SELECT o.payload FROM noetl.stage s
JOIN noetl.event o ON o.execution_id = s.execution_id AND o.seq = s.seq
WHERE s.execution_id = :id AND s.step = :step AND s.generation = :generation;

-- extend: prolong the leases that are still the worker's, and name them
UPDATE noetl.command c SET lease_until = now() + make_interval(secs => :lease)
FROM jsonb_to_recordset(:held::jsonb) AS k(execution_id bigint, command_id text, fence bigint)
WHERE c.execution_id = k.execution_id AND c.command_id = k.command_id AND c.fence = k.fence AND c.status = 'claimed'
  AND c.worker = :worker
RETURNING c.execution_id::text, c.command_id;

-- release: give back what was claimed and not run
UPDATE noetl.command c SET status = 'pending', worker = NULL, lease_until = NULL, deliveries = c.deliveries - 1
FROM jsonb_to_recordset(:held::jsonb) AS k(execution_id bigint, command_id text, fence bigint)
WHERE c.execution_id = k.execution_id AND c.command_id = k.command_id AND c.fence = k.fence AND c.status = 'claimed'
  AND c.worker = :worker
RETURNING c.execution_id::text, c.command_id, c.pool;

-- expire: give back what workers hold beyond their lease, up to the limit of deliveries
UPDATE noetl.command c SET status = 'pending', worker = NULL, lease_until = NULL
WHERE (c.execution_id, c.command_id) IN (
    SELECT execution_id, command_id FROM noetl.command
    WHERE status = 'claimed' AND lease_until < now() AND deliveries < :deliveries
    ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED)
RETURNING c.execution_id::text, c.command_id, c.pool;

-- poisoned: what was delivered too often and never came back
SELECT execution_id::text, command_id, fence, worker, deliveries, step, generation, kind, seq FROM noetl.command
WHERE status = 'claimed' AND lease_until < now() AND deliveries >= :deliveries
ORDER BY lease_until LIMIT :limit;

-- bury: keep a poisoned command for people to look at
INSERT INTO noetl.command (
    execution_id, command_id, step, generation, kind, attempt, pool, status, seq, deliveries, worker, issued_at)
SELECT e.execution_id, e.command_id, e.step, e.generation, e.payload->>'kind', (e.payload->>'attempt')::integer, :pool, 'dead',
    e.seq, :deliveries, :worker, e.at
FROM noetl.event e WHERE e.execution_id = :id AND e.seq = :seq
ON CONFLICT DO NOTHING;

-- pools: the pools whose commands nobody has taken for a while
SELECT DISTINCT pool FROM noetl.command
WHERE status = 'pending' AND issued_at < now() - make_interval(secs => :age);

-- due: timers whose time has come
SELECT execution_id::text, command_id, step, generation FROM noetl.command
WHERE status = 'timer' AND due_at <= now() ORDER BY due_at LIMIT :limit;

-- lagging: executions with facts that nobody has taken in yet
SELECT DISTINCT execution_id::text FROM noetl.inbox LIMIT :limit;

-- children: the executions that one has started and that still run
SELECT execution_id::text FROM noetl.execution WHERE parent_execution_id = :id AND status = 'RUNNING';

-- is_below: whether an execution is among those that another has started, directly or through others
WITH RECURSIVE up AS (
    SELECT CAST(:id AS bigint) AS id
    UNION
    SELECT coalesce(
        (SELECT e.parent_execution_id FROM noetl.execution e WHERE e.execution_id = up.id),
        (SELECT a.parent_execution_id FROM noetl.archived a WHERE a.execution_id = up.id))
    FROM up WHERE up.id IS NOT NULL
)
SELECT 1 FROM up WHERE id = :above AND id <> :id;

-- pulse: what there is to do
SELECT
    EXISTS (SELECT FROM noetl.command WHERE status = 'claimed' AND lease_until < now()) AS expired,
    EXISTS (SELECT FROM noetl.command WHERE status = 'pending' AND issued_at < now() - make_interval(secs => :age)) AS waiting,
    EXISTS (SELECT FROM noetl.command WHERE status = 'timer' AND due_at <= now()) AS due,
    EXISTS (SELECT FROM noetl.inbox) AS lagging,
    EXISTS (SELECT FROM noetl.schedule WHERE enabled AND next_run_at <= now())
        OR EXISTS (SELECT FROM noetl.schedule_fire WHERE status = 'open') AS scheduled,
    EXISTS (SELECT FROM noetl.chore WHERE due_at <= now()) AS chores;

-- partitions: make the event partitions of this month and the next
SELECT noetl.ensure_partitions(now());
