-- The catalog holds more than playbooks, and versions that are deleted can be restored. The release before takes deleted versions
-- for others, and everything for a playbook.
ALTER TABLE noetl.catalog ADD COLUMN deleted_at timestamptz;

-- What a direct worker looks up beside what `noetl.grant_worker` grants: children start only what is not deleted.
CREATE FUNCTION noetl.grant_worker_catalog(role_name name) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('GRANT SELECT (deleted_at) ON noetl.catalog TO %I', role_name);
END $$;
REVOKE EXECUTE ON FUNCTION noetl.grant_worker_catalog(name) FROM PUBLIC;

CREATE OR REPLACE VIEW noetl_query.catalog AS
SELECT catalog_id, path, version, kind, content, meta, payload, created_at, deleted_at
FROM noetl.catalog;
