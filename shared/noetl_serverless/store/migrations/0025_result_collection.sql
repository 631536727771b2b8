-- How results are deleted: by their scope, by their own time, and what was stored without a row.
--
-- results_kept  what is still kept of an execution's results; null: all. 'execution': those of scope step are gone, or about
--               to go. 'permanent': only those of scope permanent stay. It is set before the first object is deleted, and
--               the rows of the objects follow: whoever compares the rows with the log knows by it which may be missing.

ALTER TABLE noetl.execution ADD COLUMN results_kept text;

-- in the order in which they expire, by store: one that is away does not hold up the others. The release before looks for
-- them by result_ref_expiry, which therefore stays.
CREATE INDEX result_ref_expired ON noetl.result_ref (store, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX result_ref_of_steps ON noetl.result_ref (execution_id, key) WHERE scope = 'step';
-- of what users have put and deleted: only while their objects have not been deleted
CREATE INDEX result_ref_deleted ON noetl.result_ref (store, deleted_at) WHERE deleted_at IS NOT NULL AND put_by IS NOT NULL;
-- of those whose object is another execution's, which its key begins with: a step may return the result of a sub-playbook
CREATE INDEX result_ref_borrowed ON noetl.result_ref (key) WHERE split_part(key, '/', 1) <> execution_id::text;

-- Those of `keys` that a result of this store has which has been neither expired nor deleted for `grace`, of another scope
-- than `ignored`.
CREATE FUNCTION noetl.named_results(wanted_store text, keys text[], grace interval, ignored text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    -- one lookup after the other: as a join, it could become one over the whole table
    RETURN QUERY SELECT k.key FROM unnest(keys) k(key)
    WHERE (
        SELECT true FROM noetl.result_ref r WHERE r.execution_id = split_part(k.key, '/', 1)::bigint AND r.key = k.key
            AND r.store = wanted_store AND r.scope <> ALL (ignored)
            AND (r.expires_at IS NULL OR r.expires_at >= now() - grace)
            AND (r.deleted_at IS NULL OR r.deleted_at >= now() - grace)
    ) IS NOT NULL OR (
        SELECT true FROM noetl.result_ref r WHERE r.key = k.key AND split_part(r.key, '/', 1) <> r.execution_id::text
            AND r.store = wanted_store AND r.scope <> ALL (ignored)
            AND (r.expires_at IS NULL OR r.expires_at >= now() - grace)
            AND (r.deleted_at IS NULL OR r.deleted_at >= now() - grace) LIMIT 1
    ) IS NOT NULL;
END $$;

-- Those of `ids` of which the database knows nothing: no execution, none that was archived or is being deleted, no log.
CREATE FUNCTION noetl.unknown_executions(ids bigint[]) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN QUERY SELECT i.id FROM unnest(ids) i(id)
    WHERE (SELECT true FROM noetl.execution e WHERE e.execution_id = i.id) IS NULL
      AND (SELECT true FROM noetl.archived a WHERE a.execution_id = i.id) IS NULL
      AND (SELECT true FROM noetl.event v WHERE v.execution_id = i.id AND v.seq = 1) IS NULL;
END $$;

-- As before, but of an execution that is archived, the results stay that are deleted apart from it, and of one that is
-- deleted, those that are permanent.
CREATE OR REPLACE FUNCTION noetl.register_archive(id bigint, attempt integer, made jsonb, held jsonb) RETURNS text
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    batch noetl.archive;
    ids bigint[];
BEGIN
    SELECT * INTO batch FROM noetl.archive WHERE archive_id = id FOR UPDATE;
    IF batch.archive_id IS NULL OR batch.attempts <> attempt THEN
        RETURN 'stale';
    END IF;
    IF batch.status = 'registered' THEN
        RETURN 'registered';
    END IF;
    SELECT array_agg(execution_id ORDER BY execution_id) INTO ids FROM noetl.archived WHERE archive_id = id;
    PERFORM 1 FROM noetl.execution WHERE execution_id = ANY (ids) ORDER BY execution_id FOR UPDATE;
    IF batch.kind = 'archive' AND EXISTS (
        SELECT FROM noetl.archived a
        LEFT JOIN noetl.execution e USING (execution_id)
        LEFT JOIN jsonb_to_recordset(held) AS x(execution_id bigint, events integer, blocks jsonb) USING (execution_id)
        WHERE a.archive_id = id AND (e.status = 'RUNNING' OR x.blocks IS NULL OR x.events IS DISTINCT FROM e.head)
    ) THEN
        RETURN 'incomplete';
    END IF;
    UPDATE noetl.archived a SET blocks = x.blocks
    FROM jsonb_to_recordset(held) AS x(execution_id bigint, blocks jsonb)
    WHERE a.execution_id = x.execution_id AND a.archive_id = id;
    DELETE FROM noetl.execution WHERE execution_id = ANY (ids);
    DELETE FROM noetl.command WHERE execution_id = ANY (ids);
    DELETE FROM noetl.stage WHERE execution_id = ANY (ids);
    DELETE FROM noetl.frame WHERE execution_id = ANY (ids);
    DELETE FROM noetl.result_ref WHERE execution_id = ANY (ids) AND (deleted_at IS NOT NULL OR scope <> 'permanent'
        AND (batch.kind = 'expiry' OR scope <> 'step' AND expires_at IS NULL));
    DELETE FROM noetl.inbox WHERE execution_id = ANY (ids);
    UPDATE noetl.archive SET status = 'registered', files = made, registered_at = now(), lease_until = NULL, error = NULL
    WHERE archive_id = id;
    RETURN 'registered';
END $$;

-- orphans  what executions that have ended keep no longer: results of scope step, and objects without a row
-- strays     objects of executions that nothing is known of
INSERT INTO noetl.chore (name) VALUES ('orphans'), ('strays') ON CONFLICT DO NOTHING;

REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
