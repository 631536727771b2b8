-- Values as they were written, order before commit, and what cannot be decided.
--
-- Payloads, states and workloads become json: the text itself, in the order in which it was written, where jsonb sorted the
-- keys and rewrote the numbers. Whoever decides sees the same value, whether it is at hand or comes from here.
--
-- Functions of the release before go on working: they call `noetl.commit` and `noetl.append` with jsonb, and read json where
-- jsonb was.
--
-- Lock order of every function and statement: execution rows by execution_id, then command rows by (execution_id,
-- command_id); what is skipped when locked takes no part in it.
--
-- The functions' plans are made once in a session, for planning takes as long as the work, on whatever stands in the tables
-- then, and are kept while they grow. So each command is looked up by its key in a subquery of its own, or by its ctid once
-- it is locked: no plan can begin with all that waits or runs.

ALTER TABLE noetl.event ALTER COLUMN payload TYPE json;
ALTER TABLE noetl.inbox ALTER COLUMN payload TYPE json;
ALTER TABLE noetl.execution
    -- who or what started it; children keep it. Null: it was started by a release that did not ask
    ADD COLUMN principal json,
    -- of the form of `state`: a release reads what it knows, and leaves the rest to a newer one
    ADD COLUMN state_version smallint NOT NULL DEFAULT 1,
    ADD COLUMN new_state json, ADD COLUMN new_folded integer, ADD COLUMN new_head integer, ADD COLUMN new_finished integer;
-- What commits change comes last, where more of the kind can be added: the WAL of an update holds all that lies between the
-- first column that changes and the last. One rewrite of the table for all of it
ALTER TABLE noetl.execution
    ALTER COLUMN parent TYPE json, ALTER COLUMN workload TYPE json, ALTER COLUMN result TYPE json, ALTER COLUMN error TYPE json,
    ALTER COLUMN new_state TYPE json USING state::json, DROP COLUMN state,
    ALTER COLUMN new_folded TYPE integer USING folded, DROP COLUMN folded,
    ALTER COLUMN new_head TYPE integer USING head, DROP COLUMN head,
    ALTER COLUMN new_finished TYPE integer USING finished, DROP COLUMN finished;
ALTER TABLE noetl.execution RENAME COLUMN new_state TO state;
ALTER TABLE noetl.execution RENAME COLUMN new_folded TO folded;
ALTER TABLE noetl.execution RENAME COLUMN new_head TO head;
ALTER TABLE noetl.execution RENAME COLUMN new_finished TO finished;
ALTER TABLE noetl.execution
    ALTER COLUMN state SET NOT NULL,
    ALTER COLUMN folded SET DEFAULT 0, ALTER COLUMN folded SET NOT NULL,
    ALTER COLUMN head SET DEFAULT 0, ALTER COLUMN head SET NOT NULL,
    ALTER COLUMN finished SET DEFAULT 0, ALTER COLUMN finished SET NOT NULL;
ALTER TABLE noetl.schedule ALTER COLUMN input_payload DROP DEFAULT;
ALTER TABLE noetl.schedule ALTER COLUMN input_payload TYPE json;
ALTER TABLE noetl.schedule ALTER COLUMN input_payload SET DEFAULT '{}';

-- Who started what, the newest first.
CREATE INDEX execution_principal ON noetl.execution ((principal ->> 'name'), execution_id) WHERE principal IS NOT NULL;

-- The transaction that wrote the event. A reader of all events that stops at the oldest transaction still running, and
-- goes on from there, misses none that commits late. Null: written before there was the column, and committed long ago.
ALTER TABLE noetl.event ADD COLUMN transaction_id xid8;
ALTER TABLE noetl.event ALTER COLUMN transaction_id SET DEFAULT pg_current_xact_id();

-- Leases that ran out: [{worker, delivery, claimed_at, lease_until}], the last few. The next holder is told, and reports them.
ALTER TABLE noetl.command ADD COLUMN lost json, ADD COLUMN claimed_at timestamptz,
    -- for the choice among those that wait: which playbook it is of, by a hash of its path, and what that weighs
    ADD COLUMN playbook integer NOT NULL DEFAULT 0, ADD COLUMN weight smallint NOT NULL DEFAULT 10;

-- Executions that the engine could not decide about. `facts` came and have no place in the log: [{type, step, generation,
-- command, at, payload}], the one that could not be decided first; they are taken in anew when it is tried again.
CREATE TABLE noetl.quarantine (
    execution_id bigint PRIMARY KEY,
    -- of the event that ended it
    seq integer NOT NULL,
    at timestamptz NOT NULL,
    error json NOT NULL,
    facts json NOT NULL
);

-- Of two leases of a command the later one has the greater fence: whoever is told of both goes by that. Numbers that a
-- session keeps for itself come out later than greater ones of another; those kept by now are dropped with this.
ALTER SEQUENCE noetl.fence CACHE 1;

-- For a fair choice among playbooks, and executions of each: in an order in which their ids, that begin with their time, are
-- spread evenly.
CREATE INDEX command_waiting ON noetl.command (pool, playbook, hashint8(execution_id), execution_id, issued_at, seq)
    INCLUDE (weight) WHERE status = 'pending';

