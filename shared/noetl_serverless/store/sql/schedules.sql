-- insert: a new schedule
INSERT INTO noetl.schedule (schedule_id, name, playbook_path, playbook_version, cron, interval_seconds, timezone,
                            enabled, missed_policy, next_run_at, input_payload, meta, created_at, updated_at)
VALUES (:schedule_id, :name, :playbook_path, :playbook_version, :cron, :interval_seconds, :timezone,
        :enabled, :missed_policy, :next_run_at, CAST(:input_payload AS json), CAST(:meta AS jsonb), :now, :now)
ON CONFLICT (name) DO NOTHING
RETURNING *;

-- get: one schedule, by name or id
SELECT * FROM noetl.schedule
WHERE name = :name OR schedule_id = CAST(:schedule_id AS bigint) ORDER BY name IS NOT DISTINCT FROM :name DESC LIMIT 1;

-- entries: all schedules, or those of a playbook
SELECT * FROM noetl.schedule
WHERE (CAST(:path AS text) IS NULL OR playbook_path = :path)
  AND (CAST(:enabled AS boolean) IS NULL OR enabled = :enabled)
ORDER BY schedule_id LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS integer);

-- set_enabled: turn a schedule on or off
UPDATE noetl.schedule SET enabled = :enabled, next_run_at = :next_run_at, updated_at = :now
WHERE schedule_id = :schedule_id RETURNING *;

-- delete: delete a schedule and its runs
DELETE FROM noetl.schedule WHERE schedule_id = :schedule_id RETURNING schedule_id;

-- due: schedules that are due, locked so that only one reconciler advances each
SELECT * FROM noetl.schedule WHERE enabled AND next_run_at <= :now
ORDER BY next_run_at LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED;

-- set_next_run: set the next time, after the runs owed have been recorded
UPDATE noetl.schedule SET next_run_at = :next_run_at WHERE schedule_id = :schedule_id;

-- disable: turn off a schedule whose next time cannot be computed
UPDATE noetl.schedule SET enabled = false, next_run_at = NULL, last_status = 'failed', updated_at = :now
WHERE schedule_id = :schedule_id;

-- insert_runs: record the runs that a schedule owes
INSERT INTO noetl.schedule_fire (schedule_id, due_at)
SELECT CAST(:schedule_id AS bigint), unnest(CAST(:due AS timestamptz[])) ON CONFLICT DO NOTHING;

-- claim: lease runs that are owed
WITH taken AS (
    SELECT schedule_id, due_at FROM noetl.schedule_fire
    WHERE status = 'open' AND (lease_until IS NULL OR lease_until <= :now)
    ORDER BY due_at LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE noetl.schedule_fire AS fire SET lease_until = :lease_until FROM taken
    WHERE fire.schedule_id = taken.schedule_id AND fire.due_at = taken.due_at
    RETURNING fire.schedule_id, fire.due_at
)
SELECT leased.schedule_id, leased.due_at, playbook_path, playbook_version, input_payload
FROM leased JOIN noetl.schedule USING (schedule_id) ORDER BY due_at, schedule_id;

-- end_run: record that a run was started, or cannot be
UPDATE noetl.schedule_fire SET status = :status, execution_id = :execution_id, error = CAST(:error AS jsonb)
WHERE schedule_id = :schedule_id AND due_at = :due_at RETURNING schedule_id;

-- record_latest_run: record the status of a schedule's latest run
UPDATE noetl.schedule SET last_run_at = :at, last_status = :status,
    last_execution_id = coalesce(CAST(:execution_id AS bigint), last_execution_id)
WHERE schedule_id = :schedule_id AND (last_run_at IS NULL OR last_run_at <= :at);

-- runs: the latest runs of a schedule
SELECT due_at, status, execution_id, error FROM noetl.schedule_fire
WHERE schedule_id = :schedule_id ORDER BY due_at DESC LIMIT CAST(:limit AS integer);

-- prune: delete old settled runs
DELETE FROM noetl.schedule_fire WHERE (schedule_id, due_at) IN (
    SELECT schedule_id, due_at FROM noetl.schedule_fire WHERE status <> 'open' AND due_at < :before
    LIMIT CAST(:limit AS integer)
);
