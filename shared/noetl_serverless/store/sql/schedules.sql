-- now: the instant given, or that of the server, whichever is earlier: a wrong clock starts no run before its time
SELECT least(CAST(:now AS timestamptz), now());

-- insert: a new schedule
WITH made AS (
    INSERT INTO noetl.schedule (schedule_id, name, playbook_path, playbook_version, cron, interval_seconds, timezone,
                                enabled, missed_policy, next_run_at, input_payload, meta, created_at, updated_at)
    VALUES (:schedule_id, :name, :playbook_path, :playbook_version, :cron, :interval_seconds, :timezone,
            :enabled, :missed_policy, :next_run_at, CAST(:input_payload AS json), CAST(:meta AS jsonb), :now, :now)
    ON CONFLICT (name) DO NOTHING
    RETURNING *
), policy AS (
    INSERT INTO noetl.schedule_policy (schedule_id, overlap_policy, jitter_seconds, start_at, end_at)
    SELECT schedule_id, :overlap_policy, CAST(:jitter_seconds AS integer), CAST(:start_at AS timestamptz),
        CAST(:end_at AS timestamptz)
    FROM made RETURNING *
)
SELECT made.*, policy.overlap_policy, policy.jitter_seconds, policy.start_at, policy.end_at
FROM made JOIN policy USING (schedule_id);

-- update: change a schedule
WITH changed AS (
    UPDATE noetl.schedule SET playbook_path = :playbook_path, playbook_version = :playbook_version, cron = :cron,
        interval_seconds = :interval_seconds, timezone = :timezone, enabled = :enabled, missed_policy = :missed_policy,
        next_run_at = :next_run_at, input_payload = CAST(:input_payload AS json), meta = CAST(:meta AS jsonb),
        updated_at = :now
    WHERE schedule_id = :schedule_id
    RETURNING *
), policy AS (
    INSERT INTO noetl.schedule_policy AS p (schedule_id, overlap_policy, jitter_seconds, start_at, end_at)
    SELECT schedule_id, :overlap_policy, CAST(:jitter_seconds AS integer), CAST(:start_at AS timestamptz),
        CAST(:end_at AS timestamptz)
    FROM changed
    ON CONFLICT (schedule_id) DO UPDATE SET overlap_policy = EXCLUDED.overlap_policy,
        jitter_seconds = EXCLUDED.jitter_seconds, start_at = EXCLUDED.start_at, end_at = EXCLUDED.end_at
    RETURNING *
)
SELECT changed.*, policy.overlap_policy, policy.jitter_seconds, policy.start_at, policy.end_at
FROM changed JOIN policy USING (schedule_id);

-- get: one schedule, by name or id
SELECT s.*, p.overlap_policy, p.jitter_seconds, p.start_at, p.end_at
FROM noetl.schedule s LEFT JOIN noetl.schedule_policy p USING (schedule_id)
WHERE s.name = :name OR s.schedule_id = CAST(:schedule_id AS bigint)
ORDER BY s.name IS NOT DISTINCT FROM :name DESC LIMIT 1;

-- lock: one schedule, which nobody else changes meanwhile
SELECT s.*, p.overlap_policy, p.jitter_seconds, p.start_at, p.end_at
FROM noetl.schedule s LEFT JOIN noetl.schedule_policy p USING (schedule_id)
WHERE s.schedule_id = :schedule_id FOR UPDATE OF s;

-- entries: all schedules, or those of a playbook
SELECT s.*, p.overlap_policy, p.jitter_seconds, p.start_at, p.end_at
FROM noetl.schedule s LEFT JOIN noetl.schedule_policy p USING (schedule_id)
WHERE (CAST(:path AS text) IS NULL OR s.playbook_path = :path)
  AND (CAST(:enabled AS boolean) IS NULL OR s.enabled = :enabled)
ORDER BY s.schedule_id LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS integer);

-- delete: delete a schedule and its runs
DELETE FROM noetl.schedule WHERE schedule_id = :schedule_id RETURNING schedule_id;

-- due: schedules that are due, locked so that only one reconciler advances each
SELECT s.*, p.overlap_policy, p.jitter_seconds, p.start_at, p.end_at
FROM noetl.schedule s LEFT JOIN noetl.schedule_policy p USING (schedule_id)
WHERE s.enabled AND s.next_run_at <= :now
ORDER BY s.next_run_at LIMIT CAST(:limit AS integer) FOR UPDATE OF s SKIP LOCKED;

-- set_next_run: set the next time, after the runs owed have been recorded
UPDATE noetl.schedule SET next_run_at = :next_run_at WHERE schedule_id = :schedule_id;

-- disable: turn off a schedule whose next time cannot be computed
UPDATE noetl.schedule SET enabled = false, next_run_at = NULL, last_status = 'failed', updated_at = :now
WHERE schedule_id = :schedule_id;

