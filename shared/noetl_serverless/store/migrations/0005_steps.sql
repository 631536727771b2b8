-- The common case of a commit: executions that go on by at most one command each, and nothing else.

-- As `noetl.commit`, with typed parameters, for parts that each open an execution or close one of its commands, and issue at
-- most one. Element i of the first arrays belongs to part i, in order of ids:
-- expects        the heads that the parts were decided on
-- rows           of executions that are opened, JSON as `noetl.commit` takes it; null: it exists
-- states         null: the state is not written; results, errors, ended (ms): null unless the part ends its execution, which
--                then has no other command
-- closed         the command that is closed, with its fence, held by `worker_id`; null: none
-- next_commands  the command that is issued; null: none. `next_claimed`: leased to `worker_id` for `lease` seconds.
--                `next_alone`: nothing else of its execution is under way, so that the lease can be direct
-- parts, seqs, ... are the events, in ms; `parts` numbers them from 1.
--
-- Returns for each part, separated by commas: nothing if it was refused because its head has moved, its id or its idempotency
-- key is taken, or its execution has another direct lease than the one that is closed; 0 if it was committed, or the fence of
-- its claimed command; and when leases end. If the fence of a command with a row is not valid, all are refused, with SQLSTATE
-- NO001: nothing could take back that part alone.
CREATE FUNCTION noetl.advance(
    ids bigint[], expects integer[], rows text[], heads integer[], statuses text[], finished_steps integer[], states text[],
    state_form smallint, results text[], errors text[], ended float8[], closed text[], fences bigint[], worker_id text,
    next_commands text[], next_steps text[], next_generations integer[], next_kinds text[], next_attempts integer[],
    next_pools text[], next_playbooks integer[], next_weights integer[], next_seqs integer[], next_claimed boolean[],
    next_alone boolean[], lease float8,
    parts integer[], seqs integer[], causes integer[], types text[], steps text[], generations integer[], commands text[],
    ats float8[], payloads text[],
    OUT granted text, OUT lease_ends text
) LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    good boolean[];
    -- whether the command that is closed was held directly, and whether the next one is
    was_direct boolean[];
    direct boolean[];
    fence_of bigint[];
    -- see `noetl.older_release`: longer than its reconciler goes without a sign
    may_be_direct CONSTANT boolean := NOT EXISTS (
        SELECT FROM noetl.older_release WHERE seen_at > now() - interval '2 hours');
    period CONSTANT interval := make_interval(secs => lease);
    until CONSTANT timestamptz := now() + period;
