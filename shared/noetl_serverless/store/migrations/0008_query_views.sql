-- What operators may read with SQL of their own (`POST /api/postgres/execute`): views in a schema of their own, which hold no
-- credential, no schedule, no fence, no idempotency key and no state of the engine. A database role that signs in by itself
-- reads them and nothing else; `store/reader_role.py` creates it, since its name and password are those of a deployment.
--
-- The columns are named as in REST. A migration that changes the type of a column of one of these tables drops its view first,
-- and creates it anew.
CREATE SCHEMA IF NOT EXISTS noetl_query;

CREATE VIEW noetl_query.execution AS
SELECT execution_id, catalog_id, path, version, status, parent_execution_id, principal, result, error,
    created_at AS start_time, ended_at AS end_time
FROM noetl.execution;

CREATE VIEW noetl_query.event AS
SELECT execution_id, seq AS event_id, type AS event_type, step AS node_name, cause, generation, command_id,
    at AS "timestamp", payload
FROM noetl.event;

-- What is out: a command that has ended is in the log.
CREATE VIEW noetl_query.command AS
SELECT execution_id, command_id, step AS node_name, generation, kind, attempt, pool, status, seq AS event_id, deliveries, worker,
    lease_until, due_at, issued_at
FROM noetl.outstanding;

CREATE VIEW noetl_query.catalog AS
SELECT catalog_id, path, version, kind, content, meta, payload, created_at
FROM noetl.catalog;

-- Grant the role the views, and nothing else. Called whenever a stack starts, since a later migration may add one.
CREATE FUNCTION noetl.grant_reader(role_name name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA noetl FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA noetl_query FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON SCHEMA noetl FROM %I', role_name);
    -- by default everybody may create temporary objects, and before PostgreSQL 15 others, too
    EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    IF to_regnamespace('public') IS NOT NULL THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role_name);
    EXECUTE format('GRANT USAGE ON SCHEMA noetl_query TO %I', role_name);
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA noetl_query TO %I', role_name);
END $$;
REVOKE EXECUTE ON FUNCTION noetl.grant_reader(name) FROM PUBLIC;
