-- upsert: store a credential under its name
INSERT INTO noetl.credential (credential_id, name, type, sealed, key_id, meta, tags, description)
VALUES (:credential_id, :name, :type, :sealed, :key_id, CAST(:meta AS jsonb), CAST(:tags AS text[]), :description)
ON CONFLICT (name) DO UPDATE SET
    type = EXCLUDED.type, sealed = EXCLUDED.sealed, key_id = EXCLUDED.key_id, meta = EXCLUDED.meta,
    tags = EXCLUDED.tags, description = EXCLUDED.description, updated_at = now()
RETURNING credential_id, name, type, meta, tags, description, created_at, updated_at;

-- get: one credential without its secret, by name or id
SELECT credential_id, name, type, meta, tags, description, created_at, updated_at
FROM noetl.credential WHERE name = :name OR credential_id = CAST(:credential_id AS bigint)
ORDER BY name = :name DESC LIMIT 1;

-- sealed: one credential with its sealed secret, by name or id
SELECT credential_id, name, type, sealed, key_id, meta, tags, description, created_at, updated_at
FROM noetl.credential WHERE name = :name OR credential_id = CAST(:credential_id AS bigint)
ORDER BY name = :name DESC LIMIT 1;

-- entries: all credentials, or those of a type or with a text in their name, description or tags
SELECT credential_id, name, type, meta, tags, description, created_at, updated_at
FROM noetl.credential
WHERE (CAST(:type AS text) IS NULL OR type = :type)
  AND (CAST(:text AS text) IS NULL
       OR strpos(lower(concat_ws(' ', name, description, array_to_string(tags, ' '))), lower(:text)) > 0)
ORDER BY name LIMIT CAST(:limit AS integer) OFFSET CAST(:offset AS integer);

-- delete: delete a credential, by name or id
DELETE FROM noetl.credential WHERE credential_id = (
    SELECT credential_id FROM noetl.credential
    WHERE name = :name OR credential_id = CAST(:credential_id AS bigint)
    ORDER BY name = :name DESC LIMIT 1
) RETURNING name;

-- under_other_keys: credentials that key rotation has yet to seal again
SELECT credential_id, name, type, sealed, key_id FROM noetl.credential
WHERE key_id <> :key_id ORDER BY credential_id LIMIT CAST(:limit AS integer);

-- reseal: store the same secret under another key, unless it was changed meanwhile
UPDATE noetl.credential SET sealed = :sealed, key_id = :key_id
WHERE credential_id = :credential_id AND sealed = :before RETURNING credential_id;
