-- entries: executions in the database and in the archive, the newest first, ending with the one that reaches the byte limit; and whether there are more
SELECT x.execution_id, x.catalog_id, x.path, x.version, x.parent_execution_id, x.restart_of, x.status, x.result, x.error, x.head,
    x.created_at, x.ended_at, catalog.steps, x.finished, x.principal, x.paused_at, x.archived, x.place < x.found AS more
FROM (
    SELECT *, count(*) OVER () AS found, row_number() OVER (ORDER BY execution_id DESC) AS place,
        sum(bytes) OVER (ORDER BY execution_id DESC) - bytes AS before
    FROM (SELECT *, coalesce(octet_length(result::text), 0) + coalesce(octet_length(error::text), 0) AS bytes FROM (
        (SELECT execution_id, catalog_id, path, version, parent_execution_id, restart_of, status, result, error, head, created_at,
            ended_at, finished, principal, paused_at, false AS archived
        FROM noetl.execution
        -- with a principal, avoid the index of the status: it contains the executions of all principals
        WHERE (CAST(:status AS text) IS NULL
            OR CASE WHEN CAST(:principal AS text) IS NULL THEN status = :status ELSE status || '' = :status END)
          AND (NOT CAST(:paused AS boolean) OR paused_at IS NOT NULL)
          AND (CAST(:path AS text) IS NULL OR path = :path OR starts_with(path, :path || '/'))
          AND (CAST(:parent AS bigint) IS NULL OR parent_execution_id = :parent)
          AND (CAST(:before AS bigint) IS NULL OR execution_id < :before)
          AND (CAST(:since AS bigint) IS NULL OR execution_id >= :since)
          AND (CAST(:principal AS text) IS NULL OR principal ->> 'name' = :principal)
          AND (CAST(:kind AS text) IS NULL OR principal ->> 'kind' = :kind)
        ORDER BY execution_id DESC LIMIT CAST(:limit AS bigint) + CAST(:offset AS bigint) + 1)
        UNION ALL
        (SELECT a.execution_id, a.catalog_id, a.path, a.version, a.parent_execution_id, a.restart_of, a.status, NULL, NULL, a.head,
            a.created_at, a.ended_at, a.finished, NULL, NULL, true
        FROM noetl.archived a JOIN noetl.archive b USING (archive_id)
        WHERE b.kind = 'archive' AND b.status = 'registered'
          AND (CAST(:status AS text) IS NULL OR a.status = :status)
          AND (CAST(:path AS text) IS NULL OR a.path = :path OR starts_with(a.path, :path || '/'))
          AND (CAST(:parent AS bigint) IS NULL OR a.parent_execution_id = :parent)
          AND (CAST(:before AS bigint) IS NULL OR a.execution_id < :before)
          AND (CAST(:since AS bigint) IS NULL OR a.execution_id >= :since)
          -- the archive does not record who started them
          AND CAST(:principal AS text) IS NULL
        ORDER BY a.execution_id DESC LIMIT CAST(:limit AS bigint) + CAST(:offset AS bigint) + 1)
    ) everywhere
    -- one more, to know whether there is a next page
    ORDER BY execution_id DESC LIMIT CAST(:limit AS bigint) + 1 OFFSET CAST(:offset AS bigint)) few
) x LEFT JOIN noetl.catalog USING (catalog_id)
WHERE x.place <= CAST(:limit AS bigint) AND x.before < CAST(:bytes AS bigint)
ORDER BY x.execution_id DESC;

-- get: one execution
SELECT execution.execution_id, execution.catalog_id, execution.path, execution.version,
    execution.parent_execution_id, execution.restart_of, execution.status, execution.result, execution.error, execution.head,
    execution.created_at, execution.ended_at, catalog.steps, execution.finished, execution.principal, execution.paused_at, (
        SELECT event.payload -> 'warnings' FROM noetl.event
        WHERE event.execution_id = execution.execution_id AND event.seq = execution.head
          AND execution.status = 'COMPLETED' AND event.type = 'playbook.completed') AS warnings,
    EXISTS (SELECT FROM noetl.quarantine WHERE quarantine.execution_id = execution.execution_id) AS quarantined
FROM noetl.execution LEFT JOIN noetl.catalog USING (catalog_id)
WHERE execution.execution_id = :execution_id;

-- plan_hash: the hash of the playbook that an execution runs
SELECT plan_hash FROM noetl.execution WHERE execution_id = :execution_id;

-- restarts: the executions that go on with an execution, the oldest first
SELECT execution_id FROM (
    (SELECT execution_id FROM noetl.execution WHERE restart_of = :execution_id
    ORDER BY execution_id LIMIT CAST(:limit AS integer))
    UNION
    (SELECT execution_id FROM noetl.archived WHERE restart_of = :execution_id
    ORDER BY execution_id LIMIT CAST(:limit AS integer))
) found ORDER BY execution_id LIMIT CAST(:limit AS integer);

-- initial: what an execution was started with
SELECT execution.workload, event.payload -> 'ctx' AS ctx
FROM noetl.execution JOIN noetl.event USING (execution_id)
WHERE execution_id = :execution_id AND event.seq = 1;

-- follow: the head and status of an execution, and its events after a position, in order, ending with the one that reaches the byte limit
SELECT * FROM noetl.page(:execution_id, CAST(:after AS integer), :type, CAST(:limit AS integer), CAST(:bytes AS bigint));

