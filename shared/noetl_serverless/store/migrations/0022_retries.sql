-- How often a dead letter was attempted before it was retried: `attempts` counts on from 0 then, as far as a further attempt
-- follows by itself, and what is shown is the sum. A release that does not know it shows the attempts since.
ALTER TABLE noetl.trigger_event ADD COLUMN attempts_before integer NOT NULL DEFAULT 0;
