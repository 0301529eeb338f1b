import numpy as np

from edgecell.edge.analyse.scale import ScaleEstimator
from edgecell.edge.sources.base import Frame
from edgecell.image.preprocess import Bgr


def frame(
    index: int = 0,
    time_s: float | None = None,
    name: str = "camera",
    shape: tuple[int, int] = (48, 64),
) -> Frame:
    return Frame(index, time_s, Bgr(np.zeros((*shape, 3), np.uint8)), name)


def followed(*measured: float | None) -> list[float | None]:
    """What an estimator makes of measurements in the frames of one video."""
    estimator = ScaleEstimator()
    return [estimator.update(frame(i, i / 10), px) for i, px in enumerate(measured)]


def test_a_still_image_stands_for_itself() -> None:
    estimator = ScaleEstimator()
    for name, px in (("a", 50.0), ("b", 90.0), ("b", None)):
        still = frame(0, None, name)
        assert estimator.expected(still) is None
        assert estimator.update(still, px) == px


def test_a_moving_picture_takes_the_running_median() -> None:
    got = followed(None, 50.0, 52.0, 200.0, None, 54.0)
    assert got == [None, 50.0, 51.0, 51.0, 51.0, 52.0]


def test_another_source_or_frame_size_is_measured_anew() -> None:
    estimator = ScaleEstimator()
    for i in range(15):
        assert estimator.update(frame(i, i / 10), 60.0) == 60.0
    larger = frame(15, 1.5, shape=(96, 128))
    assert estimator.expected(larger) is None
    assert estimator.update(larger, 120.0) == 120.0
    other = frame(16, 1.6, "another", (96, 128))
    assert estimator.expected(other) is None
    assert estimator.update(other, 70.0) == 70.0


def test_a_scale_is_expected_until_it_is_doubted_or_lost() -> None:
    estimator = ScaleEstimator()
    following = frame(1, 0.1)
    for measured, expected in (
        (None, None),
        (60.0, 60.0),
        (100.0, None),  # doubted
        (60.0, 60.0),
        (None, None),  # lost
        (62.0, 60.0),
    ):
        estimator.update(frame(0, 0.0), measured)
        assert estimator.expected(following) == expected


def test_another_objective_is_noticed() -> None:
    got = followed(*[60.0] * 15, *[100.0] * 10)
    assert got[:17] == [60.0] * 17
    assert set(got[17:]) == {100.0}


def test_doubts_that_contradict_one_another_change_little() -> None:
    assert set(followed(*[60.0] * 15, 200.0, 20.0, 100.0, *[60.0] * 20)) == {60.0}
