"""The tables of a session's database, as numbered migrations.

Version N of the schema is what the first N migrations make; a new session is made by
all of them. Migrations only ever grow in number, and one that was released is never
changed: a session of each version opens for ever (see `connection.open_database`).

To change the schema, append a migration that adds tables. An earlier edgecell may be
writing the session at that moment, so no table of an earlier version may lose or gain
a column. Store a small session of the version before in tests/edge/record/sessions.

Logits are float32, little-endian, in the order of the model's classes. Boxes are
half-open, in pixels of the frame. Times without a note are UTC, ISO 8601.
"""

import functools
import sqlite3
from contextlib import closing

APPLICATION_ID = 0x65646765  # 'edge'

# {at} is the database that a statement is for: 'main', or 'temp' for a stand-in.
_RECORD = (
    """
    CREATE TABLE {at}.session (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        started TEXT NOT NULL,          -- UTC, ISO 8601
        source TEXT NOT NULL,
        version TEXT NOT NULL,          -- of edgecell
        model_sha256 TEXT NOT NULL,
        model TEXT NOT NULL,            -- JSON: the model file's record
        settings TEXT NOT NULL,         -- JSON
        ended TEXT,                     -- NULL: running, or broken off
        end_reason TEXT
    )
    """,
    """
    CREATE TABLE {at}.frames (
        frame INTEGER PRIMARY KEY,      -- number within the source
        name TEXT NOT NULL,
        time_s REAL,                    -- since the source's start; NULL for a still
        captured REAL NOT NULL,         -- seconds since 1970, UTC
        gate TEXT,                      -- why it was too poor to be looked at
        found INTEGER NOT NULL          -- cells found, those cut by the border too
    )
    """,
    """
    CREATE TABLE {at}.cells (
        cell INTEGER PRIMARY KEY,
        frame INTEGER NOT NULL REFERENCES frames,   -- where it was first seen whole
        same_as INTEGER REFERENCES cells            -- turned out to be this one
    )
    """,
    """
    CREATE TABLE {at}.sightings (         -- those on which a decision rests
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
    )
    """,
    """
    CREATE INDEX {at}.sightings_of_cell ON sightings (cell)
    """,
    """
    CREATE TABLE {at}.crops (         -- the part that --keep takes away
        sighting INTEGER PRIMARY KEY REFERENCES sightings,
        seen BLOB NOT NULL,             -- PNG: the network's view, lossless
        pixels BLOB NOT NULL            -- JPEG: the same square in the frame's pixels
    )
    """,
    """
    CREATE TABLE {at}.decisions (
        cell INTEGER PRIMARY KEY REFERENCES cells,
        frame INTEGER NOT NULL REFERENCES frames,   -- that made it what it is
        code TEXT,                      -- NULL: not classified
        probability REAL,
        reasons TEXT NOT NULL,          -- JSON list: why to review; [] if accepted
        votes INTEGER NOT NULL,
        logits BLOB                     -- mean over the votes
    )
    """,
)
_QUEUE = (
    """
    CREATE TABLE {at}.jobs (         -- explanations to make; see explain/queue.py
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
    )
    """,
    """
    CREATE TABLE {at}.explanations (
        job INTEGER PRIMARY KEY REFERENCES jobs,    -- one result a job
        heat BLOB NOT NULL,             -- float16 (S, S), little-endian, deflated
        scores TEXT NOT NULL,           -- JSON
        made TEXT NOT NULL              -- UTC, ISO 8601
    )
    """,
)


def _append_only(table: str) -> tuple[str, str]:
    """Statements that keep a table's rows as they were written."""
    body = f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
    return (
        f"CREATE TRIGGER {{at}}.{table}_kept BEFORE UPDATE ON {table} {body}",
        f"CREATE TRIGGER {{at}}.{table}_stay BEFORE DELETE ON {table} {body}",
    )


