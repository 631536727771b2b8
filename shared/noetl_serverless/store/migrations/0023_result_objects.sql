-- Results in the database, for deployments that have no object store, or let results go here first: see
-- `store/result_objects.py`.
--
-- result_object  an upload. It is an object once its size is known; until then, and if its writer dies, a rest of one.
-- result_chunk   its bytes, in pieces of `chunk_bytes`, the last of which may be smaller.
--
-- Each writer has an upload of its own, so that what two of them write under one key is never mixed. Of several that are
-- whole, the first one is the object; the others have the same bytes, or are refused.

CREATE TABLE noetl.result_object (
    upload uuid PRIMARY KEY,
    -- in the order of its bytes, so that a prefix is a range
    key text COLLATE "C" NOT NULL,
    chunk_bytes integer NOT NULL CHECK (chunk_bytes > 0),
    -- the worker that writes it; null: the control plane
    worker text,
    bytes bigint,
    sha256 bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((bytes IS NULL) = (sha256 IS NULL))
);
CREATE INDEX result_object_key ON noetl.result_object (key, upload);
CREATE UNIQUE INDEX result_object_whole ON noetl.result_object (key) WHERE bytes IS NOT NULL;

CREATE TABLE noetl.result_chunk (
    upload uuid NOT NULL REFERENCES noetl.result_object ON DELETE CASCADE,
    number integer NOT NULL CHECK (number >= 0),
    data bytea NOT NULL,
    PRIMARY KEY (upload, number)
);
-- not compressed: a result may be already, and a part of a chunk is read without the rest of it
ALTER TABLE noetl.result_chunk ALTER COLUMN data SET STORAGE EXTERNAL;

-- What is there under a key: 'same' bytes, 'other' ones, or null for nothing.
CREATE FUNCTION noetl.compare_object(name text, size bigint, digest bytea) RETURNS text LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN (SELECT CASE WHEN o.bytes = size AND o.sha256 = digest THEN 'same' ELSE 'other' END
        FROM noetl.result_object o WHERE o.key = name AND o.bytes IS NOT NULL);
END $$;

-- Write an object of one chunk. Returns 'written', or what is there already: 'same', 'other'.
CREATE FUNCTION noetl.put_object(name text, id uuid, piece bytea, digest bytea, size_of_chunks integer, who text)
RETURNS text LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    found_there text;
BEGIN
    LOOP
        INSERT INTO noetl.result_object (upload, key, chunk_bytes, worker, bytes, sha256)
        VALUES (id, name, size_of_chunks, who, octet_length(piece), digest) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            IF octet_length(piece) > 0 THEN
                INSERT INTO noetl.result_chunk (upload, number, data) VALUES (id, 0, piece);
            END IF;
            RETURN 'written';
        END IF;
        found_there := noetl.compare_object(name, octet_length(piece), digest);
        IF found_there IS NOT NULL THEN
            RETURN found_there;
        END IF;
        -- it has been deleted since
    END LOOP;
END $$;

-- Make an upload the object of its key, if it has all its chunks. Returns 'written'; 'same' or 'other' for what is there
-- already, in whose favour the upload is deleted; 'gone' if somebody has deleted it; 'incomplete'.
CREATE FUNCTION noetl.finish_object(name text, id uuid, size bigint, digest bytea) RETURNS text LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    made noetl.result_object;
    chunks bigint;
    found_there text;
BEGIN
    SELECT * INTO made FROM noetl.result_object o WHERE o.upload = id AND o.key = name FOR UPDATE;
    IF NOT FOUND THEN
        -- by us, if the answer was lost
        RETURN coalesce(noetl.compare_object(name, size, digest), 'gone');
    END IF;
    IF made.bytes IS NOT NULL THEN
        RETURN CASE WHEN made.bytes = size AND made.sha256 = digest THEN 'written' ELSE 'other' END;
    END IF;
    chunks := (size + made.chunk_bytes - 1) / made.chunk_bytes;
    IF chunks <> (
        SELECT count(*) FROM noetl.result_chunk c WHERE c.upload = id AND c.number < chunks
        AND octet_length(c.data) = least(made.chunk_bytes, size - c.number::bigint * made.chunk_bytes)
    ) THEN
        RETURN 'incomplete';
    END IF;
    LOOP
        found_there := noetl.compare_object(name, size, digest);
        IF found_there IS NOT NULL THEN
            DELETE FROM noetl.result_object o WHERE o.upload = id;
            RETURN found_there;
        END IF;
        BEGIN
            UPDATE noetl.result_object o SET bytes = size, sha256 = digest WHERE o.upload = id;
            RETURN 'written';
        EXCEPTION WHEN unique_violation THEN
            -- somebody else was first: it is there now
        END;
    END LOOP;
END $$;

