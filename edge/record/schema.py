"""The tables of a session's database, which store.py writes and sessions.py reads."""

APPLICATION_ID = 0x65646765  # 'edge'
SCHEMA_VERSION = 2

# Logits are float32, little-endian, in the order of the model's classes. Boxes are
# half-open, in pixels of the frame.
SCHEMA = """
CREATE TABLE session (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    started TEXT NOT NULL,          -- UTC, ISO 8601
    source TEXT NOT NULL,
    version TEXT NOT NULL,          -- of edgecell
    model_sha256 TEXT NOT NULL,
    model TEXT NOT NULL,            -- JSON: the model file's record
    settings TEXT NOT NULL,         -- JSON
    ended TEXT,                     -- NULL: running, or broken off
    end_reason TEXT
);
CREATE TABLE frames (
    frame INTEGER PRIMARY KEY,      -- number within the source
    name TEXT NOT NULL,
    time_s REAL,                    -- since the source's start; NULL for a still
    captured REAL NOT NULL,         -- seconds since 1970, UTC
    gate TEXT,                      -- why it was too poor to be looked at
    found INTEGER NOT NULL          -- cells found, those cut by the border too
);
CREATE TABLE cells (
    cell INTEGER PRIMARY KEY,
    frame INTEGER NOT NULL REFERENCES frames,   -- where it was first seen whole
    same_as INTEGER REFERENCES cells            -- turned out to be this one
);
CREATE TABLE sightings (            -- those on which a decision rests
    sighting INTEGER PRIMARY KEY,
    frame INTEGER NOT NULL REFERENCES frames,
    cell INTEGER NOT NULL REFERENCES cells,
    kind TEXT NOT NULL,
    x0 INTEGER NOT NULL, y0 INTEGER NOT NULL,
    x1 INTEGER NOT NULL, y1 INTEGER NOT NULL,
    crop_x0 INTEGER NOT NULL, crop_y0 INTEGER NOT NULL,
    crop_x1 INTEGER NOT NULL, crop_y1 INTEGER NOT NULL,
    red_cell_px REAL NOT NULL,
    age_ms REAL NOT NULL,           -- of the frame when the cell was classified
    gate TEXT,                      -- why it was too poor to be classified
    logits BLOB,                    -- NULL then
    UNIQUE (frame, cell)
);
CREATE INDEX sightings_of_cell ON sightings (cell);
CREATE TABLE crops (                -- the part that --keep takes away
    sighting INTEGER PRIMARY KEY REFERENCES sightings,
    seen BLOB NOT NULL,             -- PNG: the network's view, lossless
    pixels BLOB NOT NULL            -- JPEG: the same square in the frame's pixels
);
CREATE TABLE decisions (
    cell INTEGER PRIMARY KEY REFERENCES cells,
    frame INTEGER NOT NULL REFERENCES frames,   -- that made it what it is
    code TEXT,                      -- NULL: not classified
    probability REAL,
    reasons TEXT NOT NULL,          -- JSON list: why to review; [] if accepted
    votes INTEGER NOT NULL,
    logits BLOB                     -- mean over the votes
);
CREATE TABLE jobs (                 -- explanations to make; see explain/queue.py
    job INTEGER PRIMARY KEY,
    cell INTEGER NOT NULL REFERENCES cells,
    sighting INTEGER NOT NULL REFERENCES sightings,
    method TEXT NOT NULL,
    code TEXT NOT NULL,             -- the class to explain
    seed INTEGER NOT NULL,
    claims INTEGER NOT NULL DEFAULT 0,          -- by workers, not handed back
    failures INTEGER NOT NULL DEFAULT 0,
    error TEXT,                     -- the last one
    holder TEXT,                    -- the worker that has it, until
    lease_until REAL,               -- seconds since 1970, UTC
    UNIQUE (cell, method)
);
CREATE TABLE explanations (
    job INTEGER PRIMARY KEY REFERENCES jobs,    -- one result a job
    heat BLOB NOT NULL,             -- float16 (S, S), little-endian, deflated
    scores TEXT NOT NULL,           -- JSON
    made TEXT NOT NULL              -- UTC, ISO 8601
);
"""
