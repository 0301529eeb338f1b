"""Sessions that are damaged, or that somebody changed: one line, and no hang."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecell.cli import cli
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.policy import Policy
from edgecell.edge.record.review import Review
from edgecell.edge.record.sessions import RecordedSession, open_session
from edgecell.edge.record.store import Store
from edgecell.edge.record.trail import Trail
from edgecell.edge.record.waiting import LeftOut
from edgecell.edge.report import export
from edgecell.edge.report.listing import cells_csv, cells_in_short
from edgecell.errors import InputError, OutputError
from edgecell.explain.methods import Explanation
from edgecell.explain.queue import JobQueue, open_queue
from tests.factories import SESSION, tracked

EXAMPLES = int(os.environ.get("EDGECELL_FUZZ", "25"))
"""Mutations of each kind; 2,000 were once tried."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session with a row in each table of the record, the trail and the queue."""
    folder = tmp_path_factory.mktemp("sound") / "s"
    with Store(folder, SESSION, policy=Policy("all", 0, ("lime",))) as store:
        store.write([tracked(0), tracked(1), tracked(2, gate="blurred")])
        store.write([tracked(9)], [LeftOut(3, 8, 6, "the disk is too slow")])
        store.end("end of source")
    with open_database(folder, "rw") as database:
        trail = Trail(folder, database)
        trail.name("Anna", [1, 2], "EO", "granules")
        trail.undo("Anna")
        trail.draw(2)
        Review(folder, database).ask("Anna", [1])
    with open_queue(folder) as queue:
        (job,) = queue.claim()
        heat = np.zeros((32, 32), np.float32)
        queue.acknowledge(job, Explanation("lime", 11, heat, {"fit": 0.5}))
    return folder


def readings_of(folder: Path) -> Iterator[Callable[[], object]]:
    """All that is ever read of a session."""

    def recorded(read: Callable[[RecordedSession], object]) -> Callable[[], object]:
        def do() -> object:
            with open_session(folder) as session:
                return json.dumps(read(session), default=str)

        return do

    yield recorded(lambda s: s.summary().to_dict())
    yield recorded(lambda s: s.readings().to_dict())
    yield recorded(lambda s: [s.decision(n) for n in (1, 2, 10)])
    yield recorded(lambda s: [x.to_dict() for n in (1, 3) for x in s.sightings(n)])
    yield recorded(lambda s: cells_csv(cells_in_short(s)))
    yield recorded(lambda s: [n.to_dict() for n in s.trail.namings()])
    yield recorded(lambda s: (s.trail.drawn(), s.trail.reviewed()))

    def exported() -> object:
        with tempfile.TemporaryDirectory() as out, open_session(folder) as session:
            cells = export.wanted_cells(session, session.trail, True, None)
            return export.export_cells(session, session.trail, cells, Path(out))

    yield exported

    def reviewed() -> object:
        with open_database(folder, "rw") as database:
            review = Review(folder, database)
            review.trail.name("Ben", [1], "MO")
            review.trail.undo("Ben")
            return review.looks("Ben"), review.explained(1)

    yield reviewed

    def queued(do: Callable[[JobQueue], object]) -> Callable[[], object]:
        def work() -> object:
            with open_queue(folder) as queue:
                return do(queue)

        return work

    yield queued(lambda queue: queue.status().to_dict())
    yield queued(lambda queue: list(queue.results()))
    yield queued(lambda queue: queue.claim())


def check(folder: Path) -> None:
    """Reads everything; nothing but our own errors comes of it."""
    for read in readings_of(folder):
        with suppress(InputError, OutputError):
            read()


def change(sound: Path, statement: str, values: tuple[Any, ...] = ()) -> Path:
    """A copy of a session in which a statement was run."""
    folder = Path(tempfile.mkdtemp(dir=sound.parent)) / "v"
    shutil.copytree(sound, folder)
    with closing(sqlite3.connect(folder / "session.sqlite")) as database:
        with suppress(sqlite3.IntegrityError):  # the trail defends itself
            database.execute(statement, values)
        database.commit()
    return folder


def columns(sound: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(sound / "session.sqlite")) as database:
        tables = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'"
        ).fetchall()
        return [
            (table, row[1])
            for (table,) in tables
            for row in database.execute(f"PRAGMA table_info({table})")
        ]


