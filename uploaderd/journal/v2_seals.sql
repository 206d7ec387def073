-- A part's digest is proved by reading the file, its id by nothing: the seal tells of flipped bits.

ALTER TABLE parts ADD COLUMN seal BLOB CHECK (length(seal) = 8);

UPDATE parts SET seal = part_seal(upload, number, offset, length, digest, part_id)
    WHERE state = 'stored';
