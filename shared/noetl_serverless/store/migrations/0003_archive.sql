-- Executions that leave the database: to the archive, or because their time is over.
--
-- archive   one row per batch of executions of one month. kind 'archive': their files stand in the result store; 'expiry':
--           nothing of them is kept. planned: chosen, still in the tables above. registered: their rows are gone, and they
--           are read from the files. purged: their events are gone, too: dropped with their partition, or deleted.
-- archived  one row per execution in a batch: what lists show of it, and where its part of the batch's log file lies.
-- chore     work of the reconciler that is not urgent: when each is next due, and how far it has come.
--
-- Lock order: the batch, then its executions by execution_id. The functions' plans are made while the tables are small and
-- kept while they grow, hence their settings.

CREATE TABLE noetl.archive (
    archive_id bigint PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('archive', 'expiry')),
    status text NOT NULL DEFAULT 'planned' CHECK (status IN ('planned', 'registered')),
    -- the first day of the month in which they started
    month date NOT NULL,
    first_id bigint NOT NULL,
    last_id bigint NOT NULL,
    executions integer NOT NULL,
    events bigint NOT NULL,
    -- when the last of them ended
    ended_at timestamptz NOT NULL,
    -- {"events" | "executions" | "results" | "log": {"key", "bytes", "sha256", "rows"}}
    files jsonb,
    -- who writes the files, until when, and how often it was tried
    worker text,
    lease_until timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    registered_at timestamptz,
    purged_at timestamptz
);
CREATE INDEX archive_planned ON noetl.archive (archive_id) WHERE status = 'planned';
CREATE INDEX archive_unpurged ON noetl.archive (month) WHERE status = 'registered' AND purged_at IS NULL;

CREATE TABLE noetl.archived (
    execution_id bigint PRIMARY KEY,
    archive_id bigint NOT NULL REFERENCES noetl.archive ON DELETE CASCADE,
    catalog_id bigint NOT NULL,
    path text NOT NULL,
    version integer NOT NULL,
    parent_execution_id bigint,
    status text NOT NULL,
    head integer NOT NULL,
    finished integer NOT NULL,
    created_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    -- of the batch's log file: [[the first seq in it, offset, length]], in order; null while planned, and of what expires
    blocks jsonb
-- each row is updated once, when its batch is registered
) WITH (fillfactor = 55);
CREATE INDEX archived_batch ON noetl.archived (archive_id, execution_id);
CREATE INDEX archived_parent ON noetl.archived (parent_execution_id) WHERE parent_execution_id IS NOT NULL;
CREATE INDEX archived_ended ON noetl.archived (ended_at, execution_id);

