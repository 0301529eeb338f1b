import numpy as np

from edgecell.benchmarks.labelled_frames import mosaic, zoomed
from edgecell.data.frames import WHITE, LabelBox, LabelledFrame


def frame(level: int) -> LabelledFrame:
    image = np.full((20, 40, 3), level, np.uint8)
    return LabelledFrame(str(level), image, (LabelBox(WHITE, 10, 5, 20, 15),))


def test_a_mosaic_keeps_pixels_and_labels_together() -> None:
    slide = mosaic([frame(10 * i) for i in range(6)], columns=3)
    assert slide.image.shape == (40, 120, 3)
    assert slide.image[30, 100, 0] == 50
    assert slide.boxes[5] == LabelBox(WHITE, 90, 25, 100, 35)


def test_a_zoomed_frame_has_zoomed_labels() -> None:
    for zoom, width in ((0.5, 20), (1.0, 40), (2.5, 100)):
        one = zoomed(frame(7), zoom)
        assert one.image.shape[1] == width
        assert one.boxes[0].x1 == 20 * zoom
