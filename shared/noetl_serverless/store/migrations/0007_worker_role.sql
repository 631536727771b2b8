-- What a worker with the orchestrator in its own process may do in the database. It connects as a role of its own, which
-- is created by `store/worker_role.py`, since its name and password are those of a deployment.
--
-- The role reads what a decision starts from, and writes through functions alone: they compare heads, fences, workers and
-- leases before they write anything. What they do not check is whether a decision is right: who holds the role can append
-- to the log of any execution. It reads no credential, no schedule, no audit, and of what is archived only who started whom.

-- Only who is named below may call anything here; by default everybody who may use the schema could.
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;

-- Delete facts that came too late for an execution that has ended.
CREATE FUNCTION noetl.clear_inbox(id bigint) RETURNS void LANGUAGE sql AS $$
    DELETE FROM noetl.inbox i USING noetl.execution x
    WHERE i.execution_id = id AND x.execution_id = i.execution_id AND x.status <> 'RUNNING'
$$;

-- The functions for claim, report, extend and release. A migration that adds one adds it here.
CREATE FUNCTION noetl.worker_routines() RETURNS SETOF regprocedure LANGUAGE sql STABLE AS $$
    SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'noetl'::regnamespace AND (
        p.proname IN ('advance', 'lease', 'holdings', 'extend', 'release', 'waiting', 'clear_inbox')
        -- those without jsonb: the others are for the release before, which has no such workers
        OR p.proname IN ('commit', 'append') AND 'jsonb'::regtype <> ALL (p.proargtypes::oid[]))
    ORDER BY 1
$$;

-- Grant the role what it needs, and nothing else: what it was granted before is revoked. Called after each migration, since
-- a function that is replaced runs with the privileges of its caller again. A release that needs less goes on granting what
-- the release before needs.
CREATE FUNCTION noetl.grant_worker(role_name name) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    routine regprocedure;
BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA noetl FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA noetl FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA noetl FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON SCHEMA noetl FROM %I', role_name);
    -- also of what later migrations have created
    REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
    -- by default everybody may create temporary objects, and before PostgreSQL 15 others, too
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    IF to_regnamespace('public') IS NOT NULL THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;

    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role_name);
    EXECUTE format('GRANT USAGE ON SCHEMA noetl TO %I', role_name);
    FOR routine IN SELECT * FROM noetl.worker_routines() LOOP
        -- with the privileges of their owner, and nothing that the caller has created takes the place of what they name
        EXECUTE format('ALTER ROUTINE %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp', routine);
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', routine, role_name);
    END LOOP;
    EXECUTE format(
        'GRANT SELECT (execution_id, catalog_id, path, version, plan_hash, parent_execution_id, parent, depth, head, folded,
            state, state_version, principal, workload) ON noetl.execution TO %I', role_name);
    EXECUTE format(
        'GRANT SELECT (execution_id, seq, cause, type, step, generation, command_id, at, payload) ON noetl.event TO %I',
        role_name);
    EXECUTE format('GRANT SELECT (execution_id, step, generation, seq) ON noetl.stage TO %I', role_name);
    -- whose result a reference leads to
    EXECUTE format('GRANT SELECT (execution_id, parent_execution_id) ON noetl.archived TO %I', role_name);
    EXECUTE format(
        'GRANT SELECT (catalog_id, path, version, kind, content, hash, meta, payload, created_at) ON noetl.catalog TO %I',
        role_name);
END $$;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
