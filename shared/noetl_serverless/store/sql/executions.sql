-- entries: executions, the newest first
SELECT execution.execution_id, execution.catalog_id, execution.path, execution.version,
    execution.parent_execution_id, execution.status, execution.result, execution.error, execution.head,
    execution.created_at, execution.ended_at, catalog.steps,
    (SELECT count(*) FROM jsonb_object_keys(coalesce(execution.state -> 'outcomes', '{}'))) AS finished
FROM noetl.execution LEFT JOIN noetl.catalog USING (catalog_id)
WHERE (CAST(:status AS text) IS NULL OR execution.status = :status)
  AND (CAST(:path AS text) IS NULL OR execution.path = :path OR starts_with(execution.path, :path || '/'))
  AND (CAST(:parent AS bigint) IS NULL OR execution.parent_execution_id = :parent)
ORDER BY execution.execution_id DESC LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS bigint);

-- count: how many executions the same filters find
SELECT count(*) FROM noetl.execution
WHERE (CAST(:status AS text) IS NULL OR status = :status)
  AND (CAST(:path AS text) IS NULL OR path = :path OR starts_with(path, :path || '/'))
  AND (CAST(:parent AS bigint) IS NULL OR parent_execution_id = :parent);

-- get: one execution
SELECT execution.execution_id, execution.catalog_id, execution.path, execution.version,
    execution.parent_execution_id, execution.status, execution.result, execution.error, execution.head,
    execution.created_at, execution.ended_at, catalog.steps,
    (SELECT count(*) FROM jsonb_object_keys(coalesce(execution.state -> 'outcomes', '{}'))) AS finished
FROM noetl.execution LEFT JOIN noetl.catalog USING (catalog_id)
WHERE execution.execution_id = :execution_id;

-- snapshot: one execution with its state
SELECT execution_id, status, state, error, created_at, ended_at, catalog_id, workload
FROM noetl.execution WHERE execution_id = :execution_id;

-- position: how far the log of an execution has come
SELECT head, status FROM noetl.execution WHERE execution_id = :execution_id;

-- events: the log of an execution after a position, in order
SELECT execution_id, seq, cause, type, step, generation, command_id, at, payload FROM noetl.event
WHERE execution_id = :execution_id AND seq > :after
  AND (CAST(:type AS text) IS NULL OR type = :type)
ORDER BY seq LIMIT CAST(:limit AS integer);

-- events_page: the log of an execution, the newest events first
SELECT execution_id, seq, cause, type, step, generation, command_id, at, payload FROM noetl.event
WHERE execution_id = :execution_id AND seq > :after
  AND (CAST(:type AS text) IS NULL OR type = :type)
ORDER BY seq DESC LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS bigint);

-- events_count: how many events the same filters find
SELECT count(*) FROM noetl.event
WHERE execution_id = :execution_id AND seq > :after AND (CAST(:type AS text) IS NULL OR type = :type);

-- frames: what each finished run of items of a loop gave, in the order of the items
SELECT DISTINCT ON (1)
    CAST(payload ->> 'start' AS bigint) AS "start", CAST(payload ->> 'end' AS bigint) AS "end",
    payload -> 'data' AS data, payload -> 'ref' AS ref
FROM noetl.event
WHERE execution_id = :execution_id AND type = 'frame.committed' AND step = :step AND generation = :generation
ORDER BY 1, seq;

-- generation: the latest run of a loop that has given anything
SELECT max(generation) FROM noetl.event
WHERE execution_id = :execution_id AND step = :step AND type IN ('loop.opened', 'frame.committed');
