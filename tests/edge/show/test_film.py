from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edgecell.edge.show.film import FPS, Film
from edgecell.errors import OutputError


def picture(level: int, shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    return np.full((*shape, 3), level, np.uint8)


def levels(path: Path) -> list[float]:
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == FPS
    found: list[float] = []
    while True:
        ok, frame = capture.read()
        if not ok:
            return found
        assert frame.shape == (120, 160, 3)
        found.append(float(np.median(frame)))


def test_pictures_stand_at_their_times(tmp_path: Path) -> None:
    film = Film(tmp_path / "f.avi")
    for time_s, level in ((0.0, 50), (0.2, 100), (1.0, 150)):
        film.show(picture(level), time_s)
    film.close()
    found = levels(tmp_path / "f.avi")
    assert found == pytest.approx([50] * 3 + [100] * 12 + [150], abs=2)


def test_silence_is_shown_as_silence(tmp_path: Path) -> None:
    film = Film(tmp_path / "f.avi")
    film.show(picture(200), 0.0)
    film.show(picture(100), 10.0)
    film.close()
    found = levels(tmp_path / "f.avi")
    assert len(found) == 10 * FPS + 1
    assert all(abs(level - 60) < 3 for level in found[int(1.1 * FPS) : -1])
    assert found[0] == pytest.approx(200, abs=2)
    assert found[-1] == pytest.approx(100, abs=2)


def test_a_weekend_of_silence_is_a_minute_of_film(tmp_path: Path) -> None:
    film = Film(tmp_path / "f.avi")
    for time_s, level in ((0.0, 200), (2e5, 100), (2e5 + 0.4, 150)):
        film.show(picture(level), time_s)
    film.close()
    found = levels(tmp_path / "f.avi")
    assert len(found) == 60 * FPS + 6 + 1
    assert found[-7:] == pytest.approx([100] * 6 + [150], abs=2)


def test_stills_stay_for_a_second_and_a_second_clip_follows(tmp_path: Path) -> None:
    film = Film(tmp_path / "f.avi")
    film.show(picture(40), None)
    film.show(picture(80, (240, 320)), None)
    for clip in (120, 160):
        film.show(picture(clip), 0.5)
        film.show(picture(clip), 1.0)
    film.close()
    found = levels(tmp_path / "f.avi")
    seen = [level for level, after in pairwise(found) if level != after]
    assert seen == pytest.approx([40, 80, 120], abs=2)
    assert len(found) == pytest.approx(4 * FPS, abs=FPS)


def test_a_picture_of_another_shape_is_not_distorted(tmp_path: Path) -> None:
    film = Film(tmp_path / "f.avi")
    film.show(picture(40), None)
    tall = picture(200, (240, 160))
    film.show(tall, None)
    film.close()
    capture = cv2.VideoCapture(str(tmp_path / "f.avi"))
    capture.set(cv2.CAP_PROP_POS_FRAMES, FPS)
    row = capture.read()[1][60, :, 0].astype(int)
    assert np.flatnonzero(row > 150) == pytest.approx(np.arange(40, 120), abs=3)
    assert np.abs(row[:30] - 60).max() < 8, "grey beside it"


def test_a_disk_that_fills_up_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "f.avi"
    free = 10 << 20
    monkeypatch.setattr(
        "edgecell.edge.show.film.disk_usage",
        lambda _: SimpleNamespace(free=free - path.stat().st_size),
    )
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    long = Film(path)

    def shoot() -> None:
        for i in range(100):
            long.show(noise, float(i))

    with pytest.raises(OutputError, match=r"f\.avi: the disk is full; make room"):
        shoot()
    with pytest.raises(OutputError, match="disk is full"):
        long.close()
    assert path.stat().st_size < free


def test_nothing_is_overwritten_and_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.avi").write_text("precious")
    for name, message in (("old.avi", "exists"), ("f.mp4", "must end in .avi")):
        with pytest.raises(OutputError, match=message):
            Film(tmp_path / name)
    film = Film(tmp_path / "none.avi")
    film.close()
    assert not (tmp_path / "none.avi").exists()