-- The part of an object that lies in one chunk: from `start`, at most so many bytes. No row if there is no such object.
CREATE FUNCTION noetl.read_object(name text, start bigint, most integer)
RETURNS TABLE (upload uuid, bytes bigint, data bytea) LANGUAGE plpgsql STABLE SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY SELECT o.upload, o.bytes, substring(c.data FROM (start % o.chunk_bytes)::integer + 1 FOR most)
    FROM noetl.result_object o
    LEFT JOIN noetl.result_chunk c ON c.upload = o.upload AND c.number = least(start / o.chunk_bytes, 2147483647)::integer
    WHERE o.key = name AND o.bytes IS NOT NULL;
END $$;

-- As `read_object`, of an upload that was found before. No row if it has been deleted since.
CREATE FUNCTION noetl.read_chunk(id uuid, start bigint, most integer) RETURNS TABLE (data bytea) LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY SELECT substring(c.data FROM (start % o.chunk_bytes)::integer + 1 FOR most)
    FROM noetl.result_object o
    JOIN noetl.result_chunk c ON c.upload = o.upload AND c.number = least(start / o.chunk_bytes, 2147483647)::integer
    WHERE o.upload = id AND o.bytes IS NOT NULL;
END $$;

-- -- workers

-- Whether the worker has a command of the execution to which a key belongs. As for its report, a lease that has run out counts
-- until the command is taken away: a worker that was cut off for a while does not lose what it has done.
CREATE FUNCTION noetl.may_write(name text, who text) RETURNS boolean LANGUAGE plpgsql STABLE SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    id bigint;
BEGIN
    -- what is no id is no execution
    IF name !~ '^[0-9]{1,19}/.' OR split_part(name, '/', 1)::numeric > 9223372036854775807 THEN
        RETURN false;
    END IF;
    id := split_part(name, '/', 1)::bigint;
    RETURN EXISTS (
        SELECT FROM noetl.execution e WHERE e.execution_id = id AND e.direct_fence IS NOT NULL AND e.direct_worker = who
    ) OR EXISTS (
        SELECT FROM noetl.command c WHERE c.execution_id = id AND c.worker = who AND c.status = 'claimed');
END $$;

-- As those above, for a worker, which may write below executions of which it holds a lease: else they return 'refused'.
CREATE FUNCTION noetl.worker_put_object(name text, id uuid, piece bytea, digest bytea, size_of_chunks integer, who text)
RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF who IS NULL OR NOT noetl.may_write(name, who) THEN
        RETURN 'refused';
    END IF;
    RETURN noetl.put_object(name, id, piece, digest, size_of_chunks, who);
END $$;

CREATE FUNCTION noetl.worker_begin_object(name text, id uuid, size_of_chunks integer, who text) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF who IS NULL OR NOT noetl.may_write(name, who) THEN
        RETURN 'refused';
    END IF;
    INSERT INTO noetl.result_object (upload, key, chunk_bytes, worker) VALUES (id, name, size_of_chunks, who)
    ON CONFLICT (upload) DO NOTHING;
    RETURN 'begun';
END $$;

-- 'refused' unless it is the upload of this worker, and not finished; 'gone' if somebody has deleted it.
CREATE FUNCTION noetl.worker_put_chunk(id uuid, place integer, piece bytea, who text) RETURNS text LANGUAGE plpgsql
SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    made noetl.result_object;
BEGIN
    SELECT * INTO made FROM noetl.result_object o WHERE o.upload = id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 'gone';
    END IF;
    IF made.worker IS DISTINCT FROM who OR made.bytes IS NOT NULL THEN
        RETURN 'refused';
    END IF;
    INSERT INTO noetl.result_chunk (upload, number, data) VALUES (id, place, piece) ON CONFLICT DO NOTHING;
    RETURN 'put';
END $$;

CREATE FUNCTION noetl.worker_finish_object(name text, id uuid, size bigint, digest bytea, who text) RETURNS text
LANGUAGE plpgsql SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    IF who IS NULL OR NOT noetl.may_write(name, who) OR EXISTS (
        SELECT FROM noetl.result_object o WHERE o.upload = id AND o.worker IS DISTINCT FROM who
    ) THEN
        RETURN 'refused';
    END IF;
    RETURN noetl.finish_object(name, id, size, digest);
END $$;

ALTER FUNCTION noetl.worker_routines() RENAME TO worker_routines_without_results;
CREATE FUNCTION noetl.worker_routines() RETURNS SETOF regprocedure LANGUAGE sql STABLE AS $$
    SELECT * FROM noetl.worker_routines_without_results()
    UNION ALL
    SELECT p.oid::regprocedure FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'noetl'::regnamespace AND p.proname IN (
        'worker_put_object', 'worker_begin_object', 'worker_put_chunk', 'worker_finish_object', 'read_object', 'read_chunk')
$$;
REVOKE EXECUTE ON ALL ROUTINES IN SCHEMA noetl FROM PUBLIC;