-- insert_runs: record the runs that a schedule owes
INSERT INTO noetl.schedule_fire (schedule_id, due_at, start_at)
SELECT CAST(:schedule_id AS bigint), due, start
FROM unnest(CAST(:due AS timestamptz[]), CAST(:starts AS timestamptz[])) AS owed (due, start)
ON CONFLICT DO NOTHING;

-- insert_backfill: record runs for times in the past; one that is there and has started nothing is owed again
INSERT INTO noetl.schedule_fire AS fire (schedule_id, due_at, start_at, status, backfill, requested_at)
SELECT CAST(:schedule_id AS bigint), due, :now, :status, true, :now FROM unnest(CAST(:due AS timestamptz[])) AS due
ON CONFLICT (schedule_id, due_at) DO UPDATE SET start_at = EXCLUDED.start_at, status = EXCLUDED.status, backfill = true,
    requested_at = EXCLUDED.requested_at, reason = NULL, error = NULL, lease_until = NULL
WHERE fire.status IN ('skipped', 'failed')
RETURNING due_at;

-- settled_or_owed: those of the times for which there is a run that a backfill would not owe
SELECT due_at FROM noetl.schedule_fire
WHERE schedule_id = :schedule_id AND due_at = ANY (CAST(:due AS timestamptz[])) AND status NOT IN ('skipped', 'failed');

-- withdraw: skip the runs that nobody has begun to start; of the others whoever settles them finds out
UPDATE noetl.schedule_fire SET reason = :reason, status = CASE WHEN lease_until IS NULL THEN 'skipped' ELSE status END
WHERE schedule_id = :schedule_id AND status IN ('open', 'waiting');

-- reconsider: runs that wait are decided again, after the policy has changed
UPDATE noetl.schedule_fire SET status = 'open' WHERE schedule_id = :schedule_id AND status = 'waiting';

-- claim: lease runs that are owed, of schedules whose runs may overlap
WITH taken AS (
    SELECT fire.schedule_id, fire.due_at FROM noetl.schedule_fire AS fire
    LEFT JOIN noetl.schedule_policy AS policy USING (schedule_id)
    WHERE fire.status = 'open' AND coalesce(fire.start_at, fire.due_at) <= least(CAST(:now AS timestamptz), now())
        AND (fire.lease_until IS NULL OR fire.lease_until <= least(CAST(:now AS timestamptz), now()))
        AND coalesce(policy.overlap_policy, 'allow') = 'allow'
    ORDER BY coalesce(fire.start_at, fire.due_at), fire.due_at LIMIT CAST(:limit AS integer) FOR UPDATE OF fire SKIP LOCKED
), leased AS (
    UPDATE noetl.schedule_fire AS fire
    SET lease_until = least(CAST(:now AS timestamptz), now()) + make_interval(secs => :lease) FROM taken
    WHERE fire.schedule_id = taken.schedule_id AND fire.due_at = taken.due_at
    RETURNING fire.schedule_id, fire.due_at, fire.lease_until, fire.backfill, fire.reason
)
SELECT leased.*, schedule.name, schedule.playbook_path, schedule.playbook_version, schedule.input_payload
FROM leased JOIN noetl.schedule AS schedule USING (schedule_id) ORDER BY due_at, schedule_id;

-- one_at_a_time: schedules whose runs must not overlap and that owe one, locked: one reconciler decides at a time
SELECT s.schedule_id FROM noetl.schedule s JOIN noetl.schedule_policy p USING (schedule_id)
WHERE p.overlap_policy <> 'allow' AND s.schedule_id IN (
    SELECT f.schedule_id FROM noetl.schedule_fire f
    WHERE f.status = 'open' AND coalesce(f.start_at, f.due_at) <= :now AND (f.lease_until IS NULL OR f.lease_until <= :now)
    UNION
    SELECT f.schedule_id FROM noetl.schedule_fire f
    WHERE f.status = 'waiting' AND (f.lease_until IS NULL OR f.lease_until <= :now) AND NOT EXISTS (
        SELECT FROM noetl.schedule_fire r JOIN noetl.execution x ON x.execution_id = r.execution_id
        WHERE r.schedule_id = f.schedule_id AND r.status = 'started' AND NOT r.ended AND x.status = 'RUNNING'))
ORDER BY s.schedule_id LIMIT CAST(:limit AS integer) FOR UPDATE OF s SKIP LOCKED;

-- mark_ended: note which runs have ended, so that they are not looked at again
UPDATE noetl.schedule_fire AS f SET ended = true
WHERE f.schedule_id = ANY (CAST(:ids AS bigint[])) AND f.status = 'started' AND NOT f.ended AND NOT EXISTS (
    SELECT FROM noetl.execution x WHERE x.execution_id = f.execution_id AND x.status = 'RUNNING');

