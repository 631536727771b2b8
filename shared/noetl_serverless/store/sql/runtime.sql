-- register: an instance, or its heartbeat with all that it says of itself
SELECT noetl.register_runtime(CAST(:instance AS json));

-- heartbeat: a heartbeat alone, or with the status and the number of running commands
UPDATE noetl.runtime SET heartbeat = now(), updated_at = now(), status = coalesce(CAST(:status AS text), status),
    running = coalesce(CAST(:running AS integer), running)
WHERE kind = :kind AND name = :name RETURNING runtime_id, runtime;

-- kinds: what components of a name are
SELECT kind FROM noetl.runtime WHERE name = :name ORDER BY kind LIMIT 100;

-- delete: one that ends
DELETE FROM noetl.runtime WHERE kind = :kind AND name = :name RETURNING runtime_id;

-- entries: components in the order of their registration, after one of them
SELECT * FROM (
    SELECT *, CASE WHEN status <> 'idle' AND heartbeat < now() - make_interval(secs => :dead_after) THEN 'dead' ELSE status END AS state
    FROM noetl.runtime
    WHERE runtime_id > CAST(:after AS bigint) AND (CAST(:kind AS text) IS NULL OR kind = :kind)
        AND (CAST(:pool AS text) IS NULL OR pool = :pool) AND (CAST(:runtime AS text) IS NULL OR runtime = :runtime)
) found
WHERE CAST(:state AS text) IS NULL OR state = :state
ORDER BY runtime_id LIMIT CAST(:limit AS integer);

-- pools: the instances of workers, by pool
SELECT pool, count(*) FILTER (WHERE state <> 'dead') AS instances, count(*) FILTER (WHERE state = 'dead') AS dead,
    coalesce(array_agg(DISTINCT version) FILTER (WHERE state <> 'dead' AND version IS NOT NULL), '{}') AS versions,
    coalesce(sum(capacity) FILTER (WHERE state <> 'dead'), 0) AS capacity,
    coalesce(sum(running) FILTER (WHERE state <> 'dead'), 0) AS running, max(heartbeat) AS heartbeat,
    CASE WHEN bool_or(state = 'busy') THEN 'busy' WHEN bool_or(state = 'ready') THEN 'ready'
        WHEN bool_or(state = 'idle') THEN 'idle' ELSE 'dead' END AS state
FROM (
    SELECT pool, capacity, running, version, heartbeat,
        CASE WHEN status <> 'idle' AND heartbeat < now() - make_interval(secs => :dead_after) THEN 'dead' ELSE status END AS state
    FROM noetl.runtime WHERE kind = 'worker_pool' AND pool IS NOT NULL
) found GROUP BY pool ORDER BY pool LIMIT 1000;

-- prune: delete those without a heartbeat for so long
DELETE FROM noetl.runtime WHERE runtime_id IN (
    SELECT runtime_id FROM noetl.runtime WHERE heartbeat < now() - make_interval(secs => :age)
    ORDER BY heartbeat LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED
) RETURNING runtime_id;
