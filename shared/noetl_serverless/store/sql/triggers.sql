-- declared: what the newest version of a playbook declares
SELECT newest.version, declared.name, declared.kind, declared.source, declared.config, declared.enabled
FROM (
    SELECT version, triggers FROM noetl.catalog WHERE path = :path AND deleted_at IS NULL ORDER BY version DESC LIMIT 1
) AS newest, jsonb_to_recordset(newest.triggers) AS declared (name text, kind text, source text, config jsonb, enabled boolean)
ORDER BY declared.name;

-- declare: a trigger of the newest version of a playbook; one that was disabled by its name stays so
INSERT INTO noetl.trigger (trigger_id, path, name, version, kind, source, config, enabled, polled_until, created_at, updated_at)
VALUES (
    :trigger_id, :path, :name, :version, :kind, :source, CAST(:config AS jsonb), :enabled,
    CASE WHEN CAST(:is_polled AS boolean) THEN CAST('-infinity' AS timestamptz) ELSE 'infinity' END, :now, :now
)
ON CONFLICT (path, name) DO UPDATE SET
    version = EXCLUDED.version, kind = EXCLUDED.kind, source = EXCLUDED.source, config = EXCLUDED.config,
    enabled = EXCLUDED.enabled AND NOT trigger.disabled_by_name, updated_at = EXCLUDED.updated_at, error = NULL,
    position = CASE WHEN trigger.source = EXCLUDED.source AND trigger.kind = EXCLUDED.kind THEN trigger.position ELSE '{}' END,
    polled_until = CASE
        WHEN trigger.source = EXCLUDED.source AND trigger.kind = EXCLUDED.kind THEN greatest(trigger.polled_until, EXCLUDED.polled_until)
        ELSE EXCLUDED.polled_until
    END
WHERE CAST(:again AS boolean) OR trigger.version <> EXCLUDED.version
RETURNING trigger_id, enabled;

-- get: one trigger, by id or by path and name
SELECT t.trigger_id, t.path, t.name, t.version, t.kind, t.source, t.config, t.enabled, t.error, t.created_at, t.updated_at,
    t.version IS NOT DISTINCT FROM (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL) AS declared,
    t.kind = 'webhook' AND NOT EXISTS (
        SELECT FROM noetl.credential c WHERE c.name = t.config->>'auth' OR CAST(c.credential_id AS text) = t.config->>'auth'
    ) AS lacks_credential
FROM noetl.trigger t WHERE t.trigger_id = CAST(:trigger_id AS bigint) OR (t.path = :path AND t.name = :name)
ORDER BY t.path = :path AND t.name = :name DESC LIMIT 1;

-- by_ids: those of these triggers that are known
SELECT t.trigger_id, t.path, t.name, t.version, t.kind, t.source, t.config, t.enabled, t.error, t.created_at, t.updated_at,
    t.version IS NOT DISTINCT FROM (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL) AS declared,
    t.kind = 'webhook' AND NOT EXISTS (
        SELECT FROM noetl.credential c WHERE c.name = t.config->>'auth' OR CAST(c.credential_id AS text) = t.config->>'auth'
    ) AS lacks_credential
FROM noetl.trigger t WHERE t.trigger_id = ANY (CAST(:trigger_ids AS bigint[]));

-- entries: all triggers, or those of a playbook, in the order of their paths and names
SELECT t.trigger_id, t.path, t.name, t.version, t.kind, t.source, t.config, t.enabled, t.error, t.created_at, t.updated_at,
    t.version IS NOT DISTINCT FROM (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL) AS declared,
    t.kind = 'webhook' AND NOT EXISTS (
        SELECT FROM noetl.credential c WHERE c.name = t.config->>'auth' OR CAST(c.credential_id AS text) = t.config->>'auth'
    ) AS lacks_credential
FROM noetl.trigger t
WHERE (CAST(:path AS text) IS NULL OR t.path = :path) AND (CAST(:kind AS text) IS NULL OR t.kind = :kind)
    AND (t.path, t.name) > (:after_path, :after_name)
ORDER BY t.path, t.name LIMIT CAST(:limit AS integer);

-- signed_with: the effective webhooks that name one of these credentials
SELECT t.path, t.name, t.source FROM noetl.trigger t
WHERE t.kind = 'webhook' AND t.enabled AND t.config->>'auth' = ANY (CAST(:credentials AS text[]))
    AND t.version = (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL)
ORDER BY t.path, t.name LIMIT CAST(:limit AS integer);

-- set_enabled: turn a trigger on or off
UPDATE noetl.trigger SET enabled = CAST(:enabled AS boolean), disabled_by_name = NOT CAST(:enabled AS boolean), updated_at = :now
WHERE trigger_id = :trigger_id RETURNING trigger_id;

-- hold: keep the unsettled events of a trigger that is off from being started, or let them go on
UPDATE noetl.trigger_event SET due_at = CASE WHEN CAST(:hold AS boolean) THEN 'infinity' ELSE CAST(:now AS timestamptz) END
WHERE trigger_id = :trigger_id AND status IN ('received', 'failed') AND (due_at = 'infinity') <> CAST(:hold AS boolean);

-- receive: record an event of an effective trigger, once
INSERT INTO noetl.trigger_event (trigger_id, event_id, event, received_at, attempts, due_at)
SELECT t.trigger_id, :event_id, CAST(:event AS json), :now, 1, :due_at FROM noetl.trigger t
WHERE t.trigger_id = :trigger_id AND t.enabled
    AND t.version = (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL)
FOR KEY SHARE OF t
ON CONFLICT DO NOTHING RETURNING event_id;

