-- put: write an object of one chunk
SELECT noetl.put_object($1, $2, $3, $4, $5, NULL);

-- begin: begin to write an object of several
INSERT INTO noetl.result_object (upload, key, chunk_bytes) VALUES ($1, $2, $3) ON CONFLICT (upload) DO NOTHING RETURNING 'begun';

-- put_chunk: write a chunk of an upload that is not finished
INSERT INTO noetl.result_chunk (upload, number, data)
SELECT o.upload, $2, $3 FROM noetl.result_object o WHERE o.upload = $1 AND o.bytes IS NULL FOR KEY SHARE ON CONFLICT DO NOTHING;

-- finish: make an upload the object of its key
SELECT noetl.finish_object($1, $2, $3, $4);

-- worker_put: write an object of one chunk below an execution of which the worker holds a lease
SELECT noetl.worker_put_object($1, $2, $3, $4, $5, $6);

-- worker_begin: begin to write an object of several below such an execution
SELECT noetl.worker_begin_object($1, $2, $3, $4);

-- worker_put_chunk: write a chunk of an upload that the worker has begun
SELECT noetl.worker_put_chunk($1, $2, $3, $4);

-- worker_finish: make an upload that the worker has begun the object of its key
SELECT noetl.worker_finish_object($1, $2, $3, $4, $5);

-- read: the part of an object that lies in one chunk, with the upload that it is of, and the size of the whole
SELECT upload, bytes, data FROM noetl.read_object($1, $2, $3);

-- read_chunk: such a part of an upload that was found before
SELECT data FROM noetl.read_chunk($1, $2, $3);

-- delete: delete an object, with all that was not finished under its key
DELETE FROM noetl.result_object WHERE key = :key;

-- keys: the keys with a prefix, also those of writes that did not end, from one on
SELECT DISTINCT key FROM noetl.result_object WHERE key >= :first AND key > :after AND key < :last ORDER BY key LIMIT CAST(:limit AS integer);
