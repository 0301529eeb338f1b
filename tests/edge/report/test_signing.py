import csv
import hashlib
import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Review
from edgecell.edge.record.store import Store
from edgecell.edge.report.content import ORDER, report_csv
from edgecell.edge.report.signing import Note, Reports
from edgecell.errors import InputError
from tests.factories import SESSION, tracked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(i, reasons=("low confidence",)) for i in range(6)])
        store.end("stopped")
    return tmp_path / "s"


@contextmanager
def reporting(folder: Path) -> Iterator[Reports]:
    with open_database(folder, "rw") as database:
        yield Reports(Review(folder, database))


def name_all(reports: Reports, label: str = "LY") -> None:
    waiting = [look.cell for look in reports.review.looks("") if look.waits]
    reports.review.trail.name("ann", waiting, label)


def test_signing_is_refused_while_cells_wait(folder: Path) -> None:
    with reporting(folder) as reports:
        draft = reports.draft()
        assert draft.waiting == 6
        with pytest.raises(InputError, match="cells wait to be reviewed: 6;"):
            reports.sign("ann", draft.sha256)
        assert reports.last() is None


def test_a_signed_report_is_frozen_and_a_change_makes_a_new_version(
    folder: Path,
) -> None:
    with reporting(folder) as reports:
        name_all(reports)
        first = reports.sign("ann", reports.draft().sha256)
        assert (first.version, [s.person for s in first.signatures]) == (1, ["ann"])
        assert reports.is_current(first)
        reports.review.trail.name("bob", [1], "MO")
        assert not reports.is_current(first)
        assert reports.signed()[0] == first
        second = reports.sign("bob", reports.draft().sha256)
        assert second.version == 2
        assert reports.signed()[0] == first
        assert second.content["readings"]["reviewed"]["white_cells"] == 6


def test_two_people_may_sign_one_version_each_once(folder: Path) -> None:
    with reporting(folder) as reports:
        name_all(reports)
        seen = reports.draft().sha256
        reports.sign("ann", seen)
        with pytest.raises(InputError, match="already"):
            reports.sign("ann", seen)
        both = reports.sign("bob", seen)
        assert (both.version, len(both.signatures)) == (1, 2)
        with pytest.raises(InputError, match="two people"):
            reports.sign("eve", seen)


def test_nobody_signs_what_they_were_not_shown(folder: Path) -> None:
    with reporting(folder) as reports:
        name_all(reports)
        seen = reports.draft().sha256
        reports.set_note("bob", Note("S-17", ""))
        with pytest.raises(InputError, match="changed since"):
            reports.sign("ann", seen)


def test_a_running_session_is_not_signed(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0, reasons=("low confidence",))])
        with reporting(tmp_path / "s") as reports:
            name_all(reports)
            with pytest.raises(InputError, match="running"):
                reports.sign("ann", reports.draft().sha256)


def test_a_session_that_was_broken_off_can_be_signed(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0, age_s=3600)])
    with reporting(tmp_path / "s") as reports:
        signed = reports.sign("ann", reports.draft().sha256)
    assert signed.content["session"]["ended"] is None


def test_the_hash_is_that_of_what_is_stored_and_rows_stay(folder: Path) -> None:
    with reporting(folder) as reports:
        name_all(reports)
        signed = reports.sign("ann", reports.draft().sha256)
        database = reports.review.database
        (content,) = database.execute("SELECT content FROM reports").fetchone()
        assert hashlib.sha256(content.encode()).hexdigest() == signed.sha256
        assert len(json.loads(content)["cells"]) == 6
        for change in (
            "UPDATE reports SET content = ''",
            "DELETE FROM reports",
            "UPDATE signatures SET person = 'eve'",
            "DELETE FROM signatures",
            "DELETE FROM notes",
        ):
            reports.set_note("ann", Note("x"))
            with pytest.raises(sqlite3.IntegrityError, match="never changed"):
                database.execute(change)


def test_the_table_has_the_laboratorys_order(folder: Path) -> None:
    with reporting(folder) as reports:
        name_all(reports, "other: LYA")
        table = list(csv.DictReader(io.StringIO(report_csv(reports.draft().to_dict()))))
    classes = [row["class"] for row in table]
    assert classes == [*ORDER, "other", "ERB", "PLT"]
    other = table[classes.index("other")]
    assert (other["accepted count"], other["reviewed count"]) == ("", "6")
    assert other["reviewed percent"] == "100.0"