-- events: the log of an execution after a position, in order
SELECT execution_id, seq, cause, type, step, generation, command_id, at, payload FROM noetl.event
WHERE execution_id = :execution_id AND seq > :after
ORDER BY seq LIMIT CAST(:limit AS integer);

-- events_page: the log of an execution, the newest events first; those after the byte limit are without their payloads
SELECT execution_id, seq, cause, type, step, generation, command_id, at,
    CASE WHEN before < CAST(:bytes AS bigint) THEN payload END AS payload,
    CASE WHEN before >= CAST(:bytes AS bigint) THEN bytes END AS payload_bytes
FROM (
    SELECT *, sum(bytes) OVER (ORDER BY seq DESC) - bytes AS before FROM (
        SELECT *, octet_length(payload::text) AS bytes FROM noetl.event
        WHERE execution_id = :execution_id AND seq > :after
          AND (CAST(:type AS text) IS NULL OR type = :type)
        ORDER BY seq DESC LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS bigint)
    ) latest
) measured ORDER BY seq DESC;

-- events_count: how many events match the same filters
SELECT count(*) FROM noetl.event
WHERE execution_id = :execution_id AND seq > :after AND (CAST(:type AS text) IS NULL OR type = :type);

-- loop_results: results of a loop's finished frames, from an item on, in the order of the items, ending with the frame that reaches the byte limit
SELECT * FROM noetl.results(
    :execution_id, :step, CAST(:generation AS integer), CAST(:after AS integer), CAST(:bytes AS bigint));

-- has_results_from: whether any items of a loop have finished from an item on; claims that found nothing have none
SELECT EXISTS (SELECT FROM noetl.frame WHERE execution_id = :execution_id AND step = :step AND generation = :generation
    AND start_item >= CAST(:after AS integer) AND end_item > start_item);

-- loop_stats: how many items a loop has, or has claimed so far, and how many have ended well and with an error; one that claims them is opened with none
SELECT greatest(s.count, coalesce(sum(f.ok + f.failed), 0)::integer) AS total,
    coalesce(sum(f.ok), 0)::integer AS success, coalesce(sum(f.failed), 0)::integer AS failed,
    s.count = 0 AS claims
FROM noetl.stage s LEFT JOIN noetl.frame f USING (execution_id, step, generation)
WHERE s.execution_id = :execution_id AND s.step = :step AND s.generation = :generation
GROUP BY s.count;

-- latest_generation: the latest generation of a loop
SELECT max(generation) FROM noetl.stage WHERE execution_id = :execution_id AND step = :step;

-- runs: workers' reports of commands after a position, in order, each with when its command was issued
WITH page AS MATERIALIZED (
    SELECT v.seq, v.type, v.step, v.generation, v.command_id, v.at, v.payload -> 'meta' AS meta,
        (v.payload ->> 'start')::integer AS first_item, (v.payload ->> 'end')::integer AS end_item
    FROM noetl.event v
    WHERE v.execution_id = :execution_id AND v.seq > CAST(:after AS integer)
      AND v.type IN ('call.done', 'call.error', 'call.deferred', 'call.parked', 'frame.committed')
      AND (CAST(:step AS text) IS NULL OR v.step = :step)
      AND (NOT CAST(:failed AS boolean)
           OR v.payload #> '{meta,attempts}' IS NOT NULL OR v.payload #> '{meta,lost}' IS NOT NULL)
    ORDER BY v.seq LIMIT CAST(:limit AS integer)
)
SELECT page.*, i.issued_at FROM page LEFT JOIN noetl.issued(
    :execution_id, ARRAY(SELECT seq FROM page ORDER BY seq), ARRAY(SELECT command_id FROM page ORDER BY seq)
) i ON i.report = page.seq
ORDER BY page.seq;

-- under_way: the outstanding commands of an execution and the timers that delay them, counted by step and generation
SELECT step, generation,
    count(*) FILTER (WHERE is_queued) AS queued,
    count(*) FILTER (WHERE status = 'claimed') AS running,
    count(*) FILTER (WHERE (status = 'timer' OR status = 'paused' AND kind = 'timer')
        AND command_id <> ALL (CAST(:parked AS text[]))) AS delayed,
    min(issued_at) FILTER (WHERE is_queued) AS queued_since,
    min(coalesce(claimed_at, issued_at)) FILTER (WHERE status = 'claimed') AS running_since,
    (max(extract(epoch FROM claimed_at - issued_at) * 1000) FILTER (WHERE status = 'claimed'))::bigint AS queued_ms,
    min(due_at) FILTER (WHERE status = 'timer') AS due_at,
    min(worker) FILTER (WHERE status = 'claimed') AS worker, max(deliveries) AS deliveries,
    -- all of one run have the same, but those of its execution, until that has begun
    CASE WHEN bool_or(status = 'limited') THEN noetl.limit_use(
        (min(limits::text) FILTER (WHERE status = 'limited'))::json,
        (min(admission::text) FILTER (WHERE status = 'limited'))::json) END AS limits
FROM noetl.outstanding CROSS JOIN LATERAL (
    SELECT status IN ('pending', 'limited') OR status = 'paused' AND kind <> 'timer' AS is_queued
) of
WHERE execution_id = :execution_id AND status <> 'dead'
    AND command_id <> 'deadline' AND right(command_id, 9) <> '!deadline'
GROUP BY step, generation;
