-- Limits on how many commands run, or begin in a time, and how many executions: by keys, in the whole deployment.
--
-- What holds a slot is the row that says that it runs: a claimed command, or an execution that runs and has begun. So nothing
-- can be held by a worker that is gone: its lease runs out, and the row with it. What a limit keeps waiting has a status of
-- its own, outside what other claims look at, also those of the release before.

ALTER TABLE noetl.command
    -- {"concurrency": {key, limit}, "rate": {key, per, limit}} of the command, per in seconds
    ADD COLUMN limits json,
    -- the same of its execution, until that has begun
    ADD COLUMN admission json;
ALTER TABLE noetl.command DROP CONSTRAINT command_status_check, ADD CONSTRAINT command_status_check
    CHECK (status IN ('pending', 'claimed', 'timer', 'dead', 'paused', 'limited'));

-- What has the same limits waits in one queue.
CREATE FUNCTION noetl.queue(limits json, admission json) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended(coalesce(limits::text, '') || ' ' || coalesce(admission::text, ''), 0)
$$;

CREATE INDEX command_limited ON noetl.command (pool, noetl.queue(limits, admission), issued_at, execution_id, seq)
    WHERE status = 'limited';
-- those that hold the slots of a key, and those that wait for one
CREATE INDEX command_slot ON noetl.command ((limits #>> '{concurrency,key}'), status, issued_at) WHERE limits IS NOT NULL;
CREATE INDEX command_admission ON noetl.command ((admission #>> '{concurrency,key}'), issued_at)
    WHERE admission IS NOT NULL;

-- Whoever gives a command back, it waits for its limits again; so this is not in each function that does.
CREATE FUNCTION noetl.keep_limited() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.status := 'limited';
    RETURN NEW;
END $$;
CREATE TRIGGER keep_limited BEFORE INSERT OR UPDATE OF status ON noetl.command FOR EACH ROW
    WHEN (NEW.status = 'pending' AND (NEW.limits IS NOT NULL OR NEW.admission IS NOT NULL))
    EXECUTE FUNCTION noetl.keep_limited();

-- Executions of playbooks with limits of which a command has been claimed. Of those that run, the key holds a slot.
CREATE TABLE noetl.begun (
    execution_id bigint PRIMARY KEY,
    concurrency_key text,
    at timestamptz NOT NULL
);
CREATE INDEX begun_key ON noetl.begun (concurrency_key) WHERE concurrency_key IS NOT NULL;

-- When commands, and executions, of the key of a rate have begun, as far back as its longest window.
CREATE TABLE noetl.rate_start (
    key text NOT NULL,
    unit text NOT NULL CHECK (unit IN ('command', 'execution')),
    at timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX rate_start_key ON noetl.rate_start (key, unit, at);

-- The longest window of each key that a start was counted in. Playbooks that name one key may have different ones.
CREATE TABLE noetl.rate_window (
    key text NOT NULL,
    unit text NOT NULL,
    per interval NOT NULL,
    PRIMARY KEY (key, unit)
);

-- How many commands with these limits, and how many executions, may begin now.
CREATE FUNCTION noetl.room(limits json, admission json, moment timestamptz, OUT commands integer, OUT executions integer)
LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    named text;
    most integer;
    since timestamptz;
BEGIN
    commands := 2147483647;
    executions := 2147483647;
    named := limits #>> '{concurrency,key}';
    IF named IS NOT NULL THEN
        most := (limits #>> '{concurrency,limit}')::integer;
        commands := most - (SELECT count(*) FROM (
            SELECT FROM noetl.command c
            WHERE c.status = 'claimed' AND c.limits IS NOT NULL AND c.limits #>> '{concurrency,key}' = named LIMIT most) held);
    END IF;
    named := limits #>> '{rate,key}';
    IF named IS NOT NULL AND commands > 0 THEN
        most := (limits #>> '{rate,limit}')::integer;
        since := moment - make_interval(secs => (limits #>> '{rate,per}')::float8);
        commands := least(commands, most - (SELECT count(*) FROM (
            SELECT FROM noetl.rate_start s WHERE s.key = named AND s.unit = 'command' AND s.at > since LIMIT most) started));
    END IF;
    named := admission #>> '{concurrency,key}';
    IF named IS NOT NULL THEN
        most := (admission #>> '{concurrency,limit}')::integer;
        executions := most - (SELECT count(*) FROM (
            SELECT FROM noetl.begun b
            WHERE b.concurrency_key = named
              AND (SELECT e.status FROM noetl.execution e WHERE e.execution_id = b.execution_id) = 'RUNNING' LIMIT most) under_way);
    END IF;
    named := admission #>> '{rate,key}';
    IF named IS NOT NULL AND executions > 0 THEN
        most := (admission #>> '{rate,limit}')::integer;
        since := moment - make_interval(secs => (admission #>> '{rate,per}')::float8);
        executions := least(executions, most - (SELECT count(*) FROM (
            SELECT FROM noetl.rate_start s WHERE s.key = named AND s.unit = 'execution' AND s.at > since LIMIT most) started));
    END IF;
END $$;

-- When a rate lets the next one begin: if its window is full, as soon as it is not, else as soon as it is not any more once
-- those have begun that may. Null: no rate is waited for, but a slot.
CREATE FUNCTION noetl.next_start(limits json, admission json, moment timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    latest timestamptz;
    full_at timestamptz;
    period interval;
    rate json;
BEGIN
    IF (SELECT least(r.commands, r.executions) FROM noetl.room(
        json_build_object('concurrency', limits -> 'concurrency'), json_build_object('concurrency', admission -> 'concurrency'),
        moment) r) <= 0 THEN
        RETURN NULL;
    END IF;
    FOR i IN 1..2 LOOP
        rate := CASE i WHEN 1 THEN limits ELSE admission END -> 'rate';
        CONTINUE WHEN rate IS NULL;
        period := make_interval(secs => (rate ->> 'per')::float8);
        SELECT s.at INTO full_at FROM noetl.rate_start s
        WHERE s.key = rate ->> 'key' AND s.unit = CASE i WHEN 1 THEN 'command' ELSE 'execution' END
        ORDER BY s.at DESC OFFSET (rate ->> 'limit')::integer - 1 LIMIT 1;
        IF full_at IS NULL OR full_at <= moment - period THEN
            full_at := moment;
        END IF;
        latest := greatest(latest, full_at + period);
    END LOOP;
    RETURN latest;
END $$;

CREATE FUNCTION noetl.has_begun(id bigint) RETURNS boolean LANGUAGE plpgsql STABLE SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN EXISTS (SELECT FROM noetl.begun b WHERE b.execution_id = id);
END $$;

-- Count what begins now under a rate, whose lock is held; and forget what no window reaches back to any more.
CREATE FUNCTION noetl.count_starts(rate json, counted text, moment timestamptz, starts integer) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    named text := rate ->> 'key';
    period interval := make_interval(secs => (rate ->> 'per')::float8);
    longest interval;
BEGIN
    SELECT w.per INTO longest FROM noetl.rate_window w WHERE w.key = named AND w.unit = counted;
    IF longest IS NULL OR longest < period THEN
        longest := period;
        INSERT INTO noetl.rate_window VALUES (named, counted, period)
        ON CONFLICT (key, unit) DO UPDATE SET per = excluded.per;
    END IF;
    DELETE FROM noetl.rate_start WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM noetl.rate_start s WHERE s.key = named AND s.unit = counted AND s.at <= moment - longest
        ORDER BY s.at LIMIT 200 + starts));
    INSERT INTO noetl.rate_start SELECT named, counted, moment FROM generate_series(1, starts);
END $$;

-- The advisory locks of the keys of some limits: who counts holds them until what was counted is written.
CREATE FUNCTION noetl.limit_locks(limits json, admission json) RETURNS integer[] LANGUAGE sql IMMUTABLE AS $$
    SELECT ARRAY(
        SELECT DISTINCT hashtext(named) FROM unnest(ARRAY[
            limits #>> '{concurrency,key}', limits #>> '{rate,key}',
            admission #>> '{concurrency,key}', admission #>> '{rate,key}']) AS k(named)
        WHERE named IS NOT NULL ORDER BY 1)
$$;

-- The first command of each of at most so many queues of a pool, from a random place on.
CREATE FUNCTION noetl.queues(pool_name text, most integer) RETURNS SETOF noetl.command LANGUAGE plpgsql
SET enable_seqscan = off SET enable_sort = off SET enable_incremental_sort = off AS $$
DECLARE
    start bigint := (random() * 18446744073709551615 - 9223372036854775808)::bigint;
    seen bigint := start;
    wrapped boolean := false;
    found integer := 0;
    head noetl.command;
BEGIN
    WHILE found < most LOOP
        SELECT c.* INTO head FROM noetl.command c
        WHERE c.status = 'limited' AND c.pool = pool_name AND noetl.queue(c.limits, c.admission) > seen
        ORDER BY noetl.queue(c.limits, c.admission), c.issued_at, c.execution_id, c.seq LIMIT 1;
        IF head.execution_id IS NULL OR (wrapped AND noetl.queue(head.limits, head.admission) > start) THEN
            EXIT WHEN wrapped;
            wrapped := true;
            seen := -9223372036854775808;
        ELSE
            seen := noetl.queue(head.limits, head.admission);
            found := found + 1;
            RETURN NEXT head;
        END IF;
    END LOOP;
END $$;

-- Lease limited commands that may begin now, at most so many: those of `keys`, or with null of any queue of the pool, of each
-- those first that have waited longest, and of none more than its part. With `waits` whoever counts one of its keys is
-- waited for; without, what somebody else counts is passed by.
--
-- Which queues may go on is looked at without a lock, so that those that are full hold up nobody; then the keys of these are
-- locked in order, and what is under way is counted again: a statement sees all that was written before it began. No command
-- is waited for while they are held.
CREATE FUNCTION noetl.lease_limited(worker_id text, pool_name text, lease float8, most integer, keys json, waits boolean)
RETURNS noetl.command[] LANGUAGE plpgsql SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    limited CONSTANT text := 'limited';
    heads noetl.command[];
    head noetl.command;
    waiting noetl.command;
    given noetl.command;
    picked noetl.command[] := '{}';
    taken noetl.command[] := '{}';
    numbers integer[];
    number integer;
    busy integer[] := '{}';
    moment timestamptz;
    free record;
    share integer;
    starts integer;
BEGIN
    IF most <= 0 THEN
        RETURN taken;
    END IF;
    IF keys IS NULL THEN
        SELECT array_agg(q::noetl.command) INTO heads FROM noetl.queues(pool_name, 64) q;
    ELSE
        SELECT array_agg(found.c ORDER BY (found.c).issued_at, (found.c).execution_id, (found.c).seq) INTO heads FROM (
            SELECT DISTINCT k.execution_id, k.command_id
            FROM json_to_recordset(keys) AS k(execution_id bigint, command_id text)
        ) named CROSS JOIN LATERAL (
            SELECT x FROM noetl.command x
            WHERE x.execution_id = named.execution_id AND x.command_id = named.command_id
              AND x.status = limited AND x.pool = pool_name OFFSET 0
        ) found(c);
    END IF;
    IF heads IS NULL THEN
        RETURN taken;
    END IF;
    FOREACH head IN ARRAY heads LOOP
        free := noetl.room(head.limits, head.admission, clock_timestamp());
        IF free.commands > 0 AND (head.admission IS NULL OR free.executions > 0 OR noetl.has_begun(head.execution_id)) THEN
            picked := picked || head;
            EXIT WHEN cardinality(picked) >= CASE WHEN keys IS NULL THEN 16 ELSE 64 END;
        END IF;
    END LOOP;
    numbers := ARRAY(
        SELECT DISTINCT n.number FROM unnest(picked) p CROSS JOIN unnest(noetl.limit_locks(p.limits, p.admission)) AS n(number)
        ORDER BY 1);
    FOREACH number IN ARRAY numbers LOOP
        IF waits THEN
            PERFORM pg_advisory_xact_lock(421507, number);
        ELSIF NOT pg_try_advisory_xact_lock(421507, number) THEN
            busy := busy || number;
        END IF;
    END LOOP;
    FOR i IN 1..cardinality(picked) LOOP
        head := picked[i];
        EXIT WHEN cardinality(taken) >= most;
        CONTINUE WHEN busy && noetl.limit_locks(head.limits, head.admission);
        moment := clock_timestamp();
        free := noetl.room(head.limits, head.admission, moment);
        share := least(free.commands, ceil((most - cardinality(taken))::float8 / (cardinality(picked) - i + 1))::integer);
        IF keys IS NOT NULL THEN
            share := least(share, 1);
        END IF;
        starts := 0;
        WHILE starts < share LOOP
            IF keys IS NULL THEN
                -- its own locks hold up nobody, and what it has taken is not limited any more
                SELECT c.* INTO waiting FROM noetl.command c
                WHERE c.status = 'limited' AND c.pool = pool_name
                  AND noetl.queue(c.limits, c.admission) = noetl.queue(head.limits, head.admission)
                ORDER BY c.issued_at, c.execution_id, c.seq LIMIT 1 FOR UPDATE SKIP LOCKED;
            ELSE
                SELECT c.* INTO waiting FROM noetl.command c
                WHERE c.execution_id = head.execution_id AND c.command_id = head.command_id AND c.status = limited
                FOR UPDATE SKIP LOCKED;
            END IF;
            EXIT WHEN waiting.execution_id IS NULL;
            IF waiting.admission IS NOT NULL AND NOT noetl.has_begun(waiting.execution_id) THEN
                EXIT WHEN free.executions <= 0;
                INSERT INTO noetl.begun VALUES (waiting.execution_id, waiting.admission #>> '{concurrency,key}', moment)
                ON CONFLICT DO NOTHING;
                IF waiting.admission -> 'rate' IS NOT NULL THEN
                    PERFORM noetl.count_starts(waiting.admission -> 'rate', 'execution', moment, 1);
                END IF;
                free.executions := free.executions - 1;
            END IF;
            UPDATE noetl.command c SET status = 'claimed', worker = worker_id, fence = nextval('noetl.fence'), admission = NULL,
                lease_until = moment + make_interval(secs => lease), claimed_at = moment, deliveries = c.deliveries + 1
            WHERE c.execution_id = waiting.execution_id AND c.command_id = waiting.command_id
            RETURNING c.* INTO given;
            taken := taken || given;
            starts := starts + 1;
            IF waiting.admission IS NOT NULL THEN
                PERFORM noetl.let_in(waiting.execution_id);
            END IF;
        END LOOP;
        IF starts > 0 AND head.limits -> 'rate' IS NOT NULL THEN
            PERFORM noetl.count_starts(head.limits -> 'rate', 'command', moment, starts);
        END IF;
    END LOOP;
    RETURN taken;
END $$;

-- The execution has begun: what else of it waits does not wait for that any more.
CREATE FUNCTION noetl.let_in(id bigint) RETURNS void LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    limited CONSTANT text := 'limited';
BEGIN
    UPDATE noetl.command c SET admission = NULL, status = CASE WHEN c.limits IS NULL THEN 'pending' ELSE 'limited' END
    WHERE c.ctid = ANY (ARRAY(
        SELECT w.ctid FROM noetl.command w
        WHERE w.execution_id = id AND w.status = limited AND w.admission IS NOT NULL FOR UPDATE SKIP LOCKED));
END $$;

-- As before, and limited commands that may begin. Of a claim of whatever waits they take half of the room, or what others
-- leave; which half is the greater one is left to chance, so that neither has all the claims of one command.
CREATE OR REPLACE FUNCTION noetl.lease(worker_id text, pool_name text, lease float8, most integer, keys json)
RETURNS SETOF noetl.leased LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    wanted tid[];
    taken noetl.command[];
    -- not said in the query, where it would lead to an index of all that is pending
    pending CONSTANT text := 'pending';
    any_limited boolean := EXISTS (SELECT FROM noetl.command c WHERE c.status = 'limited' AND c.pool = pool_name);
    first_taken noetl.command[] := '{}';
    room integer := most;
BEGIN
    IF any_limited AND keys IS NULL THEN
        first_taken := noetl.lease_limited(
            worker_id, pool_name, lease, (most + (random() < 0.5)::integer) / 2, NULL, true);
        room := most - cardinality(first_taken);
    END IF;
    IF keys IS NULL THEN
        wanted := noetl.fair(pool_name, room);
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
            ) free LIMIT room
        ) w;
    END IF;
    IF cardinality(wanted) > 0 THEN
        WITH leased AS (
            UPDATE noetl.command c SET status = 'claimed', worker = worker_id, fence = nextval('noetl.fence'),
                lease_until = now() + make_interval(secs => lease), claimed_at = now(), deliveries = c.deliveries + 1
            WHERE c.ctid = ANY (wanted) RETURNING c
        )
        SELECT array_agg(c) INTO taken FROM leased;
        room := room - cardinality(taken);
    END IF;
    IF any_limited AND room > 0 THEN
        -- of a claim without names, other keys are locked already: in no order with these
        taken := coalesce(taken, '{}')
            || noetl.lease_limited(worker_id, pool_name, lease, room, keys, keys IS NOT NULL);
    END IF;
    taken := first_taken || coalesce(taken, '{}');
    IF cardinality(taken) > 0 THEN
        RETURN QUERY SELECT * FROM noetl.leased(taken);
    END IF;
END $$;

-- Of some queues, the commands that may begin now, a few of each, and seconds until a rate lets the next one begin. One more
-- of each than there is room for: of two that end at once, neither sees that both are gone.
CREATE FUNCTION noetl.first_in_line(heads noetl.command[], few integer) RETURNS json LANGUAGE plpgsql
SET enable_seqscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    head noetl.command;
    free record;
    room integer;
    found json;
    next_one timestamptz;
    parts json[] := '{}';
BEGIN
    FOREACH head IN ARRAY coalesce(heads, '{}') LOOP
        free := noetl.room(head.limits, head.admission, moment);
        room := CASE
            WHEN head.admission IS NULL OR noetl.has_begun(head.execution_id) THEN free.commands
            -- they may be of one execution
            WHEN free.executions > 0 THEN free.commands
            ELSE 0
        END;
        SELECT json_agg(json_build_array(w.pool, w.execution_id::text, w.command_id)) INTO found FROM (
            SELECT c.pool, c.execution_id, c.command_id FROM noetl.command c
            WHERE c.status = 'limited' AND c.pool = head.pool
              AND noetl.queue(c.limits, c.admission) = noetl.queue(head.limits, head.admission)
            ORDER BY c.issued_at, c.execution_id, c.seq
            LIMIT CASE WHEN room > 0 THEN least(room, few - 1) + 1 ELSE 0 END
        ) w;
        IF found IS NOT NULL THEN
            parts := parts || found;
        END IF;
        IF coalesce(json_array_length(found), 0) <= greatest(room, 0) OR room <= 0 THEN
            next_one := least(next_one, noetl.next_start(head.limits, head.admission, moment));
        END IF;
    END LOOP;
    RETURN json_build_object(
        'startable', (SELECT coalesce(json_agg(x), '[]') FROM unnest(parts) p CROSS JOIN json_array_elements(p) x),
        'next_start', CASE WHEN next_one IS NOT NULL THEN greatest(0, extract(epoch FROM next_one - moment)) END);
END $$;

-- Those that have waited longest for a slot of one of these keys, of commands and of executions; a few of each. By itself, so
-- that its settings are not those of a commit.
CREATE FUNCTION noetl.waiting_for(freed text[], left_by text[]) RETURNS SETOF noetl.command LANGUAGE plpgsql
SET enable_seqscan = off SET enable_sort = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    named text;
BEGIN
    FOREACH named IN ARRAY coalesce(freed, '{}') LOOP
        RETURN QUERY SELECT c.* FROM noetl.command c
        WHERE c.limits IS NOT NULL AND c.limits #>> '{concurrency,key}' = named AND c.status = 'limited'
        ORDER BY c.limits #>> '{concurrency,key}', c.status, c.issued_at LIMIT 8;
    END LOOP;
    FOREACH named IN ARRAY coalesce(left_by, '{}') LOOP
        RETURN QUERY SELECT c.* FROM noetl.command c
        WHERE c.admission IS NOT NULL AND c.admission #>> '{concurrency,key}' = named AND c.status = 'limited'
        ORDER BY c.admission #>> '{concurrency,key}', c.issued_at LIMIT 8;
    END LOOP;
END $$;

-- `noetl.commit`, or `noetl.commit_dropping` if anything is dropped, where limited commands are issued or end. The answer has
-- also, as `noetl.first_in_line`, what may begin now of what was issued and of what waits for the keys that were freed, after
-- what is not limited any more, since its execution has begun.
-- commands    also {limits, admission}, with the status `limited`
CREATE FUNCTION noetl.commit_limited(
    executions json, events json, closes json, commands json, stages json, frames json, refs json,
    taken json, appends json, quarantined json, dropped json
) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answer json;
    good bigint[];
    over bigint[];
    -- the keys of what ends, beside the executions that it is of
    freed text[];
    freed_by bigint[];
    left_by text[];
    heads noetl.command[] := '{}';
    let_in json[] := '{}';
    given record;
    written noetl.command;
    last_queue bigint;
    limited CONSTANT text := 'limited';
    paused CONSTANT text := 'paused';
    line json;
BEGIN
    over := ARRAY(
        SELECT x.id FROM json_to_recordset(executions) AS x(id bigint, ended float8) WHERE x.ended IS NOT NULL);
    -- what limits a command does not change: it need not be locked for this
    SELECT array_agg(ended.id), array_agg(ended.named) INTO freed_by, freed FROM (
        SELECT named.id, c.limits #>> '{concurrency,key}' AS named FROM (
            SELECT x.id, x.command FROM json_to_recordset(closes) AS x(id bigint, command text)
            UNION
            SELECT x.id, x.command FROM json_to_recordset(dropped) AS x(id bigint, command text)
        ) named CROSS JOIN LATERAL (
            SELECT h.limits FROM noetl.command h
            WHERE h.execution_id = named.id AND h.command_id = named.command AND h.limits IS NOT NULL OFFSET 0
        ) c
        UNION
        SELECT o.id, c.limits #>> '{concurrency,key}' FROM unnest(over) AS o(id) CROSS JOIN LATERAL (
            SELECT h.limits FROM noetl.command h
            WHERE h.execution_id = o.id AND h.limits IS NOT NULL OFFSET 0
        ) c
    ) ended;
    IF json_array_length(dropped) > 0 THEN
        answer := noetl.commit_dropping(
            executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, dropped);
    ELSE
        answer := noetl.commit(executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined);
    END IF;
    good := ARRAY(SELECT g::bigint FROM json_array_elements_text(answer -> 'good') g);
    FOR given IN
        SELECT x.id, x.command, x.limits, CASE WHEN noetl.has_begun(x.id) THEN NULL ELSE x.admission END AS admission
        FROM json_to_recordset(commands) AS x(id bigint, command text, limits json, admission json)
        WHERE (x.limits IS NOT NULL OR x.admission IS NOT NULL) AND x.id = ANY (good)
    LOOP
        UPDATE noetl.command c SET limits = given.limits, admission = given.admission,
            status = CASE
                WHEN c.status = paused THEN paused
                WHEN given.limits IS NULL AND given.admission IS NULL THEN 'pending'
                ELSE 'limited' END
        WHERE c.execution_id = given.id AND c.command_id = given.command AND c.status IN (limited, paused)
        RETURNING c.* INTO written;
        IF FOUND AND written.status = 'pending' THEN
            let_in := let_in || json_build_array(written.pool, written.execution_id::text, written.command_id);
        ELSIF FOUND AND last_queue IS DISTINCT FROM noetl.queue(given.limits, given.admission) THEN
            -- those of a loop all wait in one
            last_queue := noetl.queue(given.limits, given.admission);
            heads := heads || written;
        END IF;
    END LOOP;
    -- an execution in quarantine may go on
    WITH gone AS (
        DELETE FROM noetl.begun b WHERE b.execution_id = ANY (over) AND b.execution_id = ANY (good)
            AND NOT EXISTS (SELECT FROM noetl.quarantine q WHERE q.execution_id = b.execution_id)
        RETURNING b.concurrency_key
    )
    SELECT array_agg(DISTINCT g.concurrency_key) INTO left_by FROM gone g WHERE g.concurrency_key IS NOT NULL;
    -- what was not written frees nothing
    freed := ARRAY(
        SELECT DISTINCT f.named FROM unnest(freed_by, freed) AS f(id, named)
        WHERE f.id = ANY (good) AND f.named IS NOT NULL);
    -- one of each queue
    heads := ARRAY(
        SELECT DISTINCT ON (noetl.queue(h.limits, h.admission), h.pool) h::noetl.command FROM (
            SELECT i.* FROM unnest(heads) i WHERE i.status = 'limited'
            UNION ALL
            SELECT w.* FROM noetl.waiting_for(freed, left_by) w
        ) h LIMIT 64);
    line := noetl.first_in_line(heads, 16);
    RETURN json_build_object(
        'good', answer -> 'good', 'claimed', answer -> 'claimed', 'appended', answer -> 'appended',
        'startable', (
            SELECT coalesce(json_agg(x.startable ORDER BY x.part, x.place), '[]') FROM (
                SELECT 1 AS part, l.place, l.startable FROM unnest(let_in) WITH ORDINALITY AS l(startable, place)
                UNION ALL
                SELECT 2, f.place, f.startable
                FROM json_array_elements(line -> 'startable') WITH ORDINALITY AS f(startable, place)) x),
        'next_start', line -> 'next_start');
END $$;

-- `noetl.commit_limited`, and executions that are paused or go on.
-- pauses      [{id, at, timers}]: `at` in ms; null: it goes on, with the timers {name: when it is due, in ms}
-- The answer also has {resumed: [[id, command, pool]]}, the commands that wait for a worker again.
CREATE FUNCTION noetl.commit_pausing(
    executions json, events json, closes json, commands json, stages json, frames json, refs json,
    taken json, appends json, quarantined json, dropped json, pauses json
) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    answer json;
    good bigint[];
    resumed json;
BEGIN
    PERFORM noetl.lock_pauses(true);
    answer := noetl.commit_limited(
        executions, events, closes, commands, stages, frames, refs, taken, appends, quarantined, dropped);
    good := ARRAY(SELECT g::text::bigint FROM json_array_elements_text(answer->'good') g);
    UPDATE noetl.execution e SET paused_at = to_timestamp(x.at / 1000.0)
    FROM json_to_recordset(pauses) AS x(id bigint, at float8)
    WHERE e.execution_id = x.id AND x.id = ANY (good);
    PERFORM 1 FROM (
        SELECT c.execution_id, c.command_id FROM json_to_recordset(pauses) AS x(id bigint)
        JOIN noetl.command c ON c.execution_id = x.id AND c.status IN ('pending', 'limited', 'timer', 'paused')
        WHERE x.id = ANY (good) ORDER BY 1, 2
    ) named CROSS JOIN LATERAL (
        SELECT FROM noetl.command c WHERE c.execution_id = named.execution_id AND c.command_id = named.command_id FOR UPDATE
    ) locked;
    UPDATE noetl.command c SET status = 'paused'
    FROM json_to_recordset(pauses) AS x(id bigint, at float8)
    WHERE c.execution_id = x.id AND x.id = ANY (good) AND x.at IS NOT NULL AND c.status IN ('pending', 'limited', 'timer');
    WITH going_on AS (
        UPDATE noetl.command c SET status = CASE WHEN c.kind = 'timer' THEN 'timer' ELSE 'pending' END,
            due_at = coalesce(to_timestamp((x.timers ->> c.command_id)::float8 / 1000.0), c.due_at)
        FROM json_to_recordset(pauses) AS x(id bigint, at float8, timers json)
        WHERE c.execution_id = x.id AND x.id = ANY (good) AND x.at IS NULL AND c.status = 'paused'
        RETURNING c.execution_id, c.command_id, c.pool, c.kind
    )
    SELECT coalesce(json_agg(json_build_array(g.execution_id::text, g.command_id, g.pool) ORDER BY g.command_id), '[]')
    INTO resumed
    FROM going_on g WHERE g.kind <> 'timer';
    RETURN json_build_object(
        'good', answer->'good', 'claimed', answer->'claimed', 'appended', answer->'appended', 'resumed', resumed,
        'startable', answer->'startable', 'next_start', answer->'next_start');
END $$;

-- As `noetl.first_in_line`, of all pools: for those whose notification was lost, or who wait for a rate.
CREATE FUNCTION noetl.startable(most integer) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_sort = off AS $$
DECLARE
    seen text := '';
    heads noetl.command[] := '{}';
    firsts noetl.command[];
    missed bigint;
BEGIN
    -- of an execution that began while this was issued
    FOR missed IN
        SELECT b.execution_id FROM noetl.begun b WHERE EXISTS (
            SELECT FROM noetl.command c
            WHERE c.execution_id = b.execution_id AND c.status = 'limited' AND c.admission IS NOT NULL OFFSET 0)
        LIMIT most
    LOOP
        PERFORM noetl.let_in(missed);
    END LOOP;
    LOOP
        SELECT c.pool INTO seen FROM noetl.command c WHERE c.status = 'limited' AND c.pool > seen ORDER BY c.pool LIMIT 1;
        EXIT WHEN seen IS NULL;
        SELECT array_agg(q::noetl.command) INTO firsts FROM noetl.queues(seen, 512) q;
        heads := heads || firsts;
    END LOOP;
    RETURN noetl.first_in_line(heads, greatest(2, most / greatest(1, cardinality(heads))));
END $$;

-- What the limits of waiting commands say: of each, {unit, kind, key, limit, used, per?, next_start?}.
CREATE FUNCTION noetl.limit_use(limits json, admission json) RETURNS json LANGUAGE plpgsql SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    found json[] := '{}';
    part json;
    one json;
    counted text;
    left_over integer;
BEGIN
    FOR i IN 1..2 LOOP
        part := CASE i WHEN 1 THEN limits ELSE admission END;
        counted := CASE i WHEN 1 THEN 'command' ELSE 'execution' END;
        one := part -> 'concurrency';
        IF one IS NOT NULL THEN
            SELECT CASE i WHEN 1 THEN r.commands ELSE r.executions END INTO left_over FROM noetl.room(
                CASE i WHEN 1 THEN json_build_object('concurrency', one) END,
                CASE i WHEN 2 THEN json_build_object('concurrency', one) END, moment) r;
            found := found || json_build_object('unit', counted, 'kind', 'concurrency', 'key', one -> 'key',
                'limit', one -> 'limit', 'used', (one ->> 'limit')::integer - left_over);
        END IF;
        one := part -> 'rate';
        IF one IS NOT NULL THEN
            SELECT CASE i WHEN 1 THEN r.commands ELSE r.executions END INTO left_over FROM noetl.room(
                CASE i WHEN 1 THEN json_build_object('rate', one) END,
                CASE i WHEN 2 THEN json_build_object('rate', one) END, moment) r;
            found := found || json_build_object('unit', counted, 'kind', 'rate', 'key', one -> 'key',
                'limit', one -> 'limit', 'per', one -> 'per', 'used', (one ->> 'limit')::integer - left_over,
                'next_start', CASE WHEN left_over <= 0 THEN noetl.next_start(
                    CASE i WHEN 1 THEN json_build_object('rate', one) END,
                    CASE i WHEN 2 THEN json_build_object('rate', one) END, moment) END);
        END IF;
    END LOOP;
    RETURN array_to_json(found);
END $$;

-- Forget starts, windows and executions of keys that nobody names any more; at most so many.
CREATE FUNCTION noetl.prune_limits(most integer) RETURNS integer LANGUAGE plpgsql SET enable_hashjoin = off AS $$
DECLARE
    gone integer;
    deleted integer := 0;
BEGIN
    DELETE FROM noetl.rate_start WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM noetl.rate_start s JOIN noetl.rate_window w ON w.key = s.key AND w.unit = s.unit
        WHERE s.at < clock_timestamp() - w.per LIMIT most FOR UPDATE OF s SKIP LOCKED));
    GET DIAGNOSTICS gone = ROW_COUNT;
    deleted := deleted + gone;
    DELETE FROM noetl.begun WHERE ctid = ANY (ARRAY(
        SELECT b.ctid FROM noetl.begun b
        WHERE NOT EXISTS (SELECT FROM noetl.execution e WHERE e.execution_id = b.execution_id AND e.status = 'RUNNING' OFFSET 0)
          AND NOT EXISTS (SELECT FROM noetl.quarantine q WHERE q.execution_id = b.execution_id OFFSET 0)
        LIMIT most FOR UPDATE OF b SKIP LOCKED));
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN deleted + gone;
END $$;

-- Readers see what a command waits for.
CREATE OR REPLACE VIEW noetl.outstanding AS
SELECT execution_id, command_id, step, generation, kind, attempt, pool, status, seq, deliveries, worker, fence, lease_until,
    due_at, issued_at, claimed_at, lost, playbook, weight, limits, admission
FROM noetl.command
UNION ALL
SELECT d.*, NULL::json, NULL::json FROM noetl.direct_lease d;

-- The functions of direct workers: for claim, report, extend and release, and for the registry. A report of a step whose time
-- is over needs `commit_dropping`, which was not granted before.
CREATE OR REPLACE FUNCTION noetl.worker_routines() RETURNS SETOF regprocedure LANGUAGE sql STABLE AS $$
    SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'noetl'::regnamespace AND (
        p.proname IN ('advance', 'lease', 'holdings', 'extend', 'release', 'waiting', 'clear_inbox', 'commit_dropping',
            'commit_limited', 'commit_pausing', 'startable', 'register_runtime')
        -- those without jsonb: the others are for the release before, which has no such workers
        OR p.proname IN ('commit', 'append') AND 'jsonb'::regtype <> ALL (p.proargtypes::oid[]))
    ORDER BY 1
$$;
INSERT INTO noetl.chore (name) VALUES ('limits') ON CONFLICT DO NOTHING;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
