import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edgecell.edge.record.connection import open_database
from edgecell.edge.record.review import Look, Review
from edgecell.edge.record.store import Store
from edgecell.errors import InputError, OutputError
from tests.factories import SESSION, tracked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Cells 1 to 6, each seen once."""
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(i) for i in range(6)])
        store.end("stopped")
    return tmp_path / "s"


@contextmanager
def reviewing(folder: Path) -> Iterator[Review]:
    with open_database(folder, "rw") as database:
        yield Review(folder, database)


def look(review: Review, cell: int, person: str = "ann") -> Look:
    return next(k for k in review.looks(person) if k.cell == cell)


def test_a_look_says_what_the_machine_says(folder: Path) -> None:
    with reviewing(folder) as review:
        (decision, *_) = review.session.decisions()
        got = look(review, 1)
        assert (got.code, got.probability) == (decision.code, decision.probability)
        assert got.top[0][0] == decision.code
        assert [p for _, p in got.top] == sorted((p for _, p in got.top), reverse=True)
        assert got.waits == bool(decision.reasons)
        assert got.sighting is not None
        jpeg = review.crop(got.sighting)
        assert jpeg is not None
        assert jpeg.startswith(b"\xff\xd8")


def test_the_map_is_kept_to_a_level_of_255(folder: Path) -> None:
    heat = tracked(0).result.cells[0].heat
    assert heat is not None
    with reviewing(folder) as review:
        kept = review.heat(look(review, 1).sighting or 0)
    assert kept is not None
    assert kept == pytest.approx(heat, abs=0.5 / 255)


def test_accepting_gives_each_cell_the_machines_class_in_one_act(folder: Path) -> None:
    with reviewing(folder) as review:
        rows = review.accept("ann", [1, 2])
        said = {d.cell: d.code for d in review.session.decisions()}
        assert {n.cell: n.label for n in rows} == {1: said[1], 2: said[2]}
        assert len({n.act for n in rows}) == 1
        assert len(review.trail.undo("ann")) == 2
        assert look(review, 1).label is None


def test_what_was_seen_is_kept_per_person(folder: Path) -> None:
    with reviewing(folder) as review:
        review.saw("ann", [1, 2])
        review.saw("ann", [2])
        assert [k.cell for k in review.looks("ann") if k.seen] == [1, 2]
        assert not any(k.seen for k in review.looks("bob"))


def test_a_second_opinion_is_open_until_another_person_gives_one(folder: Path) -> None:
    with reviewing(folder) as review:
        review.trail.name("bob", [1], "LY")  # before: that is no answer
        review.ask("ann", [1])
        assert look(review, 1).asked == "ann"
        review.trail.name("ann", [1], "MO")
        assert look(review, 1).asked == "ann"
        assert look(review, 1).differ
        review.trail.name("bob", [1], "MO")
        assert look(review, 1).asked == ""
        assert not look(review, 1).differ
        assert [n.label for n in review.trail.namings(1)] == ["LY", "MO", "MO"]


def test_an_explanation_is_asked_for_once_and_shown_when_made(folder: Path) -> None:
    with reviewing(folder) as review:
        review.explain(1, "lime")
        review.explain(1, "lime")
        (waiting,) = review.explained(1)
        assert (waiting.method, waiting.heat) == ("lime", None)
        size = review.session.model.preprocessing.input_size
        heat = np.linspace(-1, 1, size * size, dtype="<f2").reshape(size, size)
        review.database.execute(
            "INSERT INTO explanations VALUES (1, ?, '{}', '')",
            (zlib.compress(heat.tobytes()),),
        )
        (made,) = review.explained(1)
        assert made.heat == pytest.approx(heat.astype(np.float32))


def test_others_are_told_that_there_is_something_new(folder: Path) -> None:
    with reviewing(folder) as review:
        before = review.newest()
        review.saw("ann", [1])
        assert review.newest() == before
        review.trail.name("ann", [1], "LY")
        review.ask("ann", [2])
        assert review.newest() == before + 2


def test_unknown_cells_and_a_read_only_file_are_told(folder: Path) -> None:
    with reviewing(folder) as review, pytest.raises(InputError, match="no class"):
        review.accept("ann", [99])
    with open_database(folder, "ro") as database:
        review = Review(folder, database)
        with pytest.raises(OutputError, match="readonly"):
            review.ask("ann", [1])