def test_a_sound_session_is_read_in_every_way(sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    shutil.copytree(sound, folder)
    for read in readings_of(folder):
        assert read() is not None


VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-3, 20),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.binary(max_size=64),
    st.sampled_from(["{", "[[[[", "null", "[1]", '{"a": 1}', "9" * 400, "\x1b[2J"]),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_any_value_in_any_column(sound: Path, data: st.DataObject) -> None:
    table, column = data.draw(st.sampled_from(columns(sound)))
    value = data.draw(VALUES)
    which = data.draw(st.sampled_from(["", " WHERE rowid = 1"]))
    if table == "seen":
        which = ""
    try:
        folder = change(sound, f"UPDATE {table} SET {column} = ?{which}", (value,))
    except (OverflowError, UnicodeEncodeError, sqlite3.DatabaseError):
        return  # SQLite itself refuses it
    try:
        check(folder)
    finally:
        shutil.rmtree(folder.parent)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), max_size=8),
    length=st.one_of(st.none(), st.integers(0, 2**18)),
)
def test_any_byte_of_the_file(
    sound: Path, flips: list[tuple[int, int]], length: int | None
) -> None:
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "v"
        shutil.copytree(sound, folder)
        path = folder / "session.sqlite"
        content = bytearray(path.read_bytes())
        for place, mask in flips:
            content[place % len(content)] ^= mask
        path.write_bytes(content[:length])
        check(folder)


@pytest.mark.parametrize("table", ["session", "frames", "cells", "decisions",
                                   "sightings", "crops", "jobs"])  # fmt: skip
def test_any_table_empty_or_away(sound: Path, table: str) -> None:
    check(change(sound, f"DELETE FROM {table}"))
    folder = change(sound, f"ALTER TABLE {table} RENAME TO elsewhere")
    with (
        pytest.raises(InputError, match="not those of a session"),
        open_session(folder),
    ):
        pass


HOSTILE = [
    "CREATE VIEW crops AS WITH RECURSIVE a(sighting) AS (SELECT 1 UNION ALL "
    "SELECT sighting + 1 FROM a) SELECT sighting, x'00' AS seen, x'00' AS pixels "
    "FROM a",
    "CREATE TABLE crops (sighting INTEGER PRIMARY KEY, seen BLOB, "
    "pixels BLOB AS (seen))",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_tables_that_are_no_tables_are_refused(sound: Path, statement: str) -> None:
    folder = change(sound, "DROP TABLE crops")
    with closing(sqlite3.connect(folder / "session.sqlite")) as database:
        database.execute(statement)
    with (
        pytest.raises(InputError, match="not those of a session"),
        open_session(folder),
    ):
        pass


@pytest.mark.parametrize("name", ["mine", "namings_are_not_changed"])
def test_triggers_of_others_are_refused(sound: Path, name: str) -> None:
    folder = change(sound, f"DROP TRIGGER IF EXISTS {name}")
    with closing(sqlite3.connect(folder / "session.sqlite")) as database:
        database.execute(
            f"CREATE TRIGGER {name} AFTER INSERT ON namings BEGIN "
            "UPDATE decisions SET code = 'BA'; END"
        )
    with (
        pytest.raises(InputError, match="not those of a session"),
        open_session(folder),
    ):
        pass


def test_other_tables_harm_nobody(sound: Path) -> None:
    folder = change(sound, "CREATE TABLE theirs (x)")
    for read in readings_of(folder):
        read()


def test_cells_that_are_one_another_in_a_circle(sound: Path) -> None:
    folder = change(sound, "UPDATE cells SET same_as = 3 - cell WHERE cell < 3")
    check(folder)
    with open_session(folder) as session, pytest.raises(InputError, match="no cell 1"):
        session.decision(1)


def test_a_map_that_unpacks_to_gigabytes(sound: Path) -> None:
    import zlib

    bomb = zlib.compress(bytes(50_000_000), 9)
    folder = change(sound, "UPDATE explanations SET heat = ?", (bomb,))
    with open_queue(folder) as queue:
        assert len(list(queue.results())) == 1


def test_one_damaged_session_spoils_no_list(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "sound")
    for number, statement in enumerate((
        "DELETE FROM session",
        "UPDATE session SET settings = '{'",
        "UPDATE session SET model = '{}'",
        "UPDATE session SET model = replace(hex(zeroblob(99999)), '00', '[')",
        "UPDATE session SET source = cast(x'ff41' AS TEXT)",
    )):  # fmt: skip
        shutil.move(change(sound, statement), tmp_path / f"bad{number}")
    result = CliRunner().invoke(cli, ["session", "list", str(tmp_path), "--json", "-"])
    assert result.exit_code == 0
    listed = json.loads(result.output)
    assert [s["folder"] for s in listed["sessions"]] == [str(tmp_path / "sound")]
    assert len(listed["unreadable"]) == 5


def test_nothing_of_a_session_steers_the_terminal(sound: Path) -> None:
    folder = change(sound, "UPDATE frames SET name = char(27) || ']0;x' || char(7)")
    for arguments in (("trace", folder, 1), ("show", folder)):
        result = CliRunner().invoke(cli, ["session", *map(str, arguments)])
        assert result.exit_code == 0
        assert "\x1b" not in result.output
        assert "\x07" not in result.output
