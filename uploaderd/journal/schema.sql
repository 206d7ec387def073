-- The journal: what is known of each file, upload and part. Times are Unix seconds.
-- Ids are unique across machines; no meaning lies in rowids.

CREATE TABLE files (
    id           TEXT PRIMARY KEY,
    watch        TEXT NOT NULL,
    path         BLOB NOT NULL CHECK (length(path) > 0),
    dev          INTEGER NOT NULL,
    inode        TEXT NOT NULL,          -- 64 bits without a sign: more than INTEGER holds
    size         INTEGER NOT NULL CHECK (size >= 0),
    mtime_ns     INTEGER NOT NULL,
    ctime_ns     INTEGER NOT NULL,
    arrival      TEXT NOT NULL CHECK (arrival IN ('renamed', 'written', 'found')),
    target       TEXT NOT NULL,
    purpose      TEXT NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('settling', 'queued', 'uploading', 'completing',
                     'done', 'deferred', 'uncertain', 'held', 'failed', 'cancelled')),
    reason_code  TEXT NOT NULL,
    reason_text  TEXT NOT NULL,
    reason_until REAL,
    created      REAL NOT NULL,
    updated      REAL NOT NULL,
    changed      REAL NOT NULL,
    owner        TEXT NOT NULL,          -- who works on it
    version      INTEGER NOT NULL CHECK (version >= 1),   -- counts the transitions
    due          REAL,                   -- when it must be looked at again
    upload       TEXT REFERENCES uploads (key),
    remote_file  TEXT CHECK (remote_file <> ''),
    md5          TEXT CHECK (length(md5) = 32),
    result       TEXT,
    attempts     INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    deferrals    INTEGER NOT NULL DEFAULT 0 CHECK (deferrals >= 0),
    restarts     INTEGER NOT NULL DEFAULT 0 CHECK (restarts >= 0),
    bytes_sent   INTEGER NOT NULL DEFAULT 0 CHECK (bytes_sent >= 0),
    bytes_resent INTEGER NOT NULL DEFAULT 0 CHECK (bytes_resent >= 0),
    started      REAL,
    finished     REAL,
    filing       TEXT NOT NULL DEFAULT 'none' CHECK (filing IN ('none', 'pending', 'filed')),
    filed_as     BLOB,
    CHECK (state <> 'done' OR (remote_file IS NOT NULL AND md5 IS NOT NULL)),
    CHECK (state <> 'completing' OR (upload IS NOT NULL AND md5 IS NOT NULL)),
    CHECK (state <> 'uncertain' OR (upload IS NOT NULL AND md5 IS NOT NULL)),
    CHECK (filing = 'none' OR state IN ('done', 'failed')),
    CHECK (filing <> 'none' OR state NOT IN ('done', 'failed'))
) STRICT;

-- At a path there is one file at work; those that ended stay as history.
CREATE UNIQUE INDEX files_live ON files (watch, path)
    WHERE filing = 'pending' OR state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX files_path ON files (watch, path, created);
CREATE INDEX files_inode ON files (watch, inode)
    WHERE filing = 'pending' OR state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX files_state ON files (state, created, id);
CREATE INDEX files_due ON files (due) WHERE due IS NOT NULL;
CREATE INDEX files_created ON files (created, id);
CREATE INDEX files_unfiled ON files (filing) WHERE filing = 'pending';
CREATE UNIQUE INDEX files_remote ON files (target, remote_file)
    WHERE remote_file IS NOT NULL AND reason_code <> 'done.already_uploaded';
CREATE INDEX files_content ON files (watch, size, md5) WHERE state = 'done';

CREATE TABLE uploads (
    key            TEXT PRIMARY KEY,
    file           TEXT NOT NULL REFERENCES files (id),
    target         TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('creating', 'open', 'completing', 'completed',
                       'cancelling', 'cancelled', 'expired', 'lost')),
    filename       TEXT NOT NULL,
    purpose        TEXT NOT NULL,
    size           INTEGER NOT NULL CHECK (size > 0),
    part_bytes     INTEGER NOT NULL CHECK (part_bytes > 0),
    created        REAL NOT NULL,
    created_boot   REAL NOT NULL,
    boot_id        TEXT NOT NULL,
    life           REAL NOT NULL CHECK (life > 0),
    remote_id      TEXT CHECK (remote_id <> ''),
    server_created REAL,
    complete_sent  INTEGER NOT NULL DEFAULT 0 CHECK (complete_sent IN (0, 1)),
    CHECK (remote_id IS NOT NULL OR state IN ('creating', 'lost'))
) STRICT;

CREATE UNIQUE INDEX uploads_remote ON uploads (target, remote_id) WHERE remote_id IS NOT NULL;
CREATE INDEX uploads_file ON uploads (file);
CREATE INDEX uploads_cancelling ON uploads (created) WHERE state = 'cancelling';

CREATE TABLE parts (
    upload  TEXT NOT NULL REFERENCES uploads (key),
    number  INTEGER NOT NULL CHECK (number >= 1),
    offset  INTEGER NOT NULL CHECK (offset >= 0),
    length  INTEGER NOT NULL CHECK (length > 0),
    state   TEXT NOT NULL CHECK (state IN ('planned', 'in_flight', 'ambiguous', 'stored')),
    digest  BLOB CHECK (length(digest) = 16),
    part_id TEXT CHECK (part_id <> ''),
    sends   INTEGER NOT NULL DEFAULT 0 CHECK (sends >= 0),
    sent    INTEGER NOT NULL DEFAULT 0 CHECK (sent >= 0),
    PRIMARY KEY (upload, number),
    CHECK ((state = 'stored') = (part_id IS NOT NULL)),
    CHECK ((state = 'stored') = (digest IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX parts_id ON parts (upload, part_id) WHERE part_id IS NOT NULL;

-- Every attempt of every request, by the X-Client-Request-Id that it bore.
CREATE TABLE requests (
    id      TEXT PRIMARY KEY,
    file    TEXT NOT NULL REFERENCES files (id),
    upload  TEXT,
    call    TEXT NOT NULL,
    part    INTEGER,
    at      REAL NOT NULL,
    outcome TEXT                          -- empty until one is known
) STRICT, WITHOUT ROWID;

CREATE INDEX requests_file ON requests (file, at);

-- The history of each file, only ever appended to.
CREATE TABLE events (
    seq   INTEGER PRIMARY KEY,
    file  TEXT NOT NULL REFERENCES files (id),
    at    REAL NOT NULL,
    event TEXT NOT NULL,
    state TEXT NOT NULL,
    code  TEXT NOT NULL,
    text  TEXT NOT NULL
) STRICT;

CREATE INDEX events_file ON events (file, seq);