-- event: one event, as it is listed
SELECT trigger_id, event_id, status, depth, received_at, attempts + attempts_before AS attempts, settled_at, execution_id, error
FROM noetl.trigger_event WHERE trigger_id = :trigger_id AND event_id = :event_id;

-- content: an event, as long as it is not settled, or a dead letter
SELECT event FROM noetl.trigger_event WHERE trigger_id = :trigger_id AND event_id = :event_id;

-- events: events of a trigger, the newest first, from a position on
SELECT trigger_id, event_id, status, depth, received_at, attempts + attempts_before AS attempts, settled_at, execution_id, error
FROM noetl.trigger_event
WHERE trigger_id = :trigger_id AND (CAST(:status AS text) IS NULL OR status = :status)
    AND (received_at, event_id) < (CAST(:before AS timestamptz), CAST(:before_id AS text))
ORDER BY received_at DESC, event_id DESC LIMIT CAST(:limit AS integer);

-- claim: lease events that are to be started; hold those of a trigger that is off, such as one that failed meanwhile
WITH taken AS (
    SELECT e.trigger_id, e.event_id, t.enabled FROM noetl.trigger_event e JOIN noetl.trigger t USING (trigger_id)
    WHERE e.status IN ('received', 'failed') AND e.due_at <= :now
    ORDER BY e.due_at LIMIT CAST(:limit AS integer) FOR UPDATE OF e SKIP LOCKED FOR SHARE OF t SKIP LOCKED
), leased AS (
    UPDATE noetl.trigger_event e SET due_at = CASE WHEN taken.enabled THEN CAST(:lease_until AS timestamptz) ELSE 'infinity' END,
        attempts = e.attempts + CASE WHEN taken.enabled THEN 1 ELSE 0 END
    FROM taken WHERE e.trigger_id = taken.trigger_id AND e.event_id = taken.event_id
    RETURNING e.trigger_id, e.event_id, e.event, e.depth, e.chain, e.attempts, e.received_at, taken.enabled
)
SELECT leased.trigger_id, t.path, t.name, leased.event_id, leased.event, leased.depth, leased.chain, leased.attempts
FROM leased JOIN noetl.trigger t USING (trigger_id) WHERE leased.enabled ORDER BY leased.received_at, leased.event_id;

-- started_by: how many events of one chain have started an execution, up to a limit
SELECT count(*) FROM (
    SELECT FROM noetl.trigger_event WHERE chain = :chain AND status = 'started' LIMIT CAST(:limit AS integer)
) AS counted;

-- settle: record what has become of an event that had not been settled yet
UPDATE noetl.trigger_event SET status = :status, execution_id = CAST(:execution_id AS bigint), error = CAST(:error AS json),
    settled_at = :now, event = CASE WHEN :status = 'dead' THEN event END
WHERE trigger_id = :trigger_id AND event_id = :event_id AND status IN ('received', 'failed') RETURNING event_id;

-- postpone: record a failed attempt; another follows
UPDATE noetl.trigger_event SET status = 'failed', error = CAST(:error AS json), due_at = :due_at
WHERE trigger_id = :trigger_id AND event_id = :event_id AND status IN ('received', 'failed') RETURNING event_id;

-- retry: let a dead letter be started after all
UPDATE noetl.trigger_event SET status = 'received', attempts_before = attempts_before + attempts, attempts = 0, due_at = :now, settled_at = NULL, error = NULL
WHERE trigger_id = :trigger_id AND event_id = :event_id AND status = 'dead' RETURNING event_id;

-- drop: give up a dead letter; it stays known, so that it is not received again
UPDATE noetl.trigger_event SET status = 'dropped', event = NULL, settled_at = :now
WHERE trigger_id = :trigger_id AND event_id = :event_id AND status = 'dead' RETURNING event_id;

-- poll: lease the sources of effective triggers that are read by polling
WITH taken AS (
    SELECT t.trigger_id FROM noetl.trigger t
    WHERE t.kind IN ('message', 'object') AND t.enabled AND t.polled_until <= :now
        AND t.version = (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL)
    ORDER BY t.polled_until LIMIT CAST(:limit AS integer) FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE noetl.trigger t SET polled_until = :lease_until FROM taken WHERE t.trigger_id = taken.trigger_id
RETURNING t.trigger_id, t.path, t.name, t.version, t.kind, t.source, t.config, t.position, t.updated_at, t.error;

-- listening: the effective triggers of one source
SELECT t.trigger_id, t.path, t.name, t.version, t.kind, t.source, t.config, t.position, t.updated_at FROM noetl.trigger t
WHERE t.kind = :kind AND t.enabled AND (t.source = :source OR starts_with(:source, t.source))
    AND t.version = (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL)
ORDER BY t.trigger_id LIMIT 1000;

-- polled: record how far a source has been read, and when it is read again
UPDATE noetl.trigger SET position = CAST(:position AS jsonb), polled_until = :next_at, error = CAST(:error AS json)
WHERE trigger_id = :trigger_id AND source = :source RETURNING trigger_id;

-- prune_events: delete events that were settled long ago
DELETE FROM noetl.trigger_event WHERE (trigger_id, event_id) IN (
    SELECT trigger_id, event_id FROM noetl.trigger_event
    WHERE settled_at < :before ORDER BY settled_at LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED
) RETURNING event_id;

-- prune_triggers: delete triggers without events that no newest version has declared for a while
DELETE FROM noetl.trigger WHERE trigger_id IN (
    SELECT t.trigger_id FROM noetl.trigger t
    WHERE t.updated_at < :before AND NOT EXISTS (SELECT FROM noetl.trigger_event e WHERE e.trigger_id = t.trigger_id)
        AND t.version IS DISTINCT FROM (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL)
    LIMIT CAST(:limit AS integer) FOR UPDATE SKIP LOCKED
) RETURNING trigger_id;
