-- entries: the variables of an execution that have not expired
SELECT var_name AS name, var_type AS type, var_value AS value, source_step, created_at, accessed_at, access_count, expires_at
FROM noetl.transient
WHERE execution_id = :id AND (expires_at IS NULL OR expires_at > noetl.expiry_clock(:id)) ORDER BY var_name;

-- read: one of them, which is counted as read
UPDATE noetl.transient SET access_count = access_count + 1, accessed_at = now()
WHERE execution_id = :id AND var_name = :name AND (expires_at IS NULL OR expires_at > noetl.expiry_clock(:id))
RETURNING var_name AS name, var_type AS type, var_value AS value, source_step, created_at, accessed_at, access_count, expires_at;
