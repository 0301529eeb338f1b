import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from edgecell import __version__
from edgecell.classes import NOT_A_CELL
from edgecell.edge.record.store import Store
from edgecell.edge.record.trail import (
    Trail,
    codes_of,
    open_trail,
    reviewed_label,
)
from edgecell.errors import InputError, OutputError
from tests.factories import SESSION, tracked


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Five cells, all called SNE; the fifth was too blurred."""
    with Store(tmp_path / "s", SESSION) as store:
        store.write([*map(tracked, range(4)), tracked(4, gate="blurred")])
    return tmp_path / "s"


@pytest.fixture
def trail(session: Path) -> Iterator[Trail]:
    with open_trail(session) as opened:
        yield opened


@pytest.mark.parametrize(
    ("text", "label", "codes"),
    [
        ("sne", "SNE", ("SNE",)),
        ("Band neutrophils", "BNE", ("BNE",)),
        ("NEU", "BNE|SNE", ("BNE", "SNE")),
        ("SNE|BNE", "BNE|SNE", ("BNE", "SNE")),
        ("IG", "MMY|MY|PMY", ("MMY", "MY", "PMY")),
        ("Not a  cell", NOT_A_CELL, ()),
        ("other", "other", ()),
        ("Other:  LYA ", "other: LYA", ()),
    ],
)
def test_labels(text: str, label: str, codes: tuple[str, ...]) -> None:
    assert reviewed_label(text) == label
    assert reviewed_label(label) == label
    assert codes_of(label) == codes


@pytest.mark.parametrize("text", ["", "LYA", "SNE|", "others: x", "other:", "a cell"])
def test_no_labels(text: str) -> None:
    with pytest.raises(InputError, match="not a cell"):
        reviewed_label(text)


def test_a_naming_is_a_row_that_says_all(session: Path, trail: Trail) -> None:
    (first,) = trail.name("Anna", [1], "eosinophil", "granules")
    assert (first.person, first.cell, first.machine) == ("Anna", 1, "SNE")
    assert (first.before, first.label, first.comment) == (None, "EO", "granules")
    assert (first.version, first.model_sha256) == (__version__, "ab" * 32)
    (second,) = trail.name("Ben", [1], NOT_A_CELL)
    assert (second.before, second.label) == ("EO", NOT_A_CELL)
    (poor,) = trail.name("Ben", [5], "NEU")
    assert poor.machine is None
    with open_trail(session, "ro") as read:
        assert read.namings() == [first, second, poor]
        assert read.namings(1) == [first, second]
        assert read.reviewed() == {1: NOT_A_CELL, 5: "BNE|SNE"}


def test_undo_is_one_more_row_each_time(trail: Trail) -> None:
    trail.name("Anna", [1], "EO")
    trail.name("Anna", [1, 2, 3], "BA")
    assert [(n.cell, n.before, n.label) for n in trail.undo("Anna")] == [
        (1, "BA", "EO"),
        (2, "BA", None),
        (3, "BA", None),
    ]
    assert trail.reviewed() == {1: "EO"}
    assert [n.undoes for n in trail.undo("Anna")] == [1]
    assert trail.reviewed() == {}
    assert trail.undo("Anna") == []
    assert [n.label for n in trail.namings(1)] == ["EO", "BA", "EO", None]


def test_nobody_undoes_what_another_said(trail: Trail) -> None:
    trail.name("Anna", [1, 2], "EO")
    trail.name("Ben", [2], "BA")
    assert trail.undo("Carl") == []
    with pytest.raises(InputError, match="cell 2 has been named by Ben since"):
        trail.undo("Anna")
    assert trail.reviewed() == {1: "EO", 2: "BA"}
    trail.undo("Ben")
    assert trail.reviewed() == {1: "EO", 2: "EO"}


def test_a_cell_hands_its_namings_on_to_the_one_it_is(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION) as store:
        store.write([tracked(0), tracked(1), tracked(2)])
        with open_trail(store.folder) as trail:
            trail.name("Anna", [2], "MO")
        gone = replace(tracked(1).changed[0], same_as=1)
        store.write([replace(tracked(3, cell=1), changed=(gone,), votes=(False,))])
        with open_trail(store.folder) as trail:
            assert trail.reviewed() == {1: "MO"}
            assert trail.name("Ben", [1], "LY")[0].before == "MO"
            assert trail.namings(2) == trail.namings(1) == trail.namings()
            assert trail.draw(9) == sorted(trail.draw(9), key=trail.draw(9).index)
            assert sorted(trail.drawn()) == [1, 3]


def test_all_or_nothing(trail: Trail) -> None:
    for cells, label, person in (
        ([1, 99], "EO", "A"),
        ([1], "EOS", "A"),
        ([1], "EO", " "),
    ):
        with pytest.raises(InputError):
            trail.name(person, cells, label)
    assert trail.namings() == []


def test_no_row_is_ever_changed(session: Path, trail: Trail) -> None:
    trail.name("Anna", [1], "EO")
    with closing(sqlite3.connect(session / "session.sqlite")) as database:
        for change in ("UPDATE namings SET label = 'BA'", "DELETE FROM namings"):
            with pytest.raises(sqlite3.IntegrityError, match="never"):
                database.execute(change)


def test_the_sample_grows_and_never_changes(trail: Trail) -> None:
    first = trail.draw(2, seed=1)
    assert len(set(first)) == 2
    assert set(first) <= {1, 2, 3, 4, 5}
    assert trail.draw(1) == first
    assert trail.draw(4)[:2] == first
    assert sorted(trail.draw(99)) == [1, 2, 3, 4, 5]
    assert trail.drawn() == trail.draw(5)


def test_the_sample_is_drawn_evenly(trail: Trail, session: Path) -> None:
    counts = dict.fromkeys(range(1, 6), 0)
    with closing(sqlite3.connect(session / "session.sqlite")) as database:
        for seed in range(300):
            (cell,) = trail.draw(1, seed)
            counts[cell] += 1
            with database:
                database.execute("DELETE FROM drawn")
    # 60 each; five standard deviations of a binomial are 35
    assert all(25 < n < 95 for n in counts.values())


def test_a_trail_that_can_only_be_read(session: Path) -> None:
    with (
        open_trail(session, "ro") as trail,
        pytest.raises(OutputError, match="readonly"),
    ):
        trail.name("Anna", [1], "EO")
