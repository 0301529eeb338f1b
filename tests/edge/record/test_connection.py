"""Sessions of every schema open for ever. sessions/version-N.sqlite was written by the
edgecell of that time, from a part of the samples' bccd_2.jpg with one monocyte."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Literal

import pytest

from edgecell.edge.record import schema
from edgecell.edge.record.connection import open_database
from edgecell.edge.record.schema import SCHEMA_VERSION
from edgecell.edge.record.sessions import open_session
from edgecell.edge.record.store import Store
from edgecell.edge.record.trail import open_trail
from edgecell.errors import InputError, OutputError
from edgecell.explain.queue import open_queue
from tests.factories import SESSION, tracked

STORED = Path(__file__).parent / "sessions"
EARLIER = range(1, SCHEMA_VERSION)


@pytest.fixture(params=EARLIER)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    folder = tmp_path / f"version-{request.param}"
    folder.mkdir()
    shutil.copy(STORED / f"{folder.name}.sqlite", folder / "session.sqlite")
    return folder


def user_version(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "session.sqlite")) as database:
        return int(database.execute("PRAGMA user_version").fetchone()[0])


def tables_of(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "session.sqlite")) as database:
        rows = database.execute("SELECT name FROM sqlite_master").fetchall()
    return [name for (name,) in rows]


def test_each_earlier_version_has_its_stored_session() -> None:
    """Who adds a migration stores a session of the version before."""
    versions = {}
    for path in STORED.iterdir():
        with closing(sqlite3.connect(path)) as database:
            (versions[path.name],) = database.execute("PRAGMA user_version").fetchone()
    assert versions == {f"version-{n}.sqlite": n for n in EARLIER}


@pytest.mark.parametrize("writable", [True, False])
def test_an_earlier_session_is_read_and_stays(
    earlier: Path, writable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not writable:
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    before, version = (earlier / "session.sqlite").read_bytes(), user_version(earlier)
    with open_session(earlier) as session:
        (decision,) = session.decisions()
        (sighting,) = session.sightings(1)
    assert (decision.code, decision.votes, bool(decision.reasons)) == ("MO", 1, True)
    assert sighting.seen is not None
    with open_trail(earlier, "ro") as trail:
        named = [(n.person, n.label) for n in trail.namings()]
        assert named == ([("Anna", "LY"), ("Ben", "MO")] if version == 3 else [])
        assert trail.drawn() == ([1] if version == 3 else [])
    with open_queue(earlier, "ro") as queue:
        assert queue.status().done == (version > 1)
    assert (earlier / "session.sqlite").read_bytes() == before
    if not writable:
        assert [path.name for path in earlier.iterdir()] == ["session.sqlite"]


def test_an_earlier_session_is_migrated_where_it_is_written(earlier: Path) -> None:
    with open_session(earlier) as session:
        before = session.summary().to_dict() | {"bytes": 0}
    with open_trail(earlier) as trail:
        trail.name("Anna", [1], "LY")
    assert user_version(earlier) == SCHEMA_VERSION
    with open_session(earlier) as session:
        assert session.summary().to_dict() | {"bytes": 0} == before
    with open_trail(earlier, "ro") as trail:
        assert trail.reviewed() == {1: "LY"}


def test_a_migrated_session_is_as_a_new_one(earlier: Path, tmp_path: Path) -> None:
    with open_database(earlier, "rw"), Store(tmp_path / "new", SESSION):
        pass
    schemas = []
    for folder in (earlier, tmp_path / "new"):
        with open_database(folder, "ro") as database:
            rows = database.execute("SELECT name, sql FROM sqlite_master").fetchall()
            schemas.append(
                {name: " ".join(sql.split()) for name, sql in rows if sql}
                | {"": str(database.execute("PRAGMA application_id").fetchone())}
            )
    same = [
        {name: sql.split("--")[0] for name, sql in schema.items()} for schema in schemas
    ]
    assert same[0] == same[1]


@pytest.mark.parametrize("index", [True, False])
def test_a_killed_session_on_a_disk_that_takes_nothing(
    tmp_path: Path, index: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0), tracked(1)])
        shutil.copytree(tmp_path / "s", tmp_path / "killed")
    log = tmp_path / "killed" / "session.sqlite-wal"
    if not index:
        log.with_name("session.sqlite-shm").unlink()
    assert log.stat().st_size > 0
    before = sorted(path.name for path in (tmp_path / "killed").iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with open_session(tmp_path / "killed") as session:
        assert session.summary().frames == 2
        if not index:
            assert sorted(p.name for p in (tmp_path / "killed").iterdir()) == before


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_run_that_was_killed_while_it_made_its_file_is_told(
    tmp_path: Path, mode: Literal["ro", "rw"]
) -> None:
    made, killed = tmp_path / "made.sqlite", tmp_path / "s" / "session.sqlite"
    with closing(sqlite3.connect(made, isolation_level=None)) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("PRAGMA cache_size = 1")
        database.execute("BEGIN")
        for _ in range(100):  # more than the cache: the file changes before its COMMIT
            database.execute("INSERT INTO t VALUES (zeroblob(4000))")
        killed.parent.mkdir()
        shutil.copy(made, killed)
        shutil.copy(f"{made}-journal", f"{killed}-journal")
    with pytest.raises(InputError, match="broken off before it began"):
        with open_database(killed.parent, mode):
            pass
    assert killed.with_name("session.sqlite-journal").exists(), "it is not played back"


@pytest.mark.parametrize(
    ("column", "value"),
    [("source", "zeroblob(9)"), ("started", "x'00ff'"), ("end_reason", "x''")],
)
def test_bytes_where_text_belongs_are_told(
    tmp_path: Path, column: str, value: str
) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0)])
    with closing(sqlite3.connect(tmp_path / "s" / "session.sqlite")) as database:
        database.execute(f"UPDATE session SET {column} = {value}")
        database.commit()
    modes: tuple[Literal["ro"], Literal["rw"]] = ("ro", "rw")
    for mode in modes:
        with (
            pytest.raises(InputError, match=f"cannot be read: {column} holds bytes"),
            open_database(tmp_path / "s", mode) as database,
        ):
            database.execute(f"SELECT {column} FROM session").fetchone()


def test_other_values_in_columns_of_numbers_are_told(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0)])
    with closing(sqlite3.connect(tmp_path / "s" / "session.sqlite")) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        database.execute("UPDATE frames SET captured = 'soon'")
        database.commit()
    with (
        pytest.raises(InputError, match="'soon' is not a number"),
        open_database(tmp_path / "s", "ro") as database,
    ):
        database.execute("SELECT captured FROM frames").fetchall()


def test_a_migration_that_fails_changes_nothing(
    earlier: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (*schema.MIGRATIONS, ("CREATE TABLE {at}.one (x)", "CREATE TABLE oops"))
    monkeypatch.setattr(schema, "MIGRATIONS", broken)
    version, tables = user_version(earlier), tables_of(earlier)
    with (
        pytest.raises(InputError, match="cannot be read"),
        open_database(earlier, "rw"),
    ):
        pass
    assert (user_version(earlier), tables_of(earlier)) == (version, tables)


def write_nothing(folder: Path) -> None:
    with open_database(folder, "rw") as database:
        database.execute("PRAGMA query_only = ON")  # as a disk that is read-only
        database.execute("DELETE FROM cells")


def test_a_disk_that_takes_nothing_is_told_as_one(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION, None) as store:
        store.end("stopped")
    with pytest.raises(OutputError, match="cannot be written: attempt to write"):
        write_nothing(tmp_path / "s")
