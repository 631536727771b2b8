-- What becomes of a run of a schedule that is due while an earlier one still runs, runs that start a little later than
-- they are due, and runs for times in the past.

-- A table of its own: the release before reads every column of `schedule`. A schedule without a row has the defaults.
CREATE TABLE noetl.schedule_policy (
    schedule_id bigint PRIMARY KEY REFERENCES noetl.schedule ON DELETE CASCADE,
    overlap_policy text NOT NULL DEFAULT 'allow' CHECK (overlap_policy IN ('allow', 'skip', 'queue', 'cancel_running')),
    jitter_seconds integer NOT NULL DEFAULT 0 CHECK (jitter_seconds >= 0),
    -- no run is due before or after these
    start_at timestamptz,
    end_at timestamptz
);

ALTER TABLE noetl.schedule_fire
    -- when it may start; null: when it is due
    ADD COLUMN start_at timestamptz,
    ADD COLUMN backfill boolean NOT NULL DEFAULT false,
    -- why it was skipped; of an open run: why nobody is to start it
    ADD COLUMN reason text,
    -- of a backfill: when it was requested
    ADD COLUMN requested_at timestamptz,
    -- of a run that was started: its execution is known to have ended
    ADD COLUMN ended boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT schedule_fire_status_check,
    -- waiting: until no other run of the schedule runs
    ADD CONSTRAINT schedule_fire_status_check CHECK (status IN ('open', 'waiting', 'started', 'skipped', 'failed'));

CREATE INDEX schedule_fire_startable ON noetl.schedule_fire (coalesce(start_at, due_at)) WHERE status = 'open';
CREATE INDEX schedule_fire_owed ON noetl.schedule_fire (schedule_id, due_at) WHERE status IN ('open', 'waiting');
CREATE INDEX schedule_fire_waiting ON noetl.schedule_fire (schedule_id) WHERE status = 'waiting';
CREATE INDEX schedule_fire_running ON noetl.schedule_fire (schedule_id) WHERE status = 'started' AND NOT ended;
