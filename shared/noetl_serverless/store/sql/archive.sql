-- plan: put the oldest executions that ended before an instant into a batch
SELECT noetl.plan_archive(:id, :kind, :cutoff, CAST(:max_executions AS integer), CAST(:max_events AS bigint));

-- due: what a plan would take, by month
SELECT to_char(noetl.month_of(execution_id), 'YYYY-MM') AS month, count(*) AS executions, sum(head)::bigint AS events
FROM noetl.leaving('archive', :cutoff, CAST(:limit AS integer)) GROUP BY 1 ORDER BY 1;

-- count_planned: the number of batches that wait for their files, and how many of them no worker is writing
SELECT count(*), count(*) FILTER (WHERE lease_until IS NULL OR lease_until < now())
FROM noetl.archive WHERE status = 'planned' AND kind = 'archive';

-- claim: the oldest batch that waits for its files
UPDATE noetl.archive SET worker = :worker, lease_until = now() + make_interval(secs => :lease), attempts = attempts + 1
WHERE archive_id = (
    SELECT archive_id FROM noetl.archive
    WHERE status = 'planned' AND kind = 'archive' AND (lease_until IS NULL OR lease_until < now())
    ORDER BY archive_id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING archive_id, attempts AS attempt, month, first_id, last_id, executions, events;

-- extend: extend the lease of an attempt that still holds it
UPDATE noetl.archive SET lease_until = now() + make_interval(secs => :lease)
WHERE archive_id = :id AND attempts = :attempt AND status = 'planned' RETURNING archive_id;

-- fail: record a failed attempt; the next one is delayed
UPDATE noetl.archive SET error = :error, lease_until = now() + make_interval(secs => least(3600, 5 * 2 ^ attempts))
WHERE archive_id = :id AND attempts = :attempt AND status = 'planned';

-- executions: rows of a batch as JSON, with their results and the commands that were given up, in order; a page ends with the row that reaches the byte limit
SELECT execution_id, text FROM (
    SELECT execution_id, text, sum(length(text)) OVER (ORDER BY execution_id) - length(text) AS before FROM (
        SELECT e.execution_id, json_build_object('execution', to_json(e), 'results', (
            SELECT coalesce(json_agg(to_json(r) ORDER BY r.key), '[]') FROM noetl.result_ref r
            WHERE r.execution_id = e.execution_id
        ), 'commands', (
            SELECT coalesce(json_agg(to_json(c) ORDER BY c.issued_at, c.command_id), '[]') FROM noetl.command c
            WHERE c.execution_id = e.execution_id))::text AS text
        FROM (
            SELECT execution_id FROM noetl.archived WHERE archive_id = :id AND execution_id > :after
            ORDER BY execution_id LIMIT 100
        ) a JOIN noetl.execution e USING (execution_id)
    ) one
) page WHERE before < CAST(:bytes AS bigint) ORDER BY execution_id;

-- events: events of a batch, in order; a page ends with the event that reaches the byte limit of payload; instants in microseconds
SELECT execution_id, seq, cause, type, step, generation, command_id, at, payload FROM (
    SELECT *, sum(length(payload)) OVER (ORDER BY execution_id, seq) - length(payload) AS before FROM (
        SELECT e.execution_id, e.seq, e.cause, e.type, e.step, e.generation, e.command_id,
            (extract(epoch FROM e.at) * 1000000)::bigint AS at, e.payload::text AS payload
        FROM (
            -- only as many executions as are needed to fill the page
            SELECT execution_id FROM (
                SELECT execution_id, sum(head) OVER (ORDER BY execution_id) - head AS before
                FROM noetl.archived WHERE archive_id = :id AND execution_id >= :after
            ) heads WHERE before < 1000 + CAST(:seq AS integer)
        ) a CROSS JOIN LATERAL (
            SELECT * FROM noetl.event v
            WHERE v.execution_id = a.execution_id AND v.seq > CASE WHEN a.execution_id = :after THEN CAST(:seq AS integer) ELSE 0 END
            ORDER BY v.seq LIMIT 1000
        ) e ORDER BY e.execution_id, e.seq LIMIT 1000
    ) one
) page WHERE before < CAST(:bytes AS bigint) ORDER BY execution_id, seq;

-- register: the files are in the result store; remove the executions from the hot tables
SELECT noetl.register_archive(:id, CAST(:attempt AS integer), CAST(:files AS jsonb), CAST(:found AS jsonb));

-- entries: batches, the newest first
SELECT archive_id, status, to_char(month, 'YYYY-MM') AS month, first_id, last_id, executions, events, files, attempts, error,
    created_at, registered_at, purged_at
FROM noetl.archive WHERE kind = 'archive' AND (CAST(:before AS bigint) IS NULL OR archive_id < :before)
ORDER BY archive_id DESC LIMIT CAST(:limit AS integer);

-- by_ids: batches by their ids, in order
SELECT archive_id, status, to_char(month, 'YYYY-MM') AS month, first_id, last_id, executions, events, files, attempts, error,
    created_at, registered_at, purged_at
FROM noetl.archive WHERE archive_id = ANY (CAST(:ids AS bigint[])) ORDER BY archive_id;

-- place: where an archived execution is
SELECT a.execution_id, a.head, a.status, a.blocks, b.files -> 'log' ->> 'key' AS key
FROM noetl.archived a JOIN noetl.archive b USING (archive_id)
WHERE a.execution_id = :execution_id AND b.kind = 'archive' AND b.status = 'registered';

-- children: the archived executions that an execution has started
SELECT a.execution_id::text FROM noetl.archived a JOIN noetl.archive b USING (archive_id)
WHERE a.parent_execution_id = :execution_id AND b.kind = 'archive' AND b.status = 'registered' ORDER BY a.execution_id;

-- drop_partitions: drop the event partitions whose executions have all left
SELECT noetl.drop_partitions();

-- purge: delete the events of one batch whose partition will not be dropped soon
SELECT noetl.purge_archive(make_interval(secs => :after_seconds));

-- mark_expired: mark archived batches whose retention has ended for deletion
UPDATE noetl.archive b SET kind = 'expiry'
WHERE archive_id IN (
    SELECT archive_id FROM noetl.archive
    WHERE kind = 'archive' AND status = 'registered' AND purged_at IS NOT NULL AND ended_at < :cutoff
    ORDER BY archive_id LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED)
  AND NOT EXISTS (
    SELECT FROM noetl.archived a WHERE a.archive_id = b.archive_id AND NOT noetl.settled(a.execution_id, :cutoff))
RETURNING archive_id;

-- expiring: batches that still have something to delete
SELECT archive_id, attempts AS attempt, status, files, (
    SELECT array_agg(execution_id ORDER BY execution_id) FROM noetl.archived a WHERE a.archive_id = b.archive_id) AS ids
FROM noetl.archive b WHERE kind = 'expiry' AND (status = 'planned' OR files IS NOT NULL)
ORDER BY archive_id LIMIT CAST(:limit AS integer);

-- clear_files: record that the files of a batch are deleted
UPDATE noetl.archive SET files = NULL WHERE archive_id = :id AND kind = 'expiry';

-- delete_rows: delete the rows of batches of which nothing is left
DELETE FROM noetl.archive WHERE kind = 'expiry' AND status = 'registered' AND files IS NULL AND purged_at IS NOT NULL;