-- Event partitions by month of the execution's start, which its id begins with. Rows that came into the default because
-- nobody had made theirs are moved, unless they are many: a table cannot be attached while the default holds its rows.
CREATE FUNCTION noetl.create_partitions(at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz := date_trunc('month', at, 'UTC');
    first bigint;
    last bigint;
    name text;
    misplaced bigint;
BEGIN
    -- before anything is looked at: whoever waits here holds up nobody
    PERFORM pg_advisory_xact_lock(4215077392);
    FOR i IN -1..2 LOOP
        first := noetl.id_of(month + make_interval(months => i));
        last := noetl.id_of(month + make_interval(months => i + 1));
        name := 'event_' || to_char((month + make_interval(months => i)) AT TIME ZONE 'UTC', 'YYYY_MM');
        -- not to_regclass: it may know only what was there before we waited
        CONTINUE WHEN EXISTS (SELECT FROM pg_class WHERE relnamespace = 'noetl'::regnamespace AND relname = name);
        -- the month before is of interest only for what it left behind
        CONTINUE WHEN i < 0 AND NOT EXISTS (
            SELECT FROM noetl.event_default WHERE execution_id >= first AND execution_id < last);
        SELECT count(*) INTO misplaced FROM (
            SELECT FROM noetl.event_default WHERE execution_id >= first AND execution_id < last LIMIT 200001) few;
        IF misplaced > 200000 THEN
            RAISE WARNING 'noetl.event_default holds more than 200000 events of %: they stay there', name;
            CONTINUE;
        END IF;
        IF misplaced > 0 THEN
            LOCK TABLE noetl.event_default IN ACCESS EXCLUSIVE MODE;
        END IF;
        EXECUTE format('CREATE TABLE noetl.%I (LIKE noetl.event INCLUDING ALL)', name);
        EXECUTE format(
            'WITH moved AS (DELETE FROM noetl.event_default WHERE execution_id >= %s AND execution_id < %s RETURNING *)
             INSERT INTO noetl.%I SELECT * FROM moved', first, last, name);
        EXECUTE format('ALTER TABLE noetl.event ATTACH PARTITION noetl.%I FOR VALUES FROM (%s) TO (%s)', name, first, last);
    END LOOP;
END $$;
SELECT noetl.create_partitions(now());

-- As the release before calls it.
CREATE OR REPLACE FUNCTION noetl.ensure_partitions(at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM noetl.note_older_release();
    PERFORM noetl.create_partitions(at);
END $$;

-- One execution's part of a commit; see `noetl.commit`.
CREATE TYPE noetl.part AS (
    id bigint, expect integer, "row" json, head integer, status text, finished integer, state json, result json, error json,
    ended float8, state_version smallint
);

-- One transaction for any number of executions, each whole or not at all. Its plans are made while the tables are small and
-- kept while they grow: they must go from the few rows given to their index entries, hence the settings, here and below.
-- executions  [{id, expect, row?, head, status, finished, state?, result?, error?, ended?}]; row: insert; expect: compare-and-set
-- events      [{id, seq, cause, type, step, generation, command, at, payload}], at in ms
-- closes      [{id, command, fence, worker}]: each must be the current holder, or the whole execution is refused; fences are
--             small numbers in a row, which can be guessed, so that one is good in the hands of its worker alone. A timer
--             is held by nobody: null
-- commands    [{id, command, step, generation, kind, attempt, pool, playbook?, weight?, status, seq, worker, lease, due}],
--             lease in s, due in ms
-- taken       [{id, inbox}]: facts of the inbox that stand in the log now
-- appends     [{from, id, type, step, generation, at, payload}]: a fact for another execution's inbox, if `from` commits
-- quarantined [{id, seq, at, error, facts} or {id}]: into quarantine, with the inbox behind its facts; or out of it, all of
--             them back into the inbox
-- Returns {good: [id], claimed: [[id, command, fence, lease_until]], appended: [id]}.
CREATE FUNCTION noetl.commit(
    executions json, events json, closes json, commands json, stages json, frames json, refs json,
    taken json, appends json, quarantined json
) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    parts noetl.part[];
    good bigint[];
    direct bigint[];
    fresh bigint[];
    over bigint[];
    claimed json := '[]';
    appended json := '[]';
BEGIN
    -- read once: each reading parses the whole text
    SELECT array_agg(x) INTO parts FROM json_populate_recordset(NULL::noetl.part, executions) x;

    WITH held AS (
        SELECT e.execution_id, e.head, e.direct_worker FROM noetl.execution e
        WHERE e.execution_id = ANY (ARRAY(SELECT x.id FROM unnest(parts) x))
        ORDER BY e.execution_id FOR UPDATE
    )
    SELECT coalesce(array_agg(held.execution_id), '{}'),
        array_agg(held.execution_id) FILTER (WHERE held.direct_worker IS NOT NULL)
    INTO good, direct
    FROM held JOIN unnest(parts) x ON x.id = held.execution_id AND x.expect = held.head;
    IF direct IS NOT NULL THEN
        PERFORM noetl.materialise(direct);
    END IF;

    -- whose commands are all to go, and so to be locked with those that are closed
    SELECT coalesce(array_agg(x.id), '{}') INTO over FROM unnest(parts) x WHERE x.ended IS NOT NULL AND x.id = ANY (good);

    IF json_array_length(closes) > 0 OR over <> '{}' THEN
        PERFORM 1 FROM (
            SELECT x.id, x.command FROM json_to_recordset(closes) AS x(id bigint, command text) WHERE x.id = ANY (good)
            UNION
            SELECT o.execution_id, o.command_id FROM noetl.command o WHERE o.execution_id = ANY (over) AND o.status <> 'dead'
            ORDER BY 1, 2
        ) named CROSS JOIN LATERAL (
            SELECT FROM noetl.command c WHERE c.execution_id = named.id AND c.command_id = named.command FOR UPDATE
        ) locked;
        -- looked up once for each command, not for each command and execution
        SELECT coalesce(array_agg(g), '{}') INTO good FROM unnest(good) g WHERE g <> ALL (ARRAY(
            SELECT x.id FROM json_to_recordset(closes) AS x(id bigint, command text, fence bigint, worker text)
            WHERE x.id = ANY (good) AND (
                SELECT c.fence = x.fence AND c.status IN ('claimed', 'timer') AND c.worker IS NOT DISTINCT FROM x.worker
                FROM noetl.command c WHERE c.execution_id = x.id AND c.command_id = x.command
            ) IS NOT TRUE));
        DELETE FROM noetl.command WHERE ctid = ANY (ARRAY(
            SELECT (SELECT c.ctid FROM noetl.command c WHERE c.execution_id = x.id AND c.command_id = x.command)
            FROM json_to_recordset(closes) AS x(id bigint, command text) WHERE x.id = ANY (good)));
    END IF;

    UPDATE noetl.execution e SET
        head = x.head, status = x.status, finished = x.finished,
        state = coalesce(x.state, e.state), folded = CASE WHEN x.state IS NULL THEN e.folded ELSE x.head END,
        state_version = CASE WHEN x.state IS NULL THEN e.state_version ELSE coalesce(x.state_version, 1) END,
        result = x.result, error = x.error, ended_at = to_timestamp(x.ended / 1000.0)
    FROM unnest(parts) x WHERE e.execution_id = x.id AND e.execution_id = ANY (good);

    IF EXISTS (SELECT FROM unnest(parts) x WHERE x."row" IS NOT NULL) THEN
        WITH added AS (
            INSERT INTO noetl.execution (
                execution_id, catalog_id, path, version, plan_hash, parent_execution_id, parent, depth, status, head, folded,
                state, state_version, finished, workload, principal, result, error, idempotency_key, request_hash, created_at,
                ended_at)
            SELECT x.id, r.catalog_id, r.path, r.version, r.plan_hash, r.parent_execution_id, r.parent, r.depth, x.status, x.head,
                x.head, x.state, coalesce(x.state_version, 1), x.finished, r.workload, r.principal, x.result, x.error,
                r.idempotency_key, r.request_hash, to_timestamp(r.at / 1000.0), to_timestamp(x.ended / 1000.0)
            FROM unnest(parts) x
            CROSS JOIN json_to_record(x."row") AS r(
                catalog_id bigint, path text, version integer, plan_hash text, parent_execution_id bigint, parent json,
                depth integer, workload json, principal json, idempotency_key text, request_hash text, at float8)
            WHERE x."row" IS NOT NULL
            -- a child begins only with the parent's commit that starts it
            AND (r.parent_execution_id IS NULL OR r.parent_execution_id = ANY (good))
            ON CONFLICT DO NOTHING
            RETURNING execution_id
        )
        SELECT coalesce(array_agg(execution_id), '{}') INTO fresh FROM added;
        IF EXISTS (
            SELECT FROM unnest(parts) x
            WHERE (x."row"->>'parent_execution_id')::bigint = ANY (good) AND x.id <> ALL (fresh)
        ) THEN
            RAISE EXCEPTION 'a child execution id is taken' USING ERRCODE = 'unique_violation';
        END IF;
        good := good || fresh;
    END IF;

    INSERT INTO noetl.event (execution_id, seq, cause, type, step, generation, command_id, at, payload)
    SELECT x.id, x.seq, x.cause, x.type, x.step, x.generation, x.command, to_timestamp(x.at / 1000.0), x.payload
    FROM json_to_recordset(events) AS x(
        id bigint, seq integer, cause integer, type text, step text, generation integer, command text, at float8, payload json)
    WHERE x.id = ANY (good);

    IF over <> '{}' THEN
        DELETE FROM noetl.command c
        WHERE c.execution_id = ANY (over) AND c.execution_id = ANY (good) AND c.status <> 'dead';
    END IF;

    IF json_array_length(commands) > 0 THEN
        WITH issued AS (
            INSERT INTO noetl.command (
                execution_id, command_id, step, generation, kind, attempt, pool, playbook, weight, status, seq, worker, fence,
                lease_until, claimed_at, deliveries, due_at, issued_at)
            SELECT x.id, x.command, x.step, x.generation, x.kind, x.attempt, x.pool, coalesce(x.playbook, 0),
                coalesce(x.weight, 10), x.status, x.seq, x.worker,
                CASE WHEN x.status = 'claimed' THEN nextval('noetl.fence') ELSE 0 END,
                now() + make_interval(secs => x.lease), CASE WHEN x.status = 'claimed' THEN now() END,
                CASE WHEN x.status = 'claimed' THEN 1 ELSE 0 END, to_timestamp(x.due / 1000.0), now()
            FROM json_to_recordset(commands) AS x(
                id bigint, command text, step text, generation integer, kind text, attempt integer, pool text,
                playbook integer, weight smallint, status text, seq integer, worker text, lease float8, due float8)
            WHERE x.id = ANY (good)
            ON CONFLICT DO NOTHING
            RETURNING execution_id, command_id, status, fence, lease_until
        )
        SELECT coalesce(json_agg(json_build_array(execution_id::text, command_id, fence, lease_until)), '[]')
        INTO claimed FROM issued WHERE status = 'claimed';
    END IF;

    IF json_array_length(stages) > 0 THEN
        INSERT INTO noetl.stage (execution_id, step, generation, seq, count, status)
        SELECT x.id, x.step, x.generation, x.seq, x.count, x.status
        FROM json_to_recordset(stages) AS x(id bigint, step text, generation integer, seq integer, count integer, status text)
        WHERE x.id = ANY (good)
        ON CONFLICT (execution_id, step, generation) DO UPDATE SET status = excluded.status;
    END IF;

    IF json_array_length(frames) > 0 THEN
        INSERT INTO noetl.frame (execution_id, step, generation, start_item, end_item, seq, ok, failed)
        SELECT x.id, x.step, x.generation, x.start, x."end", x.seq, x.ok, x.failed
        FROM json_to_recordset(frames) AS x(
            id bigint, step text, generation integer, start integer, "end" integer, seq integer, ok integer, failed integer)
        WHERE x.id = ANY (good);
    END IF;

    IF json_array_length(refs) > 0 THEN
        INSERT INTO noetl.result_ref (ref, execution_id, step, store, key, bytes, sha256, content_type, scope, expires_at)
        SELECT x.ref, x.id, x.step, x.store, x.key, x.bytes, x.sha256, x.content_type, x.scope, x.expires_at
        FROM json_to_recordset(refs) AS x(
            ref text, id bigint, step text, store text, key text, bytes bigint, sha256 text, content_type text, scope text,
            expires_at timestamptz)
        WHERE x.id = ANY (good)
        ON CONFLICT DO NOTHING;
    END IF;

    IF json_array_length(taken) > 0 THEN
        DELETE FROM noetl.inbox i USING json_to_recordset(taken) AS x(id bigint, inbox bigint)
        WHERE i.execution_id = x.id AND i.inbox_id = x.inbox AND i.execution_id = ANY (good);
    END IF;

    IF json_array_length(appends) > 0 THEN
        WITH added AS (
            INSERT INTO noetl.inbox (execution_id, type, step, generation, at, payload)
            SELECT x.id, x.type, x.step, x.generation, to_timestamp(x.at / 1000.0), x.payload
            FROM json_to_recordset(appends) AS x(
                "from" bigint, id bigint, type text, step text, generation integer, at float8, payload json)
            WHERE x."from" = ANY (good)
              AND (SELECT e.status FROM noetl.execution e WHERE e.execution_id = x.id) = 'RUNNING'
            RETURNING execution_id
        )
        SELECT coalesce(json_agg(DISTINCT execution_id::text), '[]') INTO appended FROM added;
    END IF;

    IF json_array_length(quarantined) > 0 THEN
        WITH freed AS (
            DELETE FROM noetl.quarantine q USING json_to_recordset(quarantined) AS x(id bigint, facts json)
            WHERE q.execution_id = x.id AND x.facts IS NULL AND x.id = ANY (good)
            RETURNING q.execution_id, q.facts
        )
        INSERT INTO noetl.inbox (execution_id, type, step, generation, command_id, at, payload)
        SELECT freed.execution_id, f.type, f.step, f.generation, f.command, to_timestamp(f.at / 1000.0), f.payload
        FROM freed JOIN noetl.execution e ON e.execution_id = freed.execution_id AND e.status = 'RUNNING'
        CROSS JOIN json_to_recordset(freed.facts) AS f(
            type text, step text, generation integer, command text, at float8, payload json);
        WITH apart AS (
            SELECT x.* FROM json_to_recordset(quarantined) AS x(id bigint, seq integer, at float8, error json, facts json)
            WHERE x.facts IS NOT NULL AND x.id = ANY (good)
        ), waiting AS (
            DELETE FROM noetl.inbox i USING apart WHERE i.execution_id = apart.id
            RETURNING i.execution_id, i.inbox_id, json_build_object('type', i.type, 'step', i.step, 'generation', i.generation,
                'command', i.command_id, 'at', (extract(epoch FROM i.at) * 1000)::bigint, 'payload', i.payload) AS fact
        )
        INSERT INTO noetl.quarantine (execution_id, seq, at, error, facts)
        SELECT apart.id, apart.seq, to_timestamp(apart.at / 1000.0), apart.error, (
            SELECT coalesce(json_agg(kept.fact ORDER BY kept.later, kept.place), '[]') FROM (
                SELECT g.fact, g.place, false AS later FROM json_array_elements(apart.facts) WITH ORDINALITY AS g(fact, place)
                UNION ALL SELECT w.fact, w.inbox_id, true FROM waiting w WHERE w.execution_id = apart.id) kept)
        FROM apart
        ON CONFLICT (execution_id) DO UPDATE SET
            seq = excluded.seq, at = excluded.at, error = excluded.error, facts = excluded.facts;
    END IF;

    RETURN json_build_object(
        'good', (SELECT coalesce(json_agg(g::text), '[]') FROM unnest(good) g), 'claimed', claimed, 'appended', appended);
END $$;

-- As the release before calls it.
CREATE OR REPLACE FUNCTION noetl.commit(
    executions jsonb, events jsonb, closes jsonb, commands jsonb, stages jsonb, frames jsonb, refs jsonb,
    taken jsonb, appends jsonb
) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM noetl.note_older_release();
    RETURN noetl.commit(
        executions::json, events::json, closes::json, commands::json, stages::json, frames::json, refs::json, taken::json,
        appends::json, '[]'::json)::jsonb;
END $$;

-- Outcomes without their decision, for a reporter that has lost the race for the execution's row: the commands are closed
-- and their facts put into the inbox, without touching that row unless a lease stands in it. Of several reports of one command
-- the one whose fence is good counts, and of several such the first.
-- facts  [{id, command, fence, worker, type, step, generation, at, payload, refs}]; returns [[id, command, fence]] of those
-- accepted.
CREATE FUNCTION noetl.append(facts json) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    accepted json;
BEGIN
    PERFORM noetl.materialise(noetl.held_directly(ARRAY(
        SELECT (x.id, x.command, x.fence, x.worker)::noetl.holding
        FROM json_to_recordset(facts) AS x(id bigint, command text, fence bigint, worker text))));
    PERFORM 1 FROM (
        SELECT DISTINCT x.id, x.command FROM json_to_recordset(facts) AS x(id bigint, command text) ORDER BY 1, 2
    ) named CROSS JOIN LATERAL (
        SELECT FROM noetl.command c WHERE c.execution_id = named.id AND c.command_id = named.command FOR UPDATE
    ) locked;
    WITH reported AS (
        SELECT DISTINCT ON (x.id, x.command, x.fence, x.worker) x.*
        FROM ROWS FROM (json_to_recordset(facts) AS (
            id bigint, command text, fence bigint, type text, step text, generation integer, at float8, payload json,
            refs json, worker text)
        ) WITH ORDINALITY AS x(id, command, fence, type, step, generation, at, payload, refs, worker, place)
        ORDER BY x.id, x.command, x.fence, x.worker, x.place
    ), good AS (
        SELECT x.* FROM reported x WHERE (
            SELECT c.fence = x.fence AND c.status = 'claimed' AND c.worker = x.worker
            FROM noetl.command c WHERE c.execution_id = x.id AND c.command_id = x.command)
    ), closed AS (
        DELETE FROM noetl.command WHERE ctid = ANY (ARRAY(
            SELECT (SELECT c.ctid FROM noetl.command c WHERE c.execution_id = x.id AND c.command_id = x.command)
            FROM good x))
    ), added AS (
        INSERT INTO noetl.inbox (execution_id, type, step, generation, command_id, at, payload)
        SELECT id, type, step, generation, command, to_timestamp(at / 1000.0), payload FROM good ORDER BY place
    ), stored AS (
        INSERT INTO noetl.result_ref (
            ref, execution_id, step, store, key, bytes, sha256, content_type, scope, expires_at)
        SELECT r.ref, good.id, r.step, r.store, r.key, r.bytes, r.sha256, r.content_type, r.scope, r.expires_at
        FROM good CROSS JOIN json_to_recordset(good.refs) AS r(
            ref text, step text, store text, key text, bytes bigint, sha256 text, content_type text, scope text,
            expires_at timestamptz)
        ORDER BY good.place ON CONFLICT DO NOTHING
    )
    SELECT coalesce(json_agg(json_build_array(id::text, command, fence)), '[]') INTO accepted FROM good;
    RETURN accepted;
END $$;

-- As the release before calls it: it knows no fence in the answer.
CREATE OR REPLACE FUNCTION noetl.append(facts jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    PERFORM noetl.note_older_release();
    RETURN (
        SELECT coalesce(jsonb_agg(jsonb_build_array(x->0, x->1)), '[]')
        FROM jsonb_array_elements(noetl.append(facts::json)::jsonb) x);
END $$;

-- A command with what it was issued with, and for a frame the opening of its loop. `lost`: who had it to no end.
CREATE TYPE noetl.leased AS (
    execution_id text, command_id text, fence bigint, lease_until timestamptz, deliveries integer, seq integer, step text,
    generation integer, payload json, opening json, lost json
);

CREATE FUNCTION noetl.leased(taken noetl.command[]) RETURNS SETOF noetl.leased LANGUAGE sql STABLE SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
    SELECT t.execution_id::text, t.command_id, t.fence, t.lease_until, t.deliveries, t.seq, t.step, t.generation,
        issued.payload, opened.payload, t.lost
    FROM unnest(taken) t
    CROSS JOIN LATERAL (
        SELECT e.payload FROM noetl.event e WHERE e.execution_id = t.execution_id AND e.seq = t.seq OFFSET 0
    ) issued
    LEFT JOIN LATERAL (
        SELECT e.payload FROM noetl.event e WHERE e.execution_id = t.execution_id AND e.seq = (
            SELECT s.seq FROM noetl.stage s
            WHERE s.execution_id = t.execution_id AND s.step = t.step AND s.generation = t.generation)
        OFFSET 0
    ) opened ON t.kind = 'frame'
    ORDER BY t.issued_at, t.execution_id, t.seq
$$;

CREATE OR REPLACE FUNCTION noetl.orders(taken noetl.command[]) RETURNS SETOF noetl.claimed LANGUAGE sql STABLE AS $$
    SELECT l.execution_id, l.command_id, l.fence, l.lease_until, l.deliveries, l.seq, l.step, l.generation, l.payload::jsonb,
        l.opening::jsonb
    FROM noetl.leased(taken) l
$$;

-- Of `room` commands, how many each execution is given that waits: `books` their playbooks and `weights` what these weigh,
-- those first in turn in front, `idle` whether nothing of it runs.
--
-- First each of which nothing runs is given one, and what is left is divided among all; if the room is not enough for that,
-- it is divided among these alone. It is divided among the playbooks by weight, and within a playbook evenly, with what is
-- left over for those in front, and last for those that were given one first. Where a playbook's part is no whole number,
-- `draw` tells whether it is rounded up: a place on a circle of 2^32, on which each has an arc as long as its part.
CREATE FUNCTION noetl.shares(books integer[], weights smallint[], idle boolean[], room integer, draw bigint)
RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    resting integer := coalesce(cardinality(array_positions(idle, true)), 0);
    crowded boolean := resting > room;
    parts integer := CASE WHEN crowded THEN room ELSE room - resting END;
BEGIN
    RETURN (
        WITH executions AS (
            SELECT x.*, x.idle OR NOT crowded AS takes,
                row_number() OVER (PARTITION BY x.book, x.idle OR NOT crowded ORDER BY x.idle, x.place) AS rank
            FROM unnest(books, weights, idle) WITH ORDINALITY AS x(book, weight, idle, place)
        ), playbooks AS (
            SELECT b.*, sum(b.weight) OVER (ORDER BY b.book)::bigint AS upto, sum(b.weight) OVER ()::bigint AS total
            FROM (
                SELECT e.book, count(*) AS members, max(e.weight)::bigint AS weight FROM executions e WHERE e.takes
                GROUP BY e.book
            ) b
        ), divided AS (
            SELECT p.book, p.members, (p.upto * parts + ((draw * p.total) >> 32)) / p.total
                - ((p.upto - p.weight) * parts + ((draw * p.total) >> 32)) / p.total AS given
            FROM playbooks p
        )
        SELECT array_agg(CASE
            WHEN e.takes THEN
                (e.idle AND NOT crowded)::integer + d.given / d.members + (e.rank <= d.given % d.members)::integer
            ELSE 0
        END ORDER BY e.place)
        FROM executions e LEFT JOIN divided d USING (book)
    );
END $$;

-- Each of so many claims in a row draws another place on the circle, and they lie as evenly as may be: multiples of the
-- golden section. So an arc is met at the latest after twice as many claims as it would take to go around in its steps.
CREATE SEQUENCE noetl.draw AS integer CYCLE;

-- Pending commands of a pool, at most so many, each locked and taken, so that neither a long loop holds up anybody nor many
-- runs of one playbook: one of each playbook of which nothing runs, if there are others, and then `noetl.shares` of each
-- execution. What another is claiming is passed by, and nothing is locked that is not taken: whoever comes meanwhile finds
-- the rest.
--
-- Looked at are 64 executions, as many of each playbook, each time from a random place on, of each playbook those first of
-- which the fewest commands run, and of these those whose first has waited longest; and the next ones after them only if
-- all that they have is taken. What runs is told by the last 1,000 leases. By the indexes alone, however much waits or runs.
CREATE FUNCTION noetl.fair(pool_name text, most integer) RETURNS tid[] LANGUAGE plpgsql
-- whatever is known of the table: its rows come in the order of `command_waiting`, and no other index gives them unsorted
SET enable_seqscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
DECLARE
    wanted tid[] := '{}';
    -- where the circle of playbooks begins, and where those of their executions do: were it the same, a playbook would be
    -- met from near its own place alone, and so only those of its executions whose place is near. Each circle is gone round
    -- in two laps: from there to its end, and from its beginning to there
    start integer := floor(random() * 4294967296 - 2147483648);
    origin integer := floor(random() * 4294967296 - 2147483648);
    -- the playbook seen last
    seen bigint := start;
    lap integer := 0;
    -- the playbooks that are looked at, and for each the place of the execution seen last, its id, and the lap
    playbooks integer[];
    places integer[];
    lasts bigint[];
    laps integer[] := '{}';
    quota integer;
    head record;
    -- many of them at a stroke: how many rows are read for them, what of these is the first of its execution, and whether
    -- that is each so far
    asked integer;
    heads record;
    dense boolean;
    -- the executions that are looked at
    ids bigint[];
    books integer[];
    weights smallint[];
    ages timestamptz[];
    -- whether they are of more than one playbook
    mixed boolean;
    draw bigint;
    -- which of them may have more, in turn, and of which nothing runs
    waiting integer[];
    resting integer[];
    -- the playbooks of which anything runs
    busy integer[];
    -- what each is given now, and what it was given before
    shares integer[];
    had integer[];
    rest integer[];
    room integer;
    i integer;
    -- what was locked now, whose each is, and how many each has got
    got tid[];
    holders integer[];
    counts integer[];
BEGIN
    WHILE most > 0 AND cardinality(wanted) = 0 LOOP
        IF 2 = ALL (laps) THEN
            playbooks := '{}';
            WHILE lap < 2 AND cardinality(playbooks) < 64 LOOP
                SELECT c.playbook INTO head FROM noetl.command c
                WHERE c.status = 'pending' AND c.pool = pool_name AND c.playbook > seen ORDER BY c.playbook LIMIT 1;
                IF FOUND AND (lap = 0 OR head.playbook <= start) THEN
                    seen := head.playbook;
                    playbooks := playbooks || head.playbook;
                ELSE
                    lap := lap + 1;
                    seen := -2147483649;
                END IF;
            END LOOP;
            EXIT WHEN cardinality(playbooks) = 0;
            places := array_fill(origin, ARRAY[cardinality(playbooks)]);
            lasts := array_fill(-1::bigint, ARRAY[cardinality(playbooks)]);
            laps := array_fill(0, ARRAY[cardinality(playbooks)]);
        END IF;
        ids := '{}';
        books := '{}';
        weights := '{}';
        ages := '{}';
        -- as many of each, and what some leave then of those that have more
        FOR k IN 1..2 * cardinality(playbooks) LOOP
            i := (k - 1) % cardinality(playbooks) + 1;
            quota := ceil((64 - cardinality(ids))::float8 / greatest(1, cardinality(playbooks) - k + 1));
            dense := true;
            WHILE quota > 0 AND laps[i] < 2 LOOP
                IF NOT dense OR quota = 1 THEN
                    -- the next execution, however many commands the one before it has
                    SELECT hashint8(c.execution_id) AS place, c.execution_id, c.weight, c.issued_at INTO head
                    FROM noetl.command c
                    WHERE c.status = 'pending' AND c.pool = pool_name AND c.playbook = playbooks[i]
                      AND (hashint8(c.execution_id), c.execution_id) > (places[i], lasts[i])
                    ORDER BY hashint8(c.execution_id), c.execution_id, c.issued_at, c.seq LIMIT 1;
                    IF FOUND AND (laps[i] = 0 OR head.place < origin) THEN
                        places[i] := head.place;
                        lasts[i] := head.execution_id;
                        ids := ids || head.execution_id;
                        books := books || playbooks[i];
                        weights := weights || head.weight;
                        ages := ages || head.issued_at;
                        quota := quota - 1;
                        CONTINUE;
                    END IF;
                ELSE
                    -- at a stroke, as long as each has but one
                    asked := quota;
                    SELECT count(*) AS rows, count(*) FILTER (WHERE c.first)::integer AS firsts,
                        array_agg(c.execution_id) FILTER (WHERE c.first) AS ids,
                        array_agg(c.weight) FILTER (WHERE c.first) AS weights,
                        array_agg(c.issued_at) FILTER (WHERE c.first) AS ages
                    INTO heads FROM (
                        SELECT n.*, n.execution_id IS DISTINCT FROM lag(n.execution_id) OVER (
                            ORDER BY hashint8(n.execution_id), n.execution_id, n.issued_at, n.seq) AS first
                        FROM (
                            SELECT p.execution_id, p.weight, p.issued_at, p.seq FROM noetl.command p
                            WHERE p.status = 'pending' AND p.pool = pool_name AND p.playbook = playbooks[i]
                              AND (hashint8(p.execution_id), p.execution_id) > (places[i], lasts[i])
                              AND hashint8(p.execution_id) < CASE laps[i] WHEN 0 THEN 2147483648 ELSE origin END
                            ORDER BY hashint8(p.execution_id), p.execution_id, p.issued_at, p.seq LIMIT asked
                        ) n
                    ) c;
                    dense := heads.firsts = heads.rows;
                    IF heads.firsts > 0 THEN
                        lasts[i] := heads.ids[heads.firsts];
                        places[i] := hashint8(lasts[i]);
                        ids := ids || heads.ids;
                        books := books || array_fill(playbooks[i], ARRAY[heads.firsts]);
                        weights := weights || heads.weights;
                        ages := ages || heads.ages;
                        quota := quota - heads.firsts;
                    END IF;
                    -- fewer rows than were asked for are the last of the lap
                    CONTINUE WHEN heads.rows = asked;
                END IF;
                laps[i] := laps[i] + 1;
                places[i] := -2147483648;
                lasts[i] := -1;
            END LOOP;
        END LOOP;
        mixed := books[1] <> ANY (books);
        had := array_fill(0, ARRAY[cardinality(ids)]);
        waiting := CASE cardinality(ids) WHEN 0 THEN '{}' ELSE '{1}' END;
        IF cardinality(ids) > 1 THEN
            WITH running AS (
                SELECT c.playbook, c.execution_id, count(*) AS commands FROM (
                    SELECT l.playbook, l.execution_id FROM noetl.command l
                    WHERE l.status = 'claimed' AND l.lease_until > '-infinity' ORDER BY l.lease_until DESC LIMIT 1000
                ) c GROUP BY c.playbook, c.execution_id
            )
            SELECT array_agg(h.i ORDER BY coalesce(r.commands, 0), h.age, h.id),
                array_agg(h.i) FILTER (WHERE r.commands IS NULL), (SELECT array_agg(DISTINCT playbook) FROM running)
            INTO waiting, resting, busy
            FROM unnest(ids, books, ages) WITH ORDINALITY AS h(id, book, age, i)
            LEFT JOIN running r ON r.execution_id = h.id AND r.playbook = h.book;
        END IF;
        IF mixed THEN
            draw := nextval('noetl.draw') * 2654435769 & 4294967295;
            -- an execution with a direct lease has nothing that waits: only its playbook counts
            busy := busy || ARRAY(SELECT b.book FROM (SELECT DISTINCT unnest(books) AS book) b WHERE EXISTS (
                SELECT FROM noetl.execution e WHERE e.direct_playbook = b.book AND e.direct_worker IS NOT NULL OFFSET 0));
            -- only beside others are those first of which nothing runs
            busy := CASE WHEN books && busy THEN busy ELSE books END;
        END IF;
        WHILE cardinality(waiting) > 0 AND cardinality(wanted) < most LOOP
            room := most - cardinality(wanted);
            IF NOT mixed THEN
                -- as `noetl.shares`, with more rounds; and of this there is much more
                shares := array_fill(greatest(1, room / cardinality(waiting)), ARRAY[cardinality(waiting)]);
            ELSIF NOT books <@ busy THEN
                -- one of each playbook of which nothing runs
                shares := ARRAY(
                    SELECT (books[w.i] <> ALL (busy)
                        AND row_number() OVER (PARTITION BY books[w.i] ORDER BY w.turn) = 1)::integer
                    FROM unnest(waiting) WITH ORDINALITY AS w(i, turn) ORDER BY w.turn);
                busy := books;
            ELSE
                shares := noetl.shares(
                    ARRAY(SELECT books[w.i] FROM unnest(waiting) AS w(i)),
                    ARRAY(SELECT weights[w.i] FROM unnest(waiting) AS w(i)),
                    ARRAY(SELECT coalesce(w.i = ANY (resting), false) FROM unnest(waiting) AS w(i)), room, draw);
            END IF;
            -- one after the other, and none once there is no room: nothing is locked that is not taken
            SELECT coalesce(array_agg(t.place), '{}'), coalesce(array_agg(t.i), '{}') INTO got, holders FROM (
                SELECT w.i, free.place FROM unnest(waiting, shares) AS w(i, share) CROSS JOIN LATERAL (
                    SELECT c.ctid AS place FROM noetl.command c
                    WHERE c.status = 'pending' AND c.pool = pool_name AND c.playbook = books[w.i]
                      AND hashint8(c.execution_id) = hashint8(ids[w.i]) AND c.execution_id = ids[w.i]
                    -- its own locks hold up nobody: those it had before come first again
                    ORDER BY c.issued_at, c.seq OFFSET had[w.i] LIMIT w.share FOR UPDATE SKIP LOCKED
                ) free
                WHERE w.share > 0 LIMIT room
            ) t;
            wanted := wanted || got;
            EXIT WHEN cardinality(wanted) >= most;
            counts := array_fill(0, ARRAY[cardinality(ids)]);
            FOREACH i IN ARRAY holders LOOP
                counts[i] := counts[i] + 1;
            END LOOP;
            rest := '{}';
            FOR k IN 1..cardinality(waiting) LOOP
                i := waiting[k];
                CONTINUE WHEN counts[i] < shares[k];
                had[i] := had[i] + shares[k];
                IF mixed AND shares[k] > 0 THEN
                    resting := array_remove(resting, i);
                END IF;
                rest := rest || i;
            END LOOP;
            waiting := rest;
            IF mixed THEN
                waiting := ARRAY(SELECT r.i FROM unnest(rest) WITH ORDINALITY AS r(i, turn) ORDER BY had[r.i], r.turn);
            END IF;
        END LOOP;
    END LOOP;
    RETURN wanted;
END $$;

-- Lease pending commands of a pool: those named by `keys` [{execution_id, command_id}], or with null whatever waits, in turn
-- among executions. Functions, so that their plans are kept behind a pooler too.
CREATE FUNCTION noetl.lease(worker_id text, pool_name text, lease float8, most integer, keys json)
RETURNS SETOF noetl.leased LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wanted tid[];
    taken noetl.command[];
    -- not said in the query, where it would lead to an index of all that is pending
    pending CONSTANT text := 'pending';
BEGIN
    IF keys IS NULL THEN
        wanted := noetl.fair(pool_name, most);
    ELSE
        SELECT array_agg(w.place) INTO wanted FROM (
            SELECT free.place FROM (
                SELECT DISTINCT k.execution_id, k.command_id
                FROM json_to_recordset(keys) AS k(execution_id bigint, command_id text)
            ) named CROSS JOIN LATERAL (
                SELECT c.ctid AS place FROM noetl.command c
                WHERE c.execution_id = named.execution_id AND c.command_id = named.command_id
                  AND c.status = pending AND c.pool = pool_name
                FOR UPDATE SKIP LOCKED
            ) free LIMIT most
        ) w;
    END IF;
    IF wanted IS NULL OR cardinality(wanted) = 0 THEN
        RETURN;
    END IF;
    WITH leased AS (
        UPDATE noetl.command c SET status = 'claimed', worker = worker_id, fence = nextval('noetl.fence'),
            lease_until = now() + make_interval(secs => lease), claimed_at = now(), deliveries = c.deliveries + 1
        WHERE c.ctid = ANY (wanted) RETURNING c
    )
    SELECT array_agg(c) INTO taken FROM leased;
    RETURN QUERY SELECT * FROM noetl.leased(taken);
END $$;

-- As the release before calls it.
CREATE OR REPLACE FUNCTION noetl.claim(worker_id text, pool_name text, lease float8, most integer, keys jsonb)
RETURNS SETOF noetl.claimed LANGUAGE plpgsql AS $$
BEGIN
    PERFORM noetl.note_older_release();
    RETURN QUERY
    SELECT l.execution_id, l.command_id, l.fence, l.lease_until, l.deliveries, l.seq, l.step, l.generation, l.payload::jsonb,
        l.opening::jsonb
    FROM noetl.lease(worker_id, pool_name, lease, most, keys::json) l;
END $$;

-- What a worker holds beside `holding` [{execution_id, command_id}], its leases prolonged.
CREATE FUNCTION noetl.holdings(worker_id text, lease float8, holding json) RETURNS SETOF noetl.leased LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wanted tid[];
    taken noetl.command[];
    claimed CONSTANT text := 'claimed';
BEGIN
    PERFORM noetl.materialise(ARRAY(
        SELECT e.execution_id FROM noetl.execution e
        WHERE e.direct_worker = worker_id AND NOT EXISTS (
            SELECT FROM json_to_recordset(holding) AS k(execution_id bigint, command_id text)
            WHERE k.execution_id = e.execution_id AND k.command_id = e.direct_command)));
    SELECT array_agg(locked.place) INTO wanted FROM (
        SELECT leased.execution_id, leased.command_id FROM (
            -- by the index of leases: an order by key would lead through the whole table
            SELECT c.execution_id, c.command_id FROM noetl.command c
            WHERE c.status = 'claimed' AND c.lease_until > '-infinity' AND c.worker = worker_id OFFSET 0
        ) leased WHERE NOT EXISTS (
            SELECT FROM json_to_recordset(holding) AS k(execution_id bigint, command_id text)
            WHERE k.execution_id = leased.execution_id AND k.command_id = leased.command_id)
        ORDER BY 1, 2
    ) named CROSS JOIN LATERAL (
        SELECT c.ctid AS place FROM noetl.command c
        WHERE c.execution_id = named.execution_id AND c.command_id = named.command_id
          AND c.status = claimed AND c.worker = worker_id
        FOR UPDATE
    ) locked;
    WITH prolonged AS (
        UPDATE noetl.command c SET lease_until = now() + make_interval(secs => lease)
        WHERE c.ctid = ANY (wanted) RETURNING c
    )
    SELECT array_agg(c) INTO taken FROM prolonged;
    IF taken IS NOT NULL THEN
        RETURN QUERY SELECT * FROM noetl.leased(taken);
    END IF;
END $$;

-- As the release before calls it.
CREATE OR REPLACE FUNCTION noetl.held(worker_id text, lease float8, holding jsonb) RETURNS SETOF noetl.claimed LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM noetl.note_older_release();
    RETURN QUERY
    SELECT l.execution_id, l.command_id, l.fence, l.lease_until, l.deliveries, l.seq, l.step, l.generation, l.payload::jsonb,
        l.opening::jsonb
    FROM noetl.holdings(worker_id, lease, holding::json) l;
END $$;

-- Locks those of `held` [{execution_id, command_id, fence}] that are still the worker's, and tells where they stand.
CREATE FUNCTION noetl.still_held(worker_id text, held json) RETURNS tid[] LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    found tid[];
    claimed CONSTANT text := 'claimed';
BEGIN
    SELECT array_agg(locked.place) INTO found FROM (
        SELECT DISTINCT k.execution_id, k.command_id, k.fence
        FROM json_to_recordset(held) AS k(execution_id bigint, command_id text, fence bigint) ORDER BY 1, 2
    ) named CROSS JOIN LATERAL (
        SELECT c.ctid AS place FROM noetl.command c
        WHERE c.execution_id = named.execution_id AND c.command_id = named.command_id
          AND c.fence = named.fence AND c.status = claimed AND c.worker = worker_id
        FOR UPDATE
    ) locked;
    RETURN found;
END $$;

-- Prolong the leases that are still the worker's, and name them.
CREATE FUNCTION noetl.extend(worker_id text, held json, lease float8)
RETURNS TABLE (id text, command text, held_fence bigint) LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    direct bigint[] := noetl.held_directly(ARRAY(
        SELECT (k.execution_id, k.command_id, k.fence, worker_id)::noetl.holding
        FROM json_to_recordset(held) AS k(execution_id bigint, command_id text, fence bigint)));
    wanted tid[] := noetl.still_held(worker_id, held);
BEGIN
    RETURN QUERY
    UPDATE noetl.execution e SET direct_lease = now() + make_interval(secs => lease) - e.direct_since
    WHERE e.execution_id = ANY (direct)
    RETURNING e.execution_id::text, e.direct_command, e.direct_fence;
    RETURN QUERY
    UPDATE noetl.command c SET lease_until = now() + make_interval(secs => lease) WHERE c.ctid = ANY (wanted)
    RETURNING c.execution_id::text, c.command_id, c.fence;
END $$;

-- Who had a command to no end: those of before, the last few, and its holder. Given back at that instant, or with null left
-- to its lease.
CREATE FUNCTION noetl.noted(held noetl.command, at timestamptz) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_agg(l.item ORDER BY l.place) FROM (
        SELECT item, place FROM json_array_elements(held.lost) WITH ORDINALITY AS old(item, place)
        WHERE json_array_length(held.lost) - place < 9
        UNION ALL
        SELECT json_strip_nulls(json_build_object('worker', held.worker, 'delivery', held.deliveries,
            'claimed_at', (extract(epoch FROM held.claimed_at) * 1000)::bigint,
            'lease_until', (extract(epoch FROM held.lease_until) * 1000)::bigint,
            'given_back_at', (extract(epoch FROM at) * 1000)::bigint)), 1000000) l
$$;

-- Give back what was claimed and not run to its end; of what had begun it is noted who had it.
CREATE FUNCTION noetl.release(worker_id text, held json)
RETURNS TABLE (id text, command text, its_pool text) LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wanted tid[];
BEGIN
    PERFORM noetl.materialise(noetl.held_directly(ARRAY(
        SELECT (k.execution_id, k.command_id, k.fence, worker_id)::noetl.holding
        FROM json_to_recordset(held) AS k(execution_id bigint, command_id text, fence bigint))));
    wanted := noetl.still_held(worker_id, held);
    RETURN QUERY
    UPDATE noetl.command c SET status = 'pending', worker = NULL, lease_until = NULL, deliveries = c.deliveries - 1,
        lost = CASE WHEN (c.execution_id, c.command_id, c.fence) IN (
            SELECT k.execution_id, k.command_id, k.fence
            FROM json_to_recordset(held) AS k(execution_id bigint, command_id text, fence bigint, begun boolean)
            WHERE k.begun)
        THEN noetl.noted(c, now()) ELSE c.lost END
    WHERE c.ctid = ANY (wanted)
    RETURNING c.execution_id::text, c.command_id, c.pool;
END $$;

-- Give back what workers hold beyond their lease, at most so many, those that ran out first, and of these what was
-- delivered fewer times than that; note who had it.
CREATE FUNCTION noetl.expire(most_deliveries integer, most integer)
RETURNS TABLE (id text, command text, its_pool text) LANGUAGE plpgsql
-- whatever is known of the table: leases come in the order of their index
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wanted tid[];
BEGIN
    PERFORM noetl.materialise(ARRAY(
        SELECT e.execution_id FROM noetl.execution e WHERE e.direct_worker IS NOT NULL AND e.direct_since + e.direct_lease < now()
        ORDER BY e.direct_since + e.direct_lease LIMIT most FOR UPDATE SKIP LOCKED));
    SELECT array_agg(w.place) INTO wanted FROM (
        SELECT c.ctid AS place FROM noetl.command c
        WHERE c.status = 'claimed' AND c.lease_until < now() AND c.deliveries < most_deliveries
        ORDER BY c.lease_until LIMIT most FOR UPDATE SKIP LOCKED
    ) w;
    RETURN QUERY
    UPDATE noetl.command c SET status = 'pending', worker = NULL, lease_until = NULL,
        lost = noetl.noted(c, NULL)
    WHERE c.ctid = ANY (wanted)
    RETURNING c.execution_id::text, c.command_id, c.pool;
END $$;

-- The release before has its answer in jsonb, this one in json.
ALTER TYPE noetl.tailed ALTER ATTRIBUTE payload TYPE json CASCADE;

-- As `noetl.tail`, with no more than so many bytes of payload: it ends with the event that reaches them, and reads none
-- behind it.
CREATE FUNCTION noetl.page(id bigint, after_seq integer, only_type text, most integer, most_bytes bigint)
RETURNS SETOF noetl.tailed LANGUAGE plpgsql STABLE AS $$
DECLARE
    found noetl.tailed;
    bytes bigint := 0;
BEGIN
    FOR found IN
        SELECT x.head, x.status, x.execution_id, v.seq, v.cause, v.type, v.step, v.generation, v.command_id, v.at, v.payload
        FROM noetl.execution x LEFT JOIN LATERAL (
            SELECT e.* FROM noetl.event e
            WHERE e.execution_id = x.execution_id AND e.seq > after_seq AND e.seq <= x.head
              AND (only_type IS NULL OR e.type = only_type)
            ORDER BY e.seq LIMIT most
        ) v ON true
        WHERE x.execution_id = id ORDER BY v.seq
    LOOP
        RETURN NEXT found;
        bytes := bytes + coalesce(octet_length(found.payload::text), 0);
        EXIT WHEN bytes >= most_bytes;
    END LOOP;
END $$;

CREATE TYPE noetl.waiting AS (
    inbox_id bigint, type text, step text, generation integer, command_id text, at timestamptz, payload json, more boolean);

-- The facts that wait in the inbox of an execution, in order, no more than `most`: it ends with the one that reaches so
-- many bytes, and of those behind it it only tells, with the last row, whether there are any.
CREATE FUNCTION noetl.waiting(id bigint, most integer, most_bytes bigint) RETURNS SETOF noetl.waiting
LANGUAGE plpgsql STABLE AS $$
DECLARE
    found noetl.waiting;
    behind noetl.waiting;
    facts integer := 0;
    bytes bigint := 0;
BEGIN
    FOR behind IN
        SELECT i.inbox_id, i.type, i.step, i.generation, i.command_id, i.at, i.payload, false
        FROM noetl.inbox i WHERE i.execution_id = id ORDER BY i.inbox_id LIMIT most + 1
    LOOP
        IF facts > 0 THEN
            found.more := facts = most OR bytes >= most_bytes;
            RETURN NEXT found;
            IF found.more THEN
                RETURN;
            END IF;
        END IF;
        found := behind;
        facts := facts + 1;
        bytes := bytes + octet_length(found.payload::text);
    END LOOP;
    IF facts > 0 THEN
        RETURN NEXT found;
    END IF;
END $$;

CREATE TYPE noetl.finished AS ("start" integer, "end" integer, data json, ref json);

-- What the finished runs of items of a loop gave, in the order of the items, from an item on: it ends with the run that
-- reaches so many bytes, and reads none behind it.
CREATE FUNCTION noetl.results(id bigint, step_name text, run integer, after_item integer, most_bytes bigint)
RETURNS SETOF noetl.finished LANGUAGE plpgsql STABLE SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off SET enable_bitmapscan = off AS $$
DECLARE
    frame record;
    found noetl.finished;
    bytes bigint := 0;
BEGIN
    FOR frame IN
        SELECT f.start_item, f.end_item, e.payload
        FROM noetl.frame f JOIN noetl.event e ON e.execution_id = f.execution_id AND e.seq = f.seq
        WHERE f.execution_id = id AND f.step = step_name AND f.generation = run AND f.end_item > after_item
          -- runs do not overlap: at most one begins before the item and ends behind it
          AND f.start_item >= coalesce((
              SELECT max(b.start_item) FROM noetl.frame b
              WHERE b.execution_id = id AND b.step = step_name AND b.generation = run AND b.start_item <= after_item), 0)
        ORDER BY f.start_item
    LOOP
        -- not in the query, which reads ahead
        found := (frame.start_item, frame.end_item, frame.payload -> 'data', frame.payload -> 'ref');
        RETURN NEXT found;
        bytes := bytes + coalesce(octet_length(found.data::text), 0) + coalesce(octet_length(found.ref::text), 0);
        EXIT WHEN bytes >= most_bytes;
    END LOOP;
END $$;

-- When the commands were issued of which there are reports: `reports` are their places in the log, `commands` whose they
-- are. Looks back from the last one, farther each time, until all are found: at each event once, and mostly at few.
CREATE FUNCTION noetl.issued(id bigint, reports integer[], commands text[])
RETURNS TABLE (report integer, issued_at timestamptz) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_nestloop = off SET enable_mergejoin = off AS $$
DECLARE
    high integer := (SELECT max(r.seq) FROM unnest(reports) AS r(seq));
    width integer := 1000;
    found integer[];
BEGIN
    WHILE high > 0 AND cardinality(reports) > 0 LOOP
        found := '{}';
        FOR report, issued_at IN
            SELECT DISTINCT ON (r.seq) r.seq, i.at
            FROM unnest(reports, commands) AS r(seq, command) JOIN noetl.event i ON i.command_id = r.command
            WHERE i.execution_id = id AND i.seq >= high - width AND i.seq < high AND i.seq < r.seq
              AND i.type = 'command.issued'
            ORDER BY r.seq, i.seq DESC
        LOOP
            RETURN NEXT;
            found := found || report;
        END LOOP;
        SELECT array_agg(r.seq), array_agg(r.command) INTO reports, commands
        FROM unnest(reports, commands) AS r(seq, command) WHERE r.seq <> ALL (found);
        high := high - width;
        width := least(width * 4, 1000000);
    END LOOP;
END $$;

-- What is in quarantine waits for a person, and is not archived; nor are its children, whose ends it may not know yet.
CREATE OR REPLACE FUNCTION noetl.leaving(wanted text, cutoff timestamptz, most integer)
RETURNS TABLE (execution_id bigint, head integer) LANGUAGE sql STABLE AS $$
    SELECT e.execution_id, e.head FROM noetl.execution e
    WHERE e.execution_id < noetl.id_of(cutoff) AND e.ended_at < cutoff AND e.status <> 'RUNNING'
      AND NOT EXISTS (SELECT FROM noetl.archived a WHERE a.execution_id = e.execution_id)
      AND NOT EXISTS (SELECT FROM noetl.inbox i WHERE i.execution_id = e.execution_id)
      AND NOT EXISTS (SELECT FROM noetl.quarantine q WHERE q.execution_id IN (e.execution_id, e.parent_execution_id))
      -- an archive keeps what those above may still use; expiry does not
      AND (wanted = 'archive' OR noetl.settled(e.parent_execution_id, cutoff))
    ORDER BY e.execution_id LIMIT most
$$;