-- claim_next: lease the next run of each of the schedules, unless one is being started. What was leased before and is not
-- settled comes first, since it may have been started; then regular runs, what waits among them first; then a backfill
WITH running AS (
    SELECT schedule_id, array_agg(execution_id::text ORDER BY execution_id) AS ids FROM noetl.schedule_fire
    WHERE schedule_id = ANY (CAST(:ids AS bigint[])) AND status = 'started' AND NOT ended GROUP BY schedule_id
), next AS (
    SELECT DISTINCT ON (f.schedule_id) f.schedule_id, f.due_at, f.lease_until IS NOT NULL AS again,
        coalesce(running.ids, '{}') AS running
    FROM noetl.schedule_fire f LEFT JOIN running USING (schedule_id)
    WHERE f.schedule_id = ANY (CAST(:ids AS bigint[]))
        AND (f.status = 'open' AND coalesce(f.start_at, f.due_at) <= :now
            OR f.status = 'waiting' AND (running.ids IS NULL OR f.lease_until IS NOT NULL))
        AND NOT EXISTS (SELECT FROM noetl.schedule_fire o WHERE o.schedule_id = f.schedule_id
            AND o.status IN ('open', 'waiting') AND o.lease_until > :now)
    ORDER BY f.schedule_id, f.lease_until IS NULL, f.backfill, f.status = 'open', f.due_at
), leased AS (
    UPDATE noetl.schedule_fire AS f SET lease_until = CAST(:now AS timestamptz) + make_interval(secs => :lease) FROM next
    WHERE f.schedule_id = next.schedule_id AND f.due_at = next.due_at
    RETURNING f.schedule_id, f.due_at, f.lease_until, f.backfill, f.reason, next.again, next.running
)
SELECT leased.*, s.name, s.playbook_path, s.playbook_version, s.input_payload, p.overlap_policy,
    (SELECT min(w.due_at) FROM noetl.schedule_fire w WHERE w.schedule_id = leased.schedule_id
        AND w.status = 'waiting' AND NOT w.backfill AND w.due_at <> leased.due_at) AS waiting_due_at,
    (SELECT max(n.due_at) FROM noetl.schedule_fire n WHERE n.schedule_id = leased.schedule_id
        AND n.status = 'open' AND NOT n.backfill AND n.due_at > leased.due_at
        AND coalesce(n.start_at, n.due_at) <= :now) AS newer_due_at
FROM leased JOIN noetl.schedule s USING (schedule_id) JOIN noetl.schedule_policy p USING (schedule_id)
ORDER BY leased.due_at, leased.schedule_id;

-- hold: extend the lease of a run that is still owed, unless another has taken it meanwhile
UPDATE noetl.schedule_fire
SET lease_until = least(CAST(:now AS timestamptz), now()) + make_interval(secs => :lease)
WHERE schedule_id = :schedule_id AND due_at = :due_at AND status IN ('open', 'waiting') AND reason IS NULL
    AND lease_until = :lease_until
RETURNING lease_until;

-- end_run: record that a run was started, which is never taken back; or that it was skipped, or cannot start
UPDATE noetl.schedule_fire SET status = :status, execution_id = :execution_id, error = CAST(:error AS jsonb),
    reason = :reason, lease_until = NULL
WHERE schedule_id = :schedule_id AND due_at = :due_at AND (:status = 'started' OR status IN ('open', 'waiting'))
RETURNING schedule_id;

-- let_wait: let a run wait until no other runs
UPDATE noetl.schedule_fire SET status = 'waiting', lease_until = NULL
WHERE schedule_id = :schedule_id AND due_at = :due_at AND status IN ('open', 'waiting') AND lease_until = :lease_until
RETURNING schedule_id;

-- record_latest_run: record the status of a schedule's latest run
UPDATE noetl.schedule SET last_run_at = :at, last_status = :status,
    last_execution_id = coalesce(CAST(:execution_id AS bigint), last_execution_id)
WHERE schedule_id = :schedule_id AND (last_run_at IS NULL OR last_run_at <= :at);

-- runs: runs of a schedule, the latest first, with the status of their executions
SELECT f.due_at, coalesce(f.start_at, f.due_at) AS start_at, f.status, f.backfill, f.reason, f.execution_id, f.error,
    coalesce((SELECT x.status FROM noetl.execution x WHERE x.execution_id = f.execution_id),
             (SELECT a.status FROM noetl.archived a WHERE a.execution_id = f.execution_id)) AS execution_status
FROM noetl.schedule_fire f
WHERE f.schedule_id = :schedule_id AND (CAST(:before AS timestamptz) IS NULL OR f.due_at < :before)
    AND (CAST(:status AS text) IS NULL OR f.status = :status)
    AND (CAST(:backfill AS boolean) IS NULL OR f.backfill = :backfill)
ORDER BY f.due_at DESC LIMIT CAST(:limit AS integer);

-- prune: delete old settled runs
DELETE FROM noetl.schedule_fire WHERE (schedule_id, due_at) IN (
    SELECT schedule_id, due_at FROM noetl.schedule_fire
    WHERE status NOT IN ('open', 'waiting') AND due_at < :before AND coalesce(requested_at, due_at) < :before
    LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED
);