BEGIN
    FOR i IN 1..cardinality(ids) LOOP
        direct[i] := next_claimed[i] AND next_alone[i] AND may_be_direct;
        fence_of[i] := CASE WHEN next_claimed[i] THEN nextval('noetl.fence') ELSE 0 END;
        was_direct[i] := closed[i] IS NOT NULL;
        IF rows[i] IS NOT NULL THEN
            INSERT INTO noetl.execution (
                execution_id, catalog_id, path, version, plan_hash, depth, status, head, folded, state, state_version, finished,
                workload, principal, result, error, idempotency_key, request_hash, created_at, ended_at,
                direct_seq, direct_fence, direct_since, direct_command, direct_pool, direct_worker, direct_lease,
                direct_playbook, direct_weight)
            SELECT ids[i], r.catalog_id, r.path, r.version, r.plan_hash, r.depth, statuses[i], heads[i], heads[i],
                states[i]::json, state_form, finished_steps[i], r.workload, r.principal, results[i]::json, errors[i]::json,
                r.idempotency_key, r.request_hash, to_timestamp(r.at / 1000.0), to_timestamp(ended[i] / 1000.0),
                d.seq, d.fence, d.since, d.command, d.pool, d.worker, d.lease, d.playbook, d.weight
            FROM json_to_record(rows[i]::json) AS r(
                catalog_id bigint, path text, version integer, plan_hash text, depth integer, workload json,
                principal json, idempotency_key text, request_hash text, at float8)
            LEFT JOIN (
                SELECT next_seqs[i], fence_of[i], now(), next_commands[i], next_pools[i], worker_id, period, next_playbooks[i],
                    next_weights[i]
            ) AS d(seq, fence, since, command, pool, worker, lease, playbook, weight) ON direct[i]
            ON CONFLICT DO NOTHING;
            good[i] := FOUND;
        ELSE
            -- held directly, or else by a row
            LOOP
                UPDATE noetl.execution SET
                    head = heads[i], finished = finished_steps[i], status = statuses[i],
                    state = coalesce(states[i]::json, state),
                    folded = CASE WHEN states[i] IS NULL THEN folded ELSE heads[i] END,
                    state_version = CASE WHEN states[i] IS NULL THEN state_version ELSE state_form END,
                    result = results[i]::json, error = errors[i]::json, ended_at = to_timestamp(ended[i] / 1000.0),
                    direct_seq = CASE WHEN direct[i] THEN next_seqs[i] END,
                    direct_fence = CASE WHEN direct[i] THEN fence_of[i] END,
                    direct_since = CASE WHEN direct[i] THEN now() END,
                    direct_command = CASE WHEN direct[i] THEN next_commands[i] END,
                    direct_pool = CASE WHEN direct[i] THEN next_pools[i] END,
                    direct_worker = CASE WHEN direct[i] THEN worker_id END,
                    direct_lease = CASE WHEN direct[i] THEN period END,
                    direct_playbook = CASE WHEN direct[i] THEN next_playbooks[i] END,
                    direct_weight = CASE WHEN direct[i] THEN next_weights[i] END
                WHERE execution_id = ids[i] AND head = expects[i] AND CASE
                    WHEN was_direct[i] THEN
                        direct_command = closed[i] AND direct_fence = fences[i] AND direct_worker = worker_id
                    ELSE direct_worker IS NULL
                END;
                good[i] := FOUND;
                EXIT WHEN good[i] OR NOT was_direct[i];
                was_direct[i] := false;
            END LOOP;
        END IF;
    END LOOP;
    -- only now, for the order of locks: executions, then commands
    granted := '';
    FOR i IN 1..cardinality(ids) LOOP
        IF i > 1 THEN
            granted := granted || ',';
        END IF;
        CONTINUE WHEN NOT good[i];
        IF closed[i] IS NOT NULL AND NOT was_direct[i] THEN
            DELETE FROM noetl.command
            WHERE execution_id = ids[i] AND command_id = closed[i] AND fence = fences[i] AND status = 'claimed'
              AND worker = worker_id;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'the fence of a command is not valid' USING ERRCODE = 'NO001';
            END IF;
        END IF;
        IF ended[i] IS NOT NULL THEN
            DELETE FROM noetl.command WHERE ctid = ANY (ARRAY(
                SELECT c.ctid FROM noetl.command c WHERE c.execution_id = ids[i] AND c.status <> 'dead'
                ORDER BY c.command_id FOR UPDATE));
        END IF;
        IF next_commands[i] IS NOT NULL AND NOT direct[i] THEN
            INSERT INTO noetl.command (
                execution_id, command_id, step, generation, kind, attempt, pool, playbook, weight, status, seq, worker,
                fence, lease_until, claimed_at, deliveries, issued_at)
            VALUES (
                ids[i], next_commands[i], next_steps[i], next_generations[i], next_kinds[i], next_attempts[i],
                next_pools[i], next_playbooks[i], next_weights[i],
                CASE WHEN next_claimed[i] THEN 'claimed' ELSE 'pending' END, next_seqs[i],
                CASE WHEN next_claimed[i] THEN worker_id END, fence_of[i], CASE WHEN next_claimed[i] THEN until END,
                CASE WHEN next_claimed[i] THEN now() END, CASE WHEN next_claimed[i] THEN 1 ELSE 0 END, now());
        END IF;
        granted := granted || fence_of[i];
    END LOOP;

    INSERT INTO noetl.event (execution_id, seq, cause, type, step, generation, command_id, at, payload)
    SELECT ids[x.part], x.seq, x.cause, x.type, x.step, x.generation, x.command, to_timestamp(x.at / 1000.0),
        x.payload::json
    FROM unnest(parts, seqs, causes, types, steps, generations, commands, ats, payloads)
        AS x(part, seq, cause, type, step, generation, command, at, payload)
    WHERE good[x.part];
    lease_ends := to_json(until) #>> '{}';
END $$;
