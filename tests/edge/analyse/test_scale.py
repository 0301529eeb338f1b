from collections.abc import Iterator

import numpy as np
import pytest

from edgecell.edge.analyse import scale
from edgecell.edge.analyse.scale import ScaleEstimator
from edgecell.edge.sources.base import Frame
from edgecell.image.preprocess import Bgr


class Measured:
    """Stands in for the measurement: gives the values one after the other."""

    def __init__(self, values: Iterator[float | None]) -> None:
        self.values, self.calls = values, 0

    def __call__(self, _: object) -> float | None:
        self.calls += 1
        return next(self.values)


def measuring(
    monkeypatch: pytest.MonkeyPatch, *values: float | None, then: float | None = None
) -> Measured:
    def forever() -> Iterator[float | None]:
        yield from values
        while True:
            yield then

    stub = Measured(forever())
    monkeypatch.setattr(scale, "red_cell_diameter", stub)
    return stub


def frame(
    index: int = 0,
    time_s: float | None = None,
    name: str = "camera",
    shape: tuple[int, int] = (48, 64),
) -> Frame:
    return Frame(index, time_s, Bgr(np.zeros((*shape, 3), np.uint8)), name)


def test_a_still_image_stands_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring(monkeypatch, 50.0, 90.0, None)
    estimator = ScaleEstimator()
    got = [estimator.update(frame(i, None, name)) for i, name in enumerate("abc")]
    assert got == [50.0, 90.0, None]


def test_a_moving_picture_takes_the_running_median(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measuring(monkeypatch, None, 50.0, 52.0, 200.0, None, 54.0, 70.0)
    estimator = ScaleEstimator()
    got = [estimator.update(frame(i, i / 10)) for i in range(6)]
    assert got == [None, 50.0, 51.0, 51.0, 51.0, 52.0]
    assert estimator.update(frame(6, 0.0, "another")) == 70.0


def test_another_frame_size_is_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring(monkeypatch, *[60.0] * 15, then=120.0)
    estimator = ScaleEstimator()
    for i in range(15):
        assert estimator.update(frame(i, i / 10)) == 60.0
    larger = frame(15, 1.5, shape=(96, 128))
    assert estimator.update(larger) == 120.0


def test_a_settled_scale_is_measured_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = measuring(monkeypatch, then=60.0)
    estimator = ScaleEstimator()
    for i in range(100):
        assert estimator.update(frame(i, i / 10)) == 60.0
    assert measured.calls == 15 + 8  # each of the first 15, then every tenth


def test_another_objective_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    measuring(monkeypatch, *[60.0] * 15, then=100.0)
    estimator = ScaleEstimator()
    got = [estimator.update(frame(i, i / 10)) for i in range(40)]
    assert got[:24] == [60.0] * 24
    # Measured every tenth frame; once it doubts, every frame.
    assert got[24:27] == [60.0, 60.0, 100.0]
    assert set(got[27:]) == {100.0}


def test_doubts_that_contradict_one_another_change_little(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measuring(monkeypatch, *[60.0] * 15, 200.0, 20.0, 100.0, then=60.0)
    estimator = ScaleEstimator()
    got = [estimator.update(frame(i, i / 10)) for i in range(60)]
    assert set(got) == {60.0}
