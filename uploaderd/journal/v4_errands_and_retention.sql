-- The runs of hooks that are owed for files that have ended. Files that had ended before this
-- version owe none.
CREATE TABLE errands (
    file     TEXT NOT NULL REFERENCES files (id),
    occasion TEXT NOT NULL CHECK (occasion IN ('done', 'failed')),
    command  TEXT NOT NULL,              -- a JSON array, as configured when the file ended
    state    TEXT NOT NULL CHECK (state IN ('owed', 'running', 'done', 'given_up')),
    attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due      REAL NOT NULL,
    outcome  TEXT NOT NULL DEFAULT '',   -- of the last run
    PRIMARY KEY (file, command)
) STRICT, WITHOUT ROWID;

CREATE INDEX errands_due ON errands (occasion, command, due) WHERE state = 'owed';
CREATE INDEX errands_open ON errands (state) WHERE state <> 'done';

-- What is forgotten is found by its age, and an upload that goes asks who points to it.
CREATE INDEX files_ended ON files (updated, id) WHERE filing = 'filed' OR state = 'cancelled';
CREATE INDEX files_upload ON files (upload) WHERE upload IS NOT NULL;
CREATE INDEX files_session ON files (target)
    WHERE upload IS NOT NULL AND state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX requests_at ON requests (at);
