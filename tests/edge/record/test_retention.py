"""What goes when the sessions' disk use is bounded."""

from pathlib import Path

import pytest

from edgecell.edge.record.retention import disk_use, parse_size
from edgecell.edge.record.store import Store
from edgecell.errors import InputError
from tests.factories import NOISE, SESSION, rows, tracked


def test_keep_drops_the_oldest_pixels_and_no_figure(tmp_path: Path) -> None:
    with Store(tmp_path / "first", SESSION) as first:
        for n in range(60):
            first.write([tracked(n)])
            first.write_picture(n, NOISE)
    size = disk_use(tmp_path / "first")
    bound = round(1.7 * size)
    with Store(tmp_path / "second", SESSION, bound) as second:
        for n in range(60):
            second.write([tracked(n)])
            second.write_picture(n, NOISE)
            total = disk_use(tmp_path / "first") + disk_use(tmp_path / "second")
            assert total < bound + 400_000, "the log comes on top"
        pictures = len(list((tmp_path / "second" / "frames").iterdir()))
    assert pictures == 60, "the older session gives first"
    (left,) = rows(tmp_path / "first", "SELECT count(*), min(sighting) FROM crops")
    assert 0 < left[0] < 60
    assert left[1] == 61 - left[0], "its oldest crops went"
    for name in ("first", "second"):
        assert rows(tmp_path / name, "SELECT count(*) FROM decisions") == [(60,)]
        assert rows(tmp_path / name, "SELECT count(*) FROM sightings") == [(60,)]


def test_what_a_kill_left_of_a_picture_goes_first(tmp_path: Path) -> None:
    with Store(tmp_path / "old", SESSION) as old:
        old.write([tracked(0)])
        old.write_picture(0, NOISE)
    partial = tmp_path / "old" / "frames" / ".000001.jpg.k3x_9"
    partial.write_bytes(bytes(10**6))
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(40):
            store.write([tracked(n)])
    assert not partial.exists()


def test_a_small_bound_takes_from_the_running_session(tmp_path: Path) -> None:
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(120):
            store.write([tracked(n)])
            store.write_picture(n, NOISE)
        assert disk_use(tmp_path / "s") < 1.2 * 10**6
    (crops,) = rows(tmp_path / "s", "SELECT count(*), max(sighting) FROM crops")
    assert 0 < crops[0] < 120
    assert crops[1] == 120, "the newest stay"
    assert rows(tmp_path / "s", "SELECT count(*) FROM decisions") == [(120,)]
    assert rows(tmp_path / "s", "PRAGMA integrity_check") == [("ok",)]


def test_a_picture_that_cannot_go_does_not_end_another_session(tmp_path: Path) -> None:
    with Store(tmp_path / "old", SESSION) as old:
        old.write([tracked(0)])
    (tmp_path / "old" / "frames" / "000000.jpg").mkdir(parents=True)
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(120):
            store.write([tracked(n)])
            store.write_picture(n, NOISE)
    assert rows(tmp_path / "s", "SELECT count(*) FROM decisions") == [(120,)]
    (crops,) = rows(tmp_path / "s", "SELECT count(*) FROM crops")
    assert crops[0] < 120, "the running one gave instead"


def test_a_session_that_cannot_be_trimmed_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "session.sqlite").write_bytes(b"no database" * 10**5)
    with Store(tmp_path / "s", SESSION, 10**6) as store:
        for n in range(40):
            store.write([tracked(n)])
    assert (tmp_path / "broken" / "session.sqlite").stat().st_size == 11 * 10**5


@pytest.mark.parametrize(
    ("text", "size"), [("500 MB", 5 * 10**8), ("1.5gb", 15 * 10**8), ("1TB", 10**12)]
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "5", "5 kB", "-1GB", "49MB", "GB", "1e3GB", "9" * 400 + "GB"]
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="500MB"):
        parse_size(text)
