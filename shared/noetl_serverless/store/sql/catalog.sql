-- lock_path: one registration of a path at a time, until the transaction ends
SELECT pg_advisory_xact_lock(hashtextextended(:path, 7023));

-- newest: the newest version of a path
SELECT catalog_id, path, version, kind, content, hash, meta, payload, created_at
FROM noetl.catalog WHERE path = :path AND deleted_at IS NULL ORDER BY version DESC LIMIT 1;

-- newest_version: its number
SELECT max(version) AS version FROM noetl.catalog WHERE path = :path AND deleted_at IS NULL;

-- last_version: the highest number of a version that the path has ever had
SELECT coalesce(max(version), 0) AS version FROM noetl.catalog WHERE path = :path;

-- insert: add a version
INSERT INTO noetl.catalog (catalog_id, path, version, kind, content, hash, meta, payload, steps, triggers)
VALUES (:catalog_id, :path, :version, :kind, :content, :hash, CAST(:meta AS jsonb), CAST(:payload AS jsonb), :steps,
    CAST(:triggers AS jsonb))
RETURNING catalog_id, path, version, kind, content, hash, meta, payload, created_at;

-- by_id: one version by its id
SELECT catalog_id, path, version, kind, content, hash, meta, payload, created_at
FROM noetl.catalog WHERE catalog_id = :catalog_id AND deleted_at IS NULL;

-- by_version: one version of a path
SELECT catalog_id, path, version, kind, content, hash, meta, payload, created_at
FROM noetl.catalog WHERE path = :path AND version = :version AND deleted_at IS NULL;

-- by_hash: the text of a plan, also of a deleted version
SELECT content FROM noetl.catalog WHERE hash = :hash ORDER BY catalog_id DESC LIMIT 1;

-- entries: the newest version of each path, or every version of one
SELECT catalog_id, path, version, kind, hash, meta, payload, created_at, deleted_at FROM (
    SELECT DISTINCT ON (path, CASE WHEN CAST(:every AS boolean) THEN version ELSE 0 END)
        catalog_id, path, version, kind, hash, meta, payload, created_at, deleted_at
    FROM noetl.catalog
    WHERE (CAST(:path AS text) IS NULL OR path = :path OR starts_with(path, :path || '/'))
      AND (CAST(:deleted AS boolean) OR deleted_at IS NULL)
    ORDER BY path, CASE WHEN CAST(:every AS boolean) THEN version ELSE 0 END, version DESC
) AS entry
WHERE (CAST(:kind AS text) IS NULL OR lower(kind) = lower(:kind))
  AND (NOT CAST(:agents AS boolean) OR kind = 'Agent' OR meta->'agent' = 'true')
  AND (CAST(:capabilities AS jsonb) IS NULL OR meta->'capabilities' @> CAST(:capabilities AS jsonb))
ORDER BY path, version DESC LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS integer);

-- versions: the versions of one path, the newest first
SELECT catalog_id, path, version, kind, hash, meta, payload, created_at, deleted_at FROM noetl.catalog
WHERE path = :path AND (CAST(:deleted AS boolean) OR deleted_at IS NULL)
  AND (CAST(:before AS integer) IS NULL OR version < CAST(:before AS integer))
ORDER BY version DESC LIMIT CAST(:limit AS integer);

-- delete: hide one version of a path, or all of them
UPDATE noetl.catalog SET deleted_at = now()
WHERE path = :path AND (CAST(:version AS integer) IS NULL OR version = CAST(:version AS integer)) AND deleted_at IS NULL
RETURNING version;

-- restore: show one version of a path again, or all of them
UPDATE noetl.catalog SET deleted_at = NULL
WHERE path = :path AND (CAST(:version AS integer) IS NULL OR version = CAST(:version AS integer)) AND deleted_at IS NOT NULL
RETURNING version;

-- has: whether the path has this version, or any, deleted ones included
SELECT EXISTS (
    SELECT FROM noetl.catalog
    WHERE path = :path AND (CAST(:version AS integer) IS NULL OR version = CAST(:version AS integer))
);

-- credential_kinds: which kinds of tools may use credentials, of those whose newest description says so
SELECT path, payload->'kinds' AS kinds FROM (
    SELECT DISTINCT ON (path) path, kind, payload FROM noetl.catalog
    WHERE path = ANY (CAST(:names AS text[])) AND deleted_at IS NULL
    ORDER BY path, version DESC
) AS newest
WHERE kind = 'Credential' AND jsonb_array_length(coalesce(payload->'kinds', '[]')) > 0;
