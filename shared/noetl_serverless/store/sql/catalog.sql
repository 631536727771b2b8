-- lock_path: one registration of a path at a time, until the transaction ends
SELECT pg_advisory_xact_lock(hashtextextended(:path, 7023));

-- newest: the newest version of a path
SELECT catalog_id, path, version, kind, content, hash, meta, payload, created_at
FROM noetl.catalog WHERE path = :path ORDER BY version DESC LIMIT 1;

-- insert: add a version
INSERT INTO noetl.catalog (catalog_id, path, version, kind, content, hash, meta, payload, steps)
VALUES (:catalog_id, :path, :version, :kind, :content, :hash, CAST(:meta AS jsonb), CAST(:payload AS jsonb), :steps)
RETURNING catalog_id, path, version, kind, content, hash, meta, payload, created_at;

-- by_id: one version by its id
SELECT catalog_id, path, version, kind, content, hash, meta, payload, created_at
FROM noetl.catalog WHERE catalog_id = :catalog_id;

-- by_version: one version of a path
SELECT catalog_id, path, version, kind, content, hash, meta, payload, created_at
FROM noetl.catalog WHERE path = :path AND version = :version;

-- by_hash: the text of a plan
SELECT content FROM noetl.catalog WHERE hash = :hash ORDER BY catalog_id DESC LIMIT 1;

-- entries: the newest version of each path, or every version of one
SELECT catalog_id, path, version, kind, hash, meta, payload, created_at FROM (
    SELECT DISTINCT ON (path, CASE WHEN CAST(:every AS boolean) THEN version ELSE 0 END)
        catalog_id, path, version, kind, hash, meta, payload, created_at
    FROM noetl.catalog
    WHERE (CAST(:kind AS text) IS NULL OR lower(kind) = lower(:kind))
      AND (CAST(:path AS text) IS NULL OR path = :path OR starts_with(path, :path || '/'))
    ORDER BY path, CASE WHEN CAST(:every AS boolean) THEN version ELSE 0 END, version DESC
) AS entry
ORDER BY path, version DESC LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS integer);
