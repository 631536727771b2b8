-- owner: the playbook of an execution, whether it runs, and the execution at the top with its playbook
WITH RECURSIVE line AS (
    SELECT execution_id, catalog_id, parent_execution_id, 0 AS distance FROM noetl.execution WHERE execution_id = :execution_id
    UNION ALL
    SELECT p.execution_id, p.catalog_id, p.parent_execution_id, l.distance + 1
    FROM line l JOIN noetl.execution p ON p.execution_id = l.parent_execution_id WHERE l.distance < 1000
)
SELECT e.catalog_id, e.plan_hash, e.status = 'RUNNING' AS runs, top.execution_id AS top_id, top.catalog_id AS top_catalog_id
FROM noetl.execution e CROSS JOIN (SELECT * FROM line ORDER BY distance DESC LIMIT 1) top WHERE e.execution_id = :execution_id;

-- find: a cached value and those that were given in its place, whether they are about to expire, and whether their use is to be counted
SELECT cache_key, inputs, kind, auto_renew, sealed, key_id, expires_at > now() AS valid,
    coalesce(accessed_at <= now() - make_interval(secs => :pause), true) AS countable,
    coalesce(fetching_until > now(), false) AS fetching,
    CAST(extract(epoch FROM expires_at - now()) AS double precision) AS seconds_left,
    coalesce(CAST(extract(epoch FROM expires_at - fetched_at) AS double precision), 0) AS lifetime
FROM noetl.keychain WHERE cache_key = ANY (CAST(:keys AS text[])) AND inputs IN (:inputs, 'given');

-- count_access: note that a value is read, if it was not within a pause
UPDATE noetl.keychain SET accessed_at = now(), access_count = access_count + 1
WHERE cache_key = :cache_key AND inputs = :inputs
    AND (accessed_at IS NULL OR accessed_at <= now() - make_interval(secs => :pause));

-- give: store a value that is given instead of being fetched
INSERT INTO noetl.keychain AS k (cache_key, inputs, catalog_id, name, kind, scope, auto_renew, execution_id, sealed, key_id,
    fields, fetched_at, expires_at)
VALUES (:cache_key, 'given', :catalog_id, :name, :kind, :scope, :auto_renew, CAST(:execution_id AS bigint), :sealed, :key_id,
    CAST(:fields AS text[]), now(), now() + make_interval(secs => :ttl))
ON CONFLICT (cache_key, inputs) DO UPDATE SET kind = EXCLUDED.kind, auto_renew = EXCLUDED.auto_renew, sealed = EXCLUDED.sealed,
    key_id = EXCLUDED.key_id, fields = EXCLUDED.fields, fetched_at = EXCLUDED.fetched_at, expires_at = EXCLUDED.expires_at,
    accessed_at = NULL, access_count = 0
RETURNING expires_at;

-- begin_fetch: let one caller fetch a value, unless another fetches it, or has fetched it since it was looked for
INSERT INTO noetl.keychain AS k
    (cache_key, inputs, catalog_id, name, kind, scope, auto_renew, execution_id, expires_at, fetch_id, fetching_until)
VALUES (:cache_key, :inputs, :catalog_id, :name, :kind, :scope, :auto_renew, CAST(:execution_id AS bigint),
    now() + make_interval(secs => :lease), :fetch_id, now() + make_interval(secs => :lease))
ON CONFLICT (cache_key, inputs) DO UPDATE SET
    fetch_id = EXCLUDED.fetch_id, fetching_until = EXCLUDED.fetching_until, auto_renew = EXCLUDED.auto_renew
WHERE (k.fetching_until IS NULL OR k.fetching_until <= now()) AND k.sealed IS NOT DISTINCT FROM CAST(:seen AS bytea)
RETURNING fetch_id;

-- end_fetch: store a fetched value
UPDATE noetl.keychain SET sealed = :sealed, key_id = :key_id, fields = CAST(:fields AS text[]), fetched_at = now(),
    expires_at = now() + make_interval(secs => :ttl), fetch_id = NULL, fetching_until = NULL
WHERE cache_key = :cache_key AND inputs = :inputs AND fetch_id = :fetch_id RETURNING cache_key;

-- fail_fetch: let others fetch it, after a pause if there is still a valid value
UPDATE noetl.keychain SET fetch_id = NULL, fetching_until = CASE
    WHEN sealed IS NOT NULL AND expires_at > now() THEN now() + make_interval(secs => :pause) END
WHERE cache_key = :cache_key AND inputs = :inputs AND fetch_id = :fetch_id;

-- entries: what is cached for a version of a playbook, or for one execution of it, without the values; what ends with an
-- execution that has ended is not used any more, and is deleted soon
SELECT cache_key, inputs, catalog_id, name, kind, scope, auto_renew, execution_id, fields, created_at, fetched_at, expires_at,
    accessed_at, access_count, expires_at <= now() AS expired,
    greatest(CAST(extract(epoch FROM expires_at - now()) AS double precision), 0) AS seconds_left
FROM noetl.keychain k
WHERE catalog_id = :catalog_id AND sealed IS NOT NULL
    AND (execution_id IS NULL OR EXISTS (
        SELECT FROM noetl.execution e WHERE e.execution_id = k.execution_id AND e.status = 'RUNNING'
    ))
    AND (CAST(:name AS text) IS NULL OR name = :name)
    AND (CAST(:scope AS text) IS NULL OR scope = :scope)
    AND (CAST(:execution_id AS bigint) IS NULL OR execution_id = :execution_id)
    AND (cache_key, inputs) > (:after_key, :after_inputs)
ORDER BY cache_key, inputs LIMIT CAST(:limit AS integer);

-- delete: forget what is cached for an entry
DELETE FROM noetl.keychain WHERE catalog_id = :catalog_id AND name = :name
    AND (CAST(:scope AS text) IS NULL OR scope = :scope)
    AND (CAST(:execution_id AS bigint) IS NULL OR execution_id = :execution_id)
RETURNING sealed IS NOT NULL AND (execution_id IS NULL OR EXISTS (
    SELECT FROM noetl.execution e WHERE e.execution_id = keychain.execution_id AND e.status = 'RUNNING'
)) AS listed;
