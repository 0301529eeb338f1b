"""A film of a slide through poor optics: each cell is counted once all the same."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from edgecell.edge.analyse.pipeline import FrameAnalyser
from edgecell.edge.count.tracking import Tracker
from edgecell.edge.count.votes import Rule
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.base import Frame
from edgecell.image.preprocess import Bgr
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model

FRAMES = 26
Lens = Callable[[Bgr, int], np.ndarray]


@pytest.fixture(scope="module")
def film() -> list[Bgr]:
    clip = cv2.VideoCapture(str(SAMPLES / "clip.avi"))
    return [Bgr(np.asarray(clip.read()[1], np.uint8)) for _ in range(FRAMES)]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(bundled_model())


def eyepiece(frame: Bgr, _: int) -> np.ndarray:
    height, width = frame.shape[:2]
    mask = np.zeros((height, width, 1), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), round(0.49 * height), 1, -1)
    return frame * mask


def side_bars(frame: Bgr, _: int) -> np.ndarray:
    barred = frame.copy()
    barred[:, :80] = barred[:, -80:] = 0
    return barred


def lamp(frame: Bgr, index: int) -> np.ndarray:
    """A dimmed lamp and a rolling shutter: bands of 8 % that wander."""
    rows = np.arange(len(frame)) / len(frame)
    bands = 1 + 0.08 * np.sin(2 * np.pi * (4 * rows + 0.06 * index))
    return np.clip(frame * bands[:, None, None], 0, 255).astype(np.uint8)


def counted(film: list[Bgr], classifier: Classifier, lens: Lens | None) -> int:
    analyser = FrameAnalyser(classifier, None)
    tracker = Tracker(Rule.of_model(classifier.record))
    cells: set[int] = set()
    for index, frame in enumerate(film):
        image = frame if lens is None else Bgr(lens(frame, index))
        result = analyser.analyse(Frame(index, index / 10, image, "film"))
        assert result.gate is None
        for decision in tracker.update(result).changed:
            (cells.discard if decision.same_as else cells.add)(decision.cell)
    return len(cells)


def test_no_cells_are_made_up(film: list[Bgr], classifier: Classifier) -> None:
    plain = counted(film, classifier, None)
    assert 2 <= plain <= 6
    # A round field shows three cells less, bars one; an edge may show half of one.
    for lens, hidden in ((eyepiece, 3), (side_bars, 1), (lamp, 0)):
        found = counted(film, classifier, lens)
        assert max(1, plain - hidden) <= found <= plain + 1, lens
