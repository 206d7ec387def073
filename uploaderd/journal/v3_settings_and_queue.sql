-- What the operator said, across restarts.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Who goes on with a session comes first, and the open sessions are summed at each admission.
CREATE INDEX files_resume ON files (created, id) WHERE state = 'queued' AND upload IS NOT NULL;
CREATE INDEX uploads_open ON uploads (file) WHERE state = 'open';
