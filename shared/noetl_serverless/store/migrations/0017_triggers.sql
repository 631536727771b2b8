-- Triggers of playbooks, and their events: see `store/triggers.py`. The release before knows nothing of them, and goes on
-- recording ends of executions for them, since the database itself does that.
--
-- No part of it is granted to the role of direct workers.

-- What a version declares, so that the triggers of another one become effective when that is the newest: a list of {name, kind,
-- source, config, enabled}.
ALTER TABLE noetl.catalog ADD COLUMN triggers jsonb NOT NULL DEFAULT '[]';

CREATE TABLE noetl.trigger (
    trigger_id bigint PRIMARY KEY,
    -- of the playbook that declares it
    path text NOT NULL,
    name text NOT NULL,
    -- the latest one that declares it: the trigger is effective while this is the newest version of its path
    version integer NOT NULL,
    kind text NOT NULL CHECK (kind IN ('webhook', 'object', 'message', 'playbook')),
    -- what it listens to: the path of a playbook, the URL of a bucket, a queue
    source text NOT NULL,
    -- the keys of its kind
    config jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    -- somebody has disabled it: whatever later versions declare, it stays so until somebody enables it
    disabled_by_name boolean NOT NULL DEFAULT false,
    -- of a source that is polled: how far it has been read, who reads it until when, and what the last attempt failed with
    position jsonb NOT NULL DEFAULT '{}',
    polled_until timestamptz NOT NULL DEFAULT '-infinity',
    error json,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (path, name)
);
CREATE INDEX trigger_source ON noetl.trigger (kind, source);
CREATE INDEX trigger_polled ON noetl.trigger (polled_until) WHERE kind IN ('message', 'object') AND enabled;

-- The inbox: one row for each event, however often it is delivered. It is written before the event is acknowledged, and
-- stays until its execution is known to have started; then without the event itself.
CREATE TABLE noetl.trigger_event (
    trigger_id bigint NOT NULL REFERENCES noetl.trigger ON DELETE CASCADE,
    event_id text NOT NULL,
    status text NOT NULL DEFAULT 'received'
        CHECK (status IN ('received', 'started', 'filtered', 'failed', 'dead', 'dropped')),
    -- {id, source, type, time, data, headers}; null once it has been settled, except for a dead letter
    event json,
    -- how many triggers have led to it, one after the other
    depth integer NOT NULL DEFAULT 1,
    -- of an end: the execution whose end was the first of those that have led to it, so that they can be counted
    chain bigint,
    received_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    -- when the next attempt may begin; while one is under way, when it is given up
    due_at timestamptz NOT NULL,
    settled_at timestamptz,
    execution_id bigint,
    error json,
    PRIMARY KEY (trigger_id, event_id)
);
CREATE INDEX trigger_event_due ON noetl.trigger_event (due_at) WHERE status IN ('received', 'failed');
CREATE INDEX trigger_event_received ON noetl.trigger_event (trigger_id, received_at, event_id);
CREATE INDEX trigger_event_chain ON noetl.trigger_event (chain) WHERE status = 'started' AND chain IS NOT NULL;
CREATE INDEX trigger_event_settled ON noetl.trigger_event (settled_at) WHERE settled_at IS NOT NULL;

-- In the transaction of an end, so that none is lost. A result above 64 KiB of JSON is left out: its reference is the id of
-- the execution. It runs as the owner of the functions that commit. One that ended long ago, whose row is put back by a replay, is no new end.
CREATE FUNCTION noetl.record_end() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- nearly all ends lead to nothing, which takes a quarter of the time to find out in this way
    IF NOT EXISTS (SELECT FROM noetl.trigger t WHERE t.kind = 'playbook' AND t.source = NEW.path) THEN
        RETURN NULL;
    END IF;
    INSERT INTO noetl.trigger_event (trigger_id, event_id, event, depth, chain, received_at, due_at)
    SELECT t.trigger_id, NEW.execution_id::text, json_build_object(
        'id', NEW.execution_id::text,
        'source', 'playbook:' || NEW.path,
        'type', 'playbook.' || lower(NEW.status),
        'time', to_char(coalesce(NEW.ended_at, now()) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
        'data', json_build_object(
            'execution_id', NEW.execution_id::text,
            'path', NEW.path,
            'version', NEW.version,
            'status', lower(NEW.status),
            'parent_execution_id', NEW.parent_execution_id::text,
            'result', CASE WHEN octet_length(NEW.result::text) <= 65536 THEN NEW.result END,
            'result_bytes', octet_length(NEW.result::text),
            'error', NEW.error)),
        CASE WHEN NEW.principal->>'kind' = 'trigger' AND NEW.principal->>'depth' ~ '^[0-9]{1,4}$'
            THEN (NEW.principal->>'depth')::integer ELSE 0 END + 1,
        CASE WHEN NEW.principal->>'kind' = 'trigger' AND NEW.principal->>'chain' ~ '^[0-9]{1,18}$'
            THEN (NEW.principal->>'chain')::bigint ELSE NEW.execution_id END,
        now(), now()
    FROM noetl.trigger t
    WHERE t.kind = 'playbook' AND t.source = NEW.path AND t.enabled AND t.config->'statuses' ? lower(NEW.status)
        AND t.version = (SELECT max(c.version) FROM noetl.catalog c WHERE c.path = t.path AND c.deleted_at IS NULL)
        AND coalesce(NEW.ended_at, now()) > greatest(t.created_at, now() - interval '1 day')
    FOR KEY SHARE OF t
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION noetl.record_end() FROM PUBLIC;

CREATE TRIGGER execution_began_and_ended AFTER INSERT ON noetl.execution
FOR EACH ROW WHEN (NEW.status <> 'RUNNING') EXECUTE FUNCTION noetl.record_end();
CREATE TRIGGER execution_ended AFTER UPDATE OF status ON noetl.execution
FOR EACH ROW WHEN (OLD.status = 'RUNNING' AND NEW.status <> 'RUNNING') EXECUTE FUNCTION noetl.record_end();

INSERT INTO noetl.chore (name) VALUES ('triggers') ON CONFLICT DO NOTHING;
