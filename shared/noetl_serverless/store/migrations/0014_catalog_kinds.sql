-- The catalog holds more than playbooks, and versions that are deleted can be restored. The release before takes deleted versions
-- for others, and everything for a playbook.
ALTER TABLE noetl.catalog ADD COLUMN deleted_at timestamptz;

-- A direct worker starts children, and so has to see what is deleted. What else it is granted stays as it is.
ALTER FUNCTION noetl.grant_worker(name) RENAME TO grant_worker_to_run;

CREATE FUNCTION noetl.grant_worker(role_name name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM noetl.grant_worker_to_run(role_name);
    EXECUTE format('GRANT SELECT (deleted_at) ON noetl.catalog TO %I', role_name);
END $$;
REVOKE EXECUTE ON FUNCTION noetl.grant_worker(name) FROM PUBLIC;

CREATE OR REPLACE VIEW noetl_query.catalog AS
SELECT catalog_id, path, version, kind, content, meta, payload, created_at, deleted_at
FROM noetl.catalog;
