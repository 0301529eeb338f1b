"""Runs from their settings: what observers are told, and what controls do."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import Observer, Run, open_run
from edgecell.edge.record.sessions import open_session
from edgecell.edge.report.export import session_key
from edgecell.edge.show.health import Health
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame, Skipped
from edgecell.edge.sources.still import read_image
from edgecell.errors import InputError, OutputError
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model
from tests.factories import rows

FRAMES = [read_image(path) for path in sorted((SAMPLES / "frames").glob("bccd*"))]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(bundled_model())


class Fields:
    """Shows one field after the other, as images; calls back before each."""

    name = "fields"
    live = False

    def __init__(self, frames: int, before: Callable[[int], None]) -> None:
        self.total: int | None = frames
        self.skipped = Skipped()
        self._before = before

    def __enter__(self) -> "Fields":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __iter__(self) -> Iterator[Frame | None]:
        assert self.total is not None
        for i in range(self.total):
            self._before(i)
            yield Frame(i, None, FRAMES[i % len(FRAMES)], f"{i}.jpg")


class Notes(Observer):
    """Notes what it is told, and does something at each frame."""

    def __init__(self, at_frame: Callable[[Run, int], None] = lambda *_: None) -> None:
        self.begun_in: list[Path] = []
        self.frames: list[int] = []
        self.told: list[Health] = []
        self._at_frame = at_frame

    def begun(self, run: Run) -> None:
        self.run = run
        self.begun_in.append(run.out)
        assert (run.out / "session.sqlite").exists()

    def turn(self, tracked: TrackedFrame | None) -> None:
        if tracked is not None:
            assert self.run.newest is tracked
            self.frames.append(tracked.result.frame.index)
            self._at_frame(self.run, self.frames[-1])

    def health(self, health: Health) -> None:
        self.told.append(health)


def run_of(classifier: Classifier, out: Path, frames: int = 6, **settings: Any) -> Run:
    config = LoopConfig("fields", out=out, **settings)
    return open_run(config, Fields(frames, lambda _: None), classifier)


def test_every_frame_is_told_and_the_results_are_written(
    classifier: Classifier, tmp_path: Path
) -> None:
    notes = Notes()
    run = run_of(classifier, tmp_path / "o")
    assert (run.newest, run.picture(), run.health()) == (None, None, None)
    (session,) = run.go([notes, Observer()])
    assert notes.frames == list(range(6))
    assert notes.begun_in == [tmp_path / "o"] == [session.out]
    assert notes.told[-1].analysed == 6
    assert session.tally.ended == "end of source"
    assert (session.recorded, session.error) == (6, None)
    written = json.loads((tmp_path / "o" / "differential.json").read_text())
    assert (
        written == session.differential.to_dict() == session.to_dict()["differential"]
    )
    assert (tmp_path / "o" / "differential.csv").read_text().startswith("class,")
    picture, frame = run.picture(), FRAMES[5 % len(FRAMES)]
    assert picture is not None
    assert picture.shape[0] > frame.shape[0]
    assert session.tally.waited_s < session.tally.seconds


def test_a_run_that_is_stopped_ends_after_the_frame_in_hand(
    classifier: Classifier, tmp_path: Path
) -> None:
    notes = Notes(lambda run, frame: run.stop() if frame == 2 else None)
    (session,) = run_of(classifier, tmp_path / "o").go([notes])
    assert session.tally.ended == "stopped"
    assert notes.frames[-1] in (2, 3)
    early = run_of(classifier, tmp_path / "e")
    early.stop()
    (session,) = early.go()
    assert (session.tally.ended, session.tally.frames) == ("stopped", 0)


def test_a_new_slide_is_a_session_of_its_own_and_loses_no_frame(
    classifier: Classifier, tmp_path: Path
) -> None:
    notes = Notes(lambda run, frame: run.new_slide() if frame == 1 else None)
    out = tmp_path / "o"
    first, second = run_of(classifier, out, target=50).go([notes])
    assert notes.frames == list(range(6))
    assert notes.begun_in == [out, tmp_path / "o-2"]
    assert (first.tally.ended, second.tally.ended) == ("new slide", "end of source")
    kept = [
        [frame for (frame,) in rows(session.out, "SELECT frame FROM frames")]
        for session in (first, second)
    ]
    assert [*kept[0], *kept[1]] == list(range(6))
    assert 2 <= len(kept[0]) <= 3, "the frame in hand, and one that was ahead"
    cells = rows(second.out, "SELECT min(cell) FROM cells")
    assert cells == [(1,)], "numbers begin anew"
    assert rows(first.out, "SELECT end_reason FROM session") == [("new slide",)]


def test_sessions_of_one_second_are_told_apart(
    classifier: Classifier, tmp_path: Path
) -> None:
    keys: list[str] = []
    for name in ("a", "b", "a"):
        out = tmp_path / name
        if not out.exists():
            run_of(classifier, out, frames=1).go()
        with closing(sqlite3.connect(out / "session.sqlite")) as database, database:
            database.execute("UPDATE session SET started = '2026-11-26T20:00:00+00:00'")
        shutil.copytree(out, tmp_path / f"copy-{len(keys)}")
        with open_session(tmp_path / f"copy-{len(keys)}") as session:
            keys.append(session_key(session))
    assert keys[0] == keys[2] != keys[1]


def test_while_it_is_paused_no_frame_is_taken(
    classifier: Classifier, tmp_path: Path
) -> None:
    idle: list[int] = []

    class Patient(Notes):
        def turn(self, tracked: TrackedFrame | None) -> None:
            super().turn(tracked)
            if tracked is None and self.run.paused:
                idle.append(len(self.frames))
                if len(idle) == 3:
                    self.run.resume()

    notes = Patient(lambda run, frame: run.pause() if frame == 1 else None)
    run_of(classifier, tmp_path / "o").go([notes])
    assert notes.frames == list(range(6))
    assert len(set(idle)) == 1, "no frame came meanwhile"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"red_cell_px": 1.0}, "red cell"),
        ({"threads": 0}, "threads must be 1 to 64"),
        ({"threads": 65}, "threads must be 1 to 64"),
        ({"target": 0}, "target must be at least 1"),
        ({"max_frames": -1}, "max_frames must be at least 1"),
        ({"keep_bytes": 1, "video": Path("f.avi")}, "leave out one"),
        ({"explain": "some"}, "which cells to explain"),
        ({"explain": "sample:0"}, "which cells to explain"),
        ({"explain_by": ("grad-cam",)}, "not a method that can be queued"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        LoopConfig("demo", **settings)


def test_results_that_cannot_be_written_are_refused_before_the_run(
    tmp_path: Path,
) -> None:
    with pytest.raises(OutputError, match=r"end in \.avi"):
        open_run(LoopConfig("demo", video=tmp_path / "f.mp4"))
    with pytest.raises(OutputError, match="is a folder"):
        open_run(LoopConfig("demo", health_file=tmp_path))
