"""Measures red cells in the frames of a source: the scale for all later steps."""

from collections import deque
from statistics import median

from edgecell.edge.sources.base import Frame
from edgecell.image.red_cells import red_cell_diameter

_WINDOW = 15
"""Measurements that the running median spans."""

_MEASURE_EVERY = 10
"""Frames between measurements once the window is full: focus and stage move, the
magnification rarely does."""

_SAME = 0.2
"""A measurement that is further off the median than this doubts it: 99 % of the frames
of the train half are measured within 20 %."""

_DOUBTS = 3
"""Doubtful measurements in a row after which the objective was changed."""


class ScaleEstimator:
    """The red-cell diameter in each frame of one source after the other.

    A still image stands for itself, since a folder may mix microscopes. In a moving
    picture, the running median of the measurements is used, which a frame full of
    overlapping cells can't upset. It starts again when the source or the frame's size
    changes, and when several measurements in a row say that the objective did.
    """

    def __init__(self) -> None:
        self._source: tuple[str, tuple[int, ...]] | None = None
        self._window: deque[float] = deque(maxlen=_WINDOW)
        self._doubts: list[float] = []
        self._since = 0

    def update(self, frame: Frame) -> float | None:
        """The diameter in a frame.

        Args:
            frame: the frame; those of one video or camera in their order.

        Returns:
            Red-cell diameter in pixels of the frame; None if neither this frame nor
            those before it in the same moving picture show red cells.
        """
        if frame.time_s is None:
            return red_cell_diameter(frame.image)
        source = frame.name, frame.image.shape[:2]
        if source != self._source:
            self._source = source
            self._window.clear()
            self._doubts.clear()
        self._since += 1
        settled = len(self._window) == _WINDOW and not self._doubts
        if not settled or self._since >= _MEASURE_EVERY:
            self._since = 0
            self._add(red_cell_diameter(frame.image))
        return median(self._window) if self._window else None

    def _add(self, measured: float | None) -> None:
        """Adds a measurement."""
        if measured is None:
            return
        if self._window and abs(measured / median(self._window) - 1) > _SAME:
            self._doubts.append(measured)
            if len(self._doubts) < _DOUBTS:
                return
            if max(self._doubts) <= (1 + _SAME) * min(self._doubts):
                self._window.clear()
            self._window.extend(self._doubts)
        else:
            self._window.append(measured)
        self._doubts.clear()
