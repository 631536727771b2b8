-- Results that users put into an execution, beside those of its steps. They are in no event: a rebuild leaves their rows as they
-- are, and nothing compares them with the log. The release before takes them for rows that the log does not have, and its
-- rebuild deletes them.
--
-- name             of what was put; null for the result of a step, which has the name of that
-- put_by           who put it; null for the result of a step
-- meta             {preview, extracted, correlation, compression, stored_bytes}, as far as there is any
-- idempotency_key  of the request that put it, hashed with who sent it
-- deleted_at       since when a user has deleted it, or, of what is put into an execution that has ended, is writing its object. The row of what was put goes once its object is deleted; that of a step's
--                  result stays, since the log has it
ALTER TABLE noetl.result_ref
    ADD COLUMN name text,
    ADD COLUMN put_by jsonb,
    ADD COLUMN meta jsonb,
    ADD COLUMN idempotency_key text,
    ADD COLUMN deleted_at timestamptz;

CREATE INDEX result_ref_uri ON noetl.result_ref (execution_id, ref);
CREATE INDEX result_ref_listed ON noetl.result_ref (execution_id, coalesce(step, ''), created_at, key);
CREATE UNIQUE INDEX result_ref_content ON noetl.result_ref (execution_id, name, sha256, content_type)
    WHERE put_by IS NOT NULL AND deleted_at IS NULL;
CREATE UNIQUE INDEX result_ref_request ON noetl.result_ref (execution_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Register what was put; its object is written. `given`: the row. `gone`: the key of an object that is known to be missing;
-- `expected`: that of what was put before with the same content, where nothing was written.
-- Returns {outcome, row, former}: 'stored'; 'same', with the row of what was put before, under the same name with the same
-- content; 'replaced', where the object of that was gone, or it had expired, with its key and store in `former`; 'other', where
-- the request's key came with something else; 'taken', where another result has this URI; 'missing', where
-- what was expected is not there; 'unknown' or 'archived', if there is no such execution, or it leaves the database.
CREATE FUNCTION noetl.put_result(given json, gone text, expected text) RETURNS jsonb LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    r noetl.result_ref := json_populate_record(NULL::noetl.result_ref, given);
    known noetl.result_ref;
    former jsonb;
BEGIN
    -- nobody chooses a batch meanwhile: its files would lack the row
    PERFORM pg_advisory_xact_lock_shared(4215077393);
    IF EXISTS (SELECT FROM noetl.archived WHERE execution_id = r.execution_id) THEN
        RETURN jsonb_build_object('outcome', 'archived');
    END IF;
    PERFORM 1 FROM noetl.execution WHERE execution_id = r.execution_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN jsonb_build_object('outcome', 'unknown');
    END IF;
    r.created_at := clock_timestamp();
    -- what kept its object from being collected until now
    DELETE FROM noetl.result_ref
    WHERE execution_id = r.execution_id AND key = r.key AND put_by IS NOT NULL AND deleted_at IS NOT NULL;
    LOOP
        SELECT * INTO known FROM noetl.result_ref
        WHERE execution_id = r.execution_id AND idempotency_key = r.idempotency_key FOR UPDATE;
        IF FOUND AND (known.deleted_at IS NOT NULL
            OR (known.name, known.sha256, known.content_type) IS DISTINCT FROM (r.name, r.sha256, r.content_type)) THEN
            RETURN jsonb_build_object('outcome', 'other');
        END IF;
        SELECT * INTO known FROM noetl.result_ref
        WHERE execution_id = r.execution_id AND name = r.name AND sha256 = r.sha256 AND content_type = r.content_type
            AND put_by IS NOT NULL AND deleted_at IS NULL FOR UPDATE;
        IF expected IS NOT NULL AND (NOT FOUND OR known.key <> expected OR known.expires_at <= now()) THEN
            RETURN jsonb_build_object('outcome', 'missing');
        END IF;
        IF known.key IS NULL THEN
            IF EXISTS (SELECT FROM noetl.result_ref WHERE execution_id = r.execution_id AND ref = r.ref) THEN
                RETURN jsonb_build_object('outcome', 'taken');
            END IF;
            INSERT INTO noetl.result_ref SELECT r.* ON CONFLICT DO NOTHING;
            IF FOUND THEN
                RETURN jsonb_build_object('outcome', 'stored', 'row', to_jsonb(r));
            END IF;
            -- another request has put the same since it was looked for
            CONTINUE;
        END IF;
        IF known.key = gone OR known.expires_at <= now() THEN
            former := jsonb_build_object('key', known.key, 'store', known.store);
            DELETE FROM noetl.result_ref WHERE execution_id = known.execution_id AND key = known.key;
            INSERT INTO noetl.result_ref SELECT r.*;
            RETURN jsonb_build_object('outcome', 'replaced', 'row', to_jsonb(r), 'former', former);
        END IF;
        IF r.idempotency_key IS NULL OR r.idempotency_key IS DISTINCT FROM known.idempotency_key THEN
            -- not the same request again: what it says of the content counts from now on
            UPDATE noetl.result_ref SET scope = r.scope, expires_at = r.expires_at, step = r.step, put_by = r.put_by,
                created_at = r.created_at, idempotency_key = coalesce(r.idempotency_key, known.idempotency_key),
                meta = known.meta || jsonb_build_object(
                    'extracted', r.meta -> 'extracted', 'correlation', r.meta -> 'correlation')
            WHERE execution_id = known.execution_id AND key = known.key RETURNING * INTO known;
        END IF;
        RETURN jsonb_build_object('outcome', 'same', 'row', to_jsonb(known));
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION noetl.put_result(json, text, text) FROM PUBLIC;
