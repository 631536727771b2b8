-- claim: take the task that has been due longest; it is due again after a pause
UPDATE noetl.chore SET due_at = now() + make_interval(secs => :pause)
WHERE name = (SELECT name FROM noetl.chore WHERE due_at <= now() ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING name, position;

-- reschedule: make a task due after a delay, because there is more to do
UPDATE noetl.chore SET due_at = now() + make_interval(secs => :delay) WHERE name = :name;

-- save_position: record how far a task has come
UPDATE noetl.chore SET position = CAST(:position AS jsonb) WHERE name = :name;

-- ended: executions in the order of their ends, each with whether its parent and those that go on with it ended no later or are gone
SELECT execution_id, ended_at, NOT EXISTS (
    SELECT FROM noetl.execution p WHERE p.execution_id = x.parent_execution_id AND (p.ended_at IS NULL OR p.ended_at > x.ended_at)
) AND NOT EXISTS (
    SELECT FROM noetl.archived p WHERE p.execution_id = x.parent_execution_id AND p.ended_at > x.ended_at
) AND NOT noetl.is_used_after(x.execution_id, x.ended_at) AS topmost
FROM (
    SELECT DISTINCT execution_id, parent_execution_id, ended_at FROM (
        (SELECT execution_id, parent_execution_id, ended_at FROM noetl.execution
         WHERE (ended_at, execution_id) > (CAST(:at AS timestamptz), CAST(:id AS bigint)) AND ended_at < :cutoff
         ORDER BY ended_at, execution_id LIMIT CAST(:limit AS integer))
        UNION ALL
        (SELECT execution_id, parent_execution_id, ended_at FROM noetl.archived
         WHERE (ended_at, execution_id) > (CAST(:at AS timestamptz), CAST(:id AS bigint)) AND ended_at < :cutoff
         ORDER BY ended_at, execution_id LIMIT CAST(:limit AS integer))
    ) both_tables
) x ORDER BY ended_at, execution_id LIMIT CAST(:limit AS integer);

-- families: of each of some executions itself, those that it goes on with, and those below these that ended no later than the one that started them; none of which others that ended later may use the results
SELECT DISTINCT member.execution_id FROM unnest(CAST(:ids AS bigint[]), CAST(:ends AS timestamptz[])) top(id, ended) CROSS JOIN LATERAL (
WITH RECURSIVE family AS (
    SELECT top.id AS execution_id, top.ended AS ended_at
    UNION
    SELECT c.execution_id, c.ended_at FROM family f CROSS JOIN LATERAL (
        SELECT execution_id, ended_at FROM (
            SELECT execution_id, ended_at FROM noetl.execution WHERE parent_execution_id = f.execution_id AND ended_at <= f.ended_at
            UNION ALL
            SELECT execution_id, ended_at FROM noetl.archived WHERE parent_execution_id = f.execution_id AND ended_at <= f.ended_at
        ) below WHERE NOT noetl.is_used_after(execution_id, top.ended)
        UNION ALL
        SELECT o.execution_id, o.ended_at FROM (
            SELECT restart_of AS id FROM noetl.execution WHERE execution_id = f.execution_id
            UNION
            SELECT restart_of FROM noetl.archived WHERE execution_id = f.execution_id
        ) r CROSS JOIN LATERAL (
            SELECT execution_id, ended_at FROM noetl.execution WHERE execution_id = r.id
            UNION ALL
            SELECT execution_id, ended_at FROM noetl.archived WHERE execution_id = r.id
        ) o WHERE noetl.settled(o.execution_id, top.ended + interval '1 microsecond')
    ) c
)
SELECT execution_id FROM family
) member ORDER BY execution_id;

-- expired_results: results of a store that expired a grace period ago, in the order in which they did
SELECT execution_id, key FROM noetl.result_ref
WHERE store = :store AND expires_at < now() - make_interval(secs => :grace) ORDER BY expires_at LIMIT CAST(:limit AS integer);

-- deleted_results: what users have put into a store and deleted a grace period ago, and whose rows are still there
SELECT execution_id, key FROM noetl.result_ref
WHERE store = :store AND put_by IS NOT NULL AND deleted_at < now() - make_interval(secs => :grace)
ORDER BY deleted_at LIMIT CAST(:limit AS integer);

-- scoped_results: results of executions in a store, of some scopes
SELECT execution_id, key FROM noetl.result_ref
WHERE execution_id = ANY (CAST(:ids AS bigint[])) AND store = :store AND scope = ANY (CAST(:scopes AS text[]))
ORDER BY execution_id, key LIMIT CAST(:limit AS integer);

-- step_results: results of executions in a store that only their steps use
SELECT execution_id, key FROM noetl.result_ref
WHERE execution_id = ANY (CAST(:ids AS bigint[])) AND store = :store AND scope = 'step'
ORDER BY execution_id, key LIMIT CAST(:limit AS integer);

-- named_results: those of some keys that results have which are still needed
SELECT key FROM noetl.named_results(:store, CAST(:keys AS text[]), make_interval(secs => :grace), CAST(:ignored AS text[])) key;

-- keep_results: record of executions with results of these scopes that no others are kept from now on
WITH marked AS (
    SELECT execution_id FROM noetl.execution e
    WHERE execution_id = ANY (CAST(:ids AS bigint[])) AND results_kept IS DISTINCT FROM :kept
      AND results_kept IS DISTINCT FROM 'permanent' AND (
        -- not EXISTS, which could become a join over the whole table
        SELECT true FROM noetl.result_ref r
        WHERE r.execution_id = e.execution_id AND r.scope = ANY (CAST(:scopes AS text[])) LIMIT 1
      )
    ORDER BY execution_id FOR UPDATE
)
UPDATE noetl.execution e SET results_kept = :kept FROM marked m WHERE e.execution_id = m.execution_id;

-- delete_result_rows: delete the rows of deleted results
DELETE FROM noetl.result_ref r USING (
    SELECT l.execution_id, l.key FROM jsonb_to_recordset(CAST(:keys AS jsonb)) AS x(execution_id bigint, key text)
    CROSS JOIN LATERAL (
        SELECT execution_id, key FROM noetl.result_ref o
        WHERE o.execution_id = x.execution_id AND o.key = x.key FOR UPDATE SKIP LOCKED
    ) l
) locked WHERE r.execution_id = locked.execution_id AND r.key = locked.key;

-- unknown_executions: those of some executions of which the database knows nothing
SELECT id FROM noetl.unknown_executions(CAST(:ids AS bigint[])) id;

-- prune_limits: forget what limits have counted and no longer need; at most so many of each
SELECT noetl.prune_limits(CAST(:limit AS integer));

-- delete_expired_secrets: delete cached secrets that have expired and that nobody fetches
DELETE FROM noetl.keychain WHERE (cache_key, inputs) IN (
    SELECT cache_key, inputs FROM noetl.keychain
    WHERE expires_at < now() AND (fetching_until IS NULL OR fetching_until < now())
    ORDER BY expires_at LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED
) RETURNING cache_key;

-- delete_secrets_of_ended: of the cached secrets of executions, after one of these, delete those of executions that have ended
WITH page AS (
    SELECT cache_key, inputs, execution_id FROM noetl.keychain
    WHERE execution_id > CAST(:after AS bigint) ORDER BY execution_id LIMIT CAST(:limit AS integer)
), deleted AS (
    DELETE FROM noetl.keychain k USING page p WHERE k.cache_key = p.cache_key AND k.inputs = p.inputs
        AND NOT EXISTS (SELECT FROM noetl.execution e WHERE e.execution_id = p.execution_id AND e.status = 'RUNNING')
    RETURNING k.cache_key
)
SELECT (SELECT count(*) FROM deleted) AS deleted, (SELECT max(execution_id) FROM page) AS last,
    (SELECT count(*) FROM page) AS looked_at;
