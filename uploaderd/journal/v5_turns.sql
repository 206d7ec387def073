-- Each turn of the loops asks for what is due, queued or held: watch by watch, state by state and
-- target by target, so that nobody reads a million files that are not meant.
DROP INDEX files_due;
CREATE INDEX files_turn ON files (watch, state, due, id) WHERE due IS NOT NULL;
CREATE INDEX files_queue ON files (target, watch, created, id)
    WHERE state = 'queued' AND upload IS NULL;
CREATE INDEX files_held ON files (target, reason_code, created, id) WHERE state = 'held';
CREATE INDEX files_waiting ON files (watch, id) WHERE state IN ('deferred', 'held');
