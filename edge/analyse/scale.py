"""The size of red cells in the frames of a source: the scale for all later steps."""

from collections import deque
from statistics import median

from edgecell.edge.sources.base import Frame

_WINDOW = 15
"""Measurements that the running median spans."""

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
        self._lost = False

    def expected(self, frame: Frame) -> float | None:
        """What red cells probably measure in a frame that is not looked at yet.

        Args:
            frame: the frame, before `update` gets it.

        Returns:
            Red-cell diameter in pixels of the frame; None if it has to be searched for:
            in a still image, in a source's first frame, and while there are doubts.
        """
        same = frame.time_s is not None and self._source == _source_of(frame)
        sure = same and self._window and not self._doubts and not self._lost
        return median(self._window) if sure else None

    def update(self, frame: Frame, measured: float | None) -> float | None:
        """The diameter in a frame.

        Args:
            frame: the frame; those of one video or camera in their order.
            measured: what its red cells measure, pixels; None if it shows none.

        Returns:
            Red-cell diameter in pixels of the frame; None if neither this frame nor
            those before it in the same moving picture show red cells.
        """
        if frame.time_s is None:
            return measured
        if self._source != _source_of(frame):
            self._source = _source_of(frame)
            self._window.clear()
            self._doubts.clear()
        self._lost = measured is None
        if measured is not None:
            self._add(measured)
        return median(self._window) if self._window else None

    def _add(self, measured: float) -> None:
        """Adds a measurement."""
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


def _source_of(frame: Frame) -> tuple[str, tuple[int, ...]]:
    return frame.name, frame.image.shape[:2]