-- in the order of their ends: how results expire
CREATE INDEX execution_ended ON noetl.execution (ended_at, execution_id) WHERE ended_at IS NOT NULL;
CREATE INDEX result_ref_expiry ON noetl.result_ref (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE noetl.chore (
    name text PRIMARY KEY,
    due_at timestamptz NOT NULL DEFAULT now(),
    position jsonb NOT NULL DEFAULT '{}'
);
INSERT INTO noetl.chore (name) VALUES ('archive'), ('expire'), ('results'), ('purge');

-- The first execution id of an instant, as far as ids go, and the month of an id.
CREATE FUNCTION noetl.id_of(at timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT greatest(0, least((extract(epoch FROM at) * 1000)::bigint - 1704067200000, (1::bigint << 41) - 1)) << 22
$$;
CREATE FUNCTION noetl.month_of(id bigint) RETURNS date LANGUAGE sql IMMUTABLE AS $$
    SELECT date_trunc('month', to_timestamp(((id >> 22) + 1704067200000) / 1000.0) AT TIME ZONE 'UTC')::date
$$;
CREATE FUNCTION noetl.month_start(month date) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT noetl.id_of(month::timestamp AT TIME ZONE 'UTC')
$$;

-- Whether an execution and those above it ended before `cutoff`, or are gone: until then they may use what those below made.
CREATE FUNCTION noetl.settled(id bigint, cutoff timestamptz) RETURNS boolean LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
DECLARE
    above bigint;
    ended timestamptz;
BEGIN
    WHILE id IS NOT NULL LOOP
        SELECT x.parent_execution_id, x.ended_at INTO above, ended FROM (
            SELECT parent_execution_id, ended_at FROM noetl.execution WHERE execution_id = id
            UNION ALL
            SELECT parent_execution_id, ended_at FROM noetl.archived WHERE execution_id = id
        ) x LIMIT 1;
        IF NOT FOUND THEN
            RETURN true;
        END IF;
        IF ended IS NULL OR ended >= cutoff THEN
            RETURN false;
        END IF;
        id := above;
    END LOOP;
    RETURN true;
END $$;

-- The oldest executions that ended before `cutoff` and are in no batch yet. Those that started after it cannot have.
CREATE FUNCTION noetl.leaving(wanted text, cutoff timestamptz, most integer)
RETURNS TABLE (execution_id bigint, head integer) LANGUAGE sql STABLE AS $$
    SELECT e.execution_id, e.head FROM noetl.execution e
    WHERE e.execution_id < noetl.id_of(cutoff) AND e.ended_at < cutoff AND e.status <> 'RUNNING'
      AND NOT EXISTS (SELECT FROM noetl.archived a WHERE a.execution_id = e.execution_id)
      AND NOT EXISTS (SELECT FROM noetl.inbox i WHERE i.execution_id = e.execution_id)
      -- an archive keeps what those above may still use; expiry does not
      AND (wanted = 'archive' OR noetl.settled(e.parent_execution_id, cutoff))
    ORDER BY e.execution_id LIMIT most
$$;

-- Put the oldest that are due into a batch: of one month, of at most so many executions, and so many events unless one
-- execution alone has more. Returns its id, null if none is due.
CREATE FUNCTION noetl.plan_archive(id bigint, wanted text, cutoff timestamptz, most integer, most_events bigint)
RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    chosen bigint[];
BEGIN
    -- one at a time, or two would choose the same
    PERFORM pg_advisory_xact_lock(4215077393);
    SELECT array_agg(o.execution_id) INTO chosen FROM (
        SELECT l.execution_id, sum(l.head) OVER w - l.head AS before, noetl.month_of(l.execution_id) AS month,
            first_value(noetl.month_of(l.execution_id)) OVER w AS first_month
        FROM noetl.leaving(wanted, cutoff, most) l WINDOW w AS (ORDER BY l.execution_id)
    ) o WHERE o.month = o.first_month AND (o.before < most_events OR o.before = 0);
    IF chosen IS NULL THEN
        RETURN NULL;
    END IF;
    INSERT INTO noetl.archive (archive_id, kind, month, first_id, last_id, executions, events, ended_at)
    SELECT id, wanted, noetl.month_of(min(execution_id)), min(execution_id), max(execution_id), count(*), sum(head), max(ended_at)
    FROM noetl.execution WHERE execution_id = ANY (chosen);
    INSERT INTO noetl.archived (
        execution_id, archive_id, catalog_id, path, version, parent_execution_id, status, head, finished, created_at, ended_at)
    SELECT execution_id, id, catalog_id, path, version, parent_execution_id, status, head, finished, created_at, ended_at
    FROM noetl.execution WHERE execution_id = ANY (chosen);
    RETURN id;
END $$;

-- From now on the batch is read from its files: its executions leave the hot tables; their events follow with a purge.
-- held  [{execution_id, events, blocks}]: what the files hold. Of a batch that expires nothing is asked.
-- Returns 'registered', also when it was before; 'stale' if another attempt holds the batch; 'incomplete' if the files do
-- not hold every event of every execution.
CREATE FUNCTION noetl.register_archive(id bigint, attempt integer, made jsonb, held jsonb) RETURNS text LANGUAGE plpgsql
SET enable_seqscan = off AS $$
DECLARE
    batch noetl.archive;
    ids bigint[];
BEGIN
    SELECT * INTO batch FROM noetl.archive WHERE archive_id = id FOR UPDATE;
    IF batch.archive_id IS NULL OR batch.attempts <> attempt THEN
        RETURN 'stale';
    END IF;
    IF batch.status = 'registered' THEN
        RETURN 'registered';
    END IF;
    SELECT array_agg(execution_id ORDER BY execution_id) INTO ids FROM noetl.archived WHERE archive_id = id;
    PERFORM 1 FROM noetl.execution WHERE execution_id = ANY (ids) ORDER BY execution_id FOR UPDATE;
    IF batch.kind = 'archive' AND EXISTS (
        SELECT FROM noetl.archived a
        LEFT JOIN noetl.execution e USING (execution_id)
        LEFT JOIN jsonb_to_recordset(held) AS x(execution_id bigint, events integer, blocks jsonb) USING (execution_id)
        WHERE a.archive_id = id AND (e.status = 'RUNNING' OR x.blocks IS NULL OR x.events IS DISTINCT FROM e.head)
    ) THEN
        RETURN 'incomplete';
    END IF;
    UPDATE noetl.archived a SET blocks = x.blocks
    FROM jsonb_to_recordset(held) AS x(execution_id bigint, blocks jsonb)
    WHERE a.execution_id = x.execution_id AND a.archive_id = id;
    DELETE FROM noetl.execution WHERE execution_id = ANY (ids);
    DELETE FROM noetl.command WHERE execution_id = ANY (ids);
    DELETE FROM noetl.stage WHERE execution_id = ANY (ids);
    DELETE FROM noetl.frame WHERE execution_id = ANY (ids);
    DELETE FROM noetl.result_ref WHERE execution_id = ANY (ids);
    DELETE FROM noetl.inbox WHERE execution_id = ANY (ids);
    UPDATE noetl.archive SET status = 'registered', files = made, registered_at = now(), lease_until = NULL, error = NULL
    WHERE archive_id = id;
    RETURN 'registered';
END $$;

-- Drop the event partitions of past months that hold nothing but executions that have left. One that is in use for longer
-- than a moment, or that holds a log without its execution, stays. Returns the names of those dropped.
CREATE FUNCTION noetl.drop_partitions() RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE
    name text;
    start date;
    first bigint;
    last bigint;
    lost bigint;
    dropped text[] := '{}';
BEGIN
    -- whoever comes after us waits as long as we do
    PERFORM set_config('lock_timeout', '200ms', true);
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'noetl.event'::regclass AND c.relname ~ '^event_\d{4}_\d{2}$' ORDER BY c.relname
    LOOP
        start := to_date(name, '"event_"YYYY_MM');
        first := noetl.month_start(start);
        last := noetl.month_start((start + interval '1 month')::date);
        -- a day more, for clocks that are behind
        CONTINUE WHEN last > noetl.id_of(now() - interval '1 day');
        CONTINUE WHEN EXISTS (SELECT FROM noetl.execution WHERE execution_id >= first AND execution_id < last);
        -- from one execution to the next by the index, not event by event
        EXECUTE format($q$
            WITH RECURSIVE log AS (
                SELECT min(execution_id) AS id FROM noetl.%1$I
                UNION ALL
                SELECT (SELECT min(execution_id) FROM noetl.%1$I WHERE execution_id > log.id) FROM log WHERE log.id IS NOT NULL
            )
            SELECT log.id FROM log WHERE log.id IS NOT NULL AND NOT EXISTS (
                SELECT FROM noetl.archived JOIN noetl.archive b USING (archive_id)
                WHERE execution_id = log.id AND b.status = 'registered') LIMIT 1
        $q$, name) INTO lost;
        IF lost IS NOT NULL THEN
            RAISE WARNING 'noetl.% stays: execution % has a log and no row; `noetls rebuild %` brings it back', name, lost, lost;
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('ALTER TABLE noetl.event DETACH PARTITION noetl.%I', name);
            IF EXISTS (SELECT FROM noetl.execution WHERE execution_id >= first AND execution_id < last) THEN
                RAISE lock_not_available;
            END IF;
            EXECUTE format('DROP TABLE noetl.%I', name);
            UPDATE noetl.archive SET purged_at = now() WHERE month = start AND status = 'registered' AND purged_at IS NULL;
            dropped := dropped || name;
        EXCEPTION WHEN lock_not_available THEN
            -- the block is undone; the next purge tries again
            CONTINUE;
        END;
    END LOOP;
    RETURN dropped;
END $$;

-- Delete the events of one registered batch that no drop of a partition will take soon: of a month that is not over, or one
-- that has waited for `patience`. Returns how many, null if there is no such batch.
CREATE FUNCTION noetl.purge_archive(patience interval) RETURNS bigint LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    id bigint;
    gone bigint;
BEGIN
    SELECT archive_id INTO id FROM noetl.archive
    WHERE status = 'registered' AND purged_at IS NULL AND (
        to_regclass('noetl.event_' || to_char(month, 'YYYY_MM')) IS NULL
        OR noetl.month_start((month + interval '1 month')::date) > noetl.id_of(now())
        OR registered_at < now() - patience)
    ORDER BY archive_id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF id IS NULL THEN
        RETURN NULL;
    END IF;
    DELETE FROM noetl.event WHERE execution_id IN (SELECT execution_id FROM noetl.archived WHERE archive_id = id);
    GET DIAGNOSTICS gone = ROW_COUNT;
    UPDATE noetl.archive SET purged_at = now() WHERE archive_id = id;
    RETURN gone;
END $$;