_TRAIL = (
    """
    CREATE TABLE {at}.namings (         -- what people called cells; see trail.py
        naming INTEGER PRIMARY KEY,
        act INTEGER NOT NULL,           -- cells that were named at once share it
        made TEXT NOT NULL,
        person TEXT NOT NULL,
        cell INTEGER NOT NULL REFERENCES cells,
        machine TEXT,                   -- the machine's class then; NULL: none
        before TEXT,                    -- label that held until then; NULL: none
        label TEXT,                     -- NULL: none any more
        comment TEXT NOT NULL,
        undoes INTEGER REFERENCES namings,
        version TEXT NOT NULL,          -- of edgecell
        model_sha256 TEXT NOT NULL
    )
    """,
    "CREATE INDEX {at}.namings_of_cell ON namings (cell)",
    """
    CREATE TRIGGER {at}.namings_are_not_changed BEFORE UPDATE ON namings
    BEGIN SELECT RAISE(ABORT, 'a naming is never changed'); END
    """,
    """
    CREATE TRIGGER {at}.namings_are_not_deleted BEFORE DELETE ON namings
    BEGIN SELECT RAISE(ABORT, 'a naming is never deleted'); END
    """,
    """
    CREATE TABLE {at}.drawn (           -- cells of the random sample, in its order
        place INTEGER PRIMARY KEY,
        cell INTEGER NOT NULL UNIQUE REFERENCES cells,
        made TEXT NOT NULL
    )
    """,
)
_PAGE = (
    """
    CREATE TABLE {at}.maps (            -- Grad-CAM of the sighting's own class
        sighting INTEGER PRIMARY KEY REFERENCES sightings,
        rows INTEGER NOT NULL,
        heat BLOB NOT NULL              -- uint8 (rows, columns); 255 is the hottest
    )
    """,
    """
    CREATE TABLE {at}.questions (       -- second opinions that were asked for
        question INTEGER PRIMARY KEY,
        made TEXT NOT NULL,
        person TEXT NOT NULL,
        cell INTEGER NOT NULL REFERENCES cells,
        after INTEGER NOT NULL          -- the trail's last naming then
    )
    """,
    """
    CREATE TABLE {at}.seen (            -- what each person has looked at
        person TEXT NOT NULL,
        cell INTEGER NOT NULL REFERENCES cells,
        made TEXT NOT NULL,
        PRIMARY KEY (person, cell)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE {at}.notes (           -- of the session; the last one holds
        note INTEGER PRIMARY KEY,
        made TEXT NOT NULL,
        person TEXT NOT NULL,
        sample TEXT NOT NULL,
        comment TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE {at}.reports (         -- that were signed; see report/signing.py
        report INTEGER PRIMARY KEY,
        made TEXT NOT NULL,
        content TEXT NOT NULL,          -- JSON
        sha256 TEXT NOT NULL            -- of content
    )
    """,
    """
    CREATE TABLE {at}.signatures (
        signature INTEGER PRIMARY KEY,
        report INTEGER NOT NULL REFERENCES reports,
        person TEXT NOT NULL,
        made TEXT NOT NULL,
        version TEXT NOT NULL,          -- of edgecell
        UNIQUE (report, person)
    )
    """,
    *_append_only("questions"),
    *_append_only("notes"),
    *_append_only("reports"),
    *_append_only("signatures"),
)
_OUTBOX = (
    """
    CREATE TABLE {at}.outbox (          -- results to send; see outbox/outbox.py
        message INTEGER PRIMARY KEY,
        control TEXT NOT NULL UNIQUE,   -- the receiver knows a repeated message by it
        target TEXT NOT NULL,
        result TEXT NOT NULL,           -- identifier of what it carries
        payload TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due REAL NOT NULL,              -- next attempt, seconds since 1970, UTC
        state TEXT NOT NULL DEFAULT 'waiting',      -- 'delivered' or 'rejected' later
        reason TEXT NOT NULL DEFAULT '',            -- why the last attempt failed
        UNIQUE (target, result)
    )
    """,
)
_GAPS = (
    """
    CREATE TABLE {at}.left_out (        -- analysed frames that were not recorded
        first INTEGER PRIMARY KEY,      -- number of the first frame
        last INTEGER NOT NULL,
        frames INTEGER NOT NULL,        -- how many between them
        why TEXT NOT NULL
    )
    """,
)
_MICROSCOPES = (
    """
    CREATE TABLE {at}.microscopes (     -- told from cells; see count/microscopes.py
        width INTEGER NOT NULL,         -- of the frames that it made, pixels
        height INTEGER NOT NULL,
        kind TEXT NOT NULL,             -- 'known', 'calibrated' or 'unknown'
        name TEXT,                      -- of an unknown one the nearest
        cells INTEGER NOT NULL,         -- that tell it
        score REAL NOT NULL,            -- their mean; 0 is usual
        usual REAL NOT NULL,            -- the highest one that is
        PRIMARY KEY (width, height)
    )
    """,
)
_MORPHOLOGY = (
    """
    CREATE TABLE {at}.morphology (      -- see edgecell/morphology
        sighting INTEGER PRIMARY KEY REFERENCES sightings,
        logits BLOB NOT NULL            -- of the attributes' values
    )
    """,
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _RECORD,
    _QUEUE,
    _TRAIL,
    _PAGE,
    _OUTBOX,
    _GAPS,
    _MICROSCOPES,
    _MORPHOLOGY,
)
SCHEMA_VERSION = len(MIGRATIONS)


def migrate(database: sqlite3.Connection) -> None:
    """Brings a database to the present schema, a new one too.

    Args:
        database: open for writing, within a transaction.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version >= SCHEMA_VERSION:
        return
    _make(database, version, "main")
    database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def is_ours(database: sqlite3.Connection, version: int) -> bool:
    """Whether tables and triggers are those that a version made, and no views.

    A table of that name that is a view, or a trigger of somebody else's, could keep a
    reader busy for ever, or change what is written.

    Args:
        database: an open one.
        version: 1 to `SCHEMA_VERSION`.
    """
    shape = _shape(database)
    expected = _expected_shape(version)
    ours = {name: columns for name, columns in shape.items() if name in expected}
    others = set(shape) - set(expected)
    return ours == expected and not any(kind == "trigger" for kind, _ in others)


def _shape(database: sqlite3.Connection) -> dict[tuple[str, str], object]:
    """Columns of each table and view, and text of each trigger, by kind and name."""
    shape: dict[tuple[str, str], object] = {}
    for kind, name, sql in database.execute(
        "SELECT type, name, sql FROM main.sqlite_master WHERE type <> 'index'"
    ).fetchall():
        if kind == "trigger":
            shape[kind, name] = " ".join(str(sql).split())
        else:
            columns = "SELECT * FROM pragma_table_xinfo(?)"
            shape[kind, name] = database.execute(columns, (name,)).fetchall()
    return shape


@functools.lru_cache
def _expected_shape(version: int) -> dict[tuple[str, str], object]:
    with closing(sqlite3.connect(":memory:")) as database:
        _make(database, 0, "main", version)
        return _shape(database)


def stand_in(database: sqlite3.Connection) -> None:
    """Gives a connection the tables that an earlier session lacks, empty.

    They belong to this connection only, in memory: the session's file is not changed.
    """
    (version,) = database.execute("PRAGMA user_version").fetchone()
    database.execute("PRAGMA temp_store = MEMORY")
    _make(database, version, "temp")


def _make(
    database: sqlite3.Connection, version: int, at: str, up_to: int | None = None
) -> None:
    for migration in MIGRATIONS[version:up_to]:
        for statement in migration:
            database.execute(statement.format(at=at))
