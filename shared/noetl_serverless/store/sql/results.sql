-- put: register what a user has put, whose object is written
SELECT noetl.put_result(CAST(:row AS json), CAST(:gone AS text), CAST(:known AS text));

-- reserve: name an object that is about to be written, so that it is not collected as one without a row; nobody can read it yet
INSERT INTO noetl.result_ref (
    execution_id, key, ref, name, step, store, bytes, sha256, content_type, scope, put_by, deleted_at)
SELECT x.execution_id, x.key, x.ref, x.name, x.step, x.store, x.bytes, x.sha256, x.content_type, x.scope, x.put_by, now()
FROM json_populate_record(NULL::noetl.result_ref, CAST(:row AS json)) x
WHERE EXISTS (SELECT FROM noetl.execution e WHERE e.execution_id = x.execution_id);

-- same: what was put under this name with this content before
SELECT key, ref, name, step, store, bytes, sha256, content_type, scope, expires_at, created_at, put_by, meta, deleted_at
FROM noetl.result_ref
WHERE execution_id = :id AND name = :name AND sha256 = :sha256 AND content_type = :content_type
    AND put_by IS NOT NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- by_ref: the results that a URI names: more than one if the digits at its end are those of several
SELECT key, ref, name, step, store, bytes, sha256, content_type, scope, expires_at, created_at, put_by, meta, deleted_at
FROM noetl.result_ref WHERE execution_id = :id AND ref = :ref ORDER BY created_at DESC, key DESC LIMIT 100;

-- newest: the newest result of a step
SELECT key, ref, name, step, store, bytes, sha256, content_type, scope, expires_at, created_at, put_by, meta, deleted_at
FROM noetl.result_ref WHERE execution_id = :id AND coalesce(step, '') = :step
    AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY coalesce(step, '') DESC, created_at DESC, key DESC LIMIT 1;

-- page: results after a place, by step and time
SELECT key, ref, name, step, store, bytes, sha256, content_type, scope, expires_at, created_at, put_by, meta, deleted_at
FROM noetl.result_ref
WHERE execution_id = :id AND (coalesce(step, ''), created_at, key) > (:step, CAST(:at AS timestamptz), :key)
ORDER BY coalesce(step, ''), created_at, key LIMIT CAST(:limit AS integer);

-- page_of_step: the same, of one step
SELECT key, ref, name, step, store, bytes, sha256, content_type, scope, expires_at, created_at, put_by, meta, deleted_at
FROM noetl.result_ref
WHERE execution_id = :id AND coalesce(step, '') = :step AND (created_at, key) > (CAST(:at AS timestamptz), :key)
ORDER BY coalesce(step, ''), created_at, key LIMIT CAST(:limit AS integer);

-- described: what the log says of results of steps, by their keys; steps: of these alone, or null
SELECT r.ref ->> 'key' AS key, r.ref -> 'meta' AS meta, r.ref -> 'extracted' AS extracted, r.ref -> 'preview' AS preview
FROM noetl.event v CROSS JOIN LATERAL (
    SELECT v.payload -> 'ref' AS ref
    UNION ALL SELECT s.value FROM json_each(v.payload -> 'set_refs') s
    UNION ALL SELECT p.value FROM json_array_elements(v.payload -> 'parts') p
) r
WHERE v.execution_id = :id
    AND v.type IN ('call.done', 'call.error', 'call.deferred', 'call.parked', 'frame.committed')
    AND (CAST(:steps AS text[]) IS NULL OR v.step = ANY (CAST(:steps AS text[])))
    AND r.ref ->> 'key' = ANY (CAST(:keys AS text[]));

-- settled: whether an execution, and all that may use its results, ended before an instant
SELECT noetl.settled(CAST(:id AS bigint), CAST(:cutoff AS timestamptz));

-- mark_deleted: take results from their readers, before their objects are deleted
WITH named AS (
    SELECT r.key FROM noetl.result_ref r
    WHERE r.execution_id = :id AND r.key = ANY (CAST(:keys AS text[])) ORDER BY r.key FOR UPDATE
)
UPDATE noetl.result_ref r SET deleted_at = coalesce(r.deleted_at, now()) FROM named
WHERE r.execution_id = :id AND r.key = named.key RETURNING r.key;

-- unmark_deleted: give them back to their readers, since their objects could not be deleted
WITH named AS (
    SELECT r.key FROM noetl.result_ref r
    WHERE r.execution_id = :id AND r.key = ANY (CAST(:keys AS text[])) ORDER BY r.key FOR UPDATE
)
UPDATE noetl.result_ref r SET deleted_at = NULL FROM named WHERE r.execution_id = :id AND r.key = named.key;

-- remove: delete the rows of what users have put, whose objects are deleted
WITH named AS (
    SELECT r.key FROM noetl.result_ref r
    WHERE r.execution_id = :id AND r.key = ANY (CAST(:keys AS text[])) AND r.put_by IS NOT NULL AND r.deleted_at IS NOT NULL
    ORDER BY r.key FOR UPDATE
)
DELETE FROM noetl.result_ref r USING named WHERE r.execution_id = :id AND r.key = named.key;

-- stats: how many results there are and how large they are, of at most so many; of one execution, or of all
SELECT store, scope, put_by IS NOT NULL AS put, count(*) AS results, sum(bytes)::bigint AS bytes FROM (
    SELECT store, scope, put_by, bytes FROM noetl.result_ref
    WHERE (CAST(:id AS bigint) IS NULL OR execution_id = :id) AND deleted_at IS NULL LIMIT CAST(:limit AS integer)
) seen GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
