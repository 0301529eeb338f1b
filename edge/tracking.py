"""Each cell once: which cells of a frame were seen before."""

from dataclasses import dataclass

from edgecell.edge.differential import Decision
from edgecell.edge.pipeline import FrameResult


@dataclass(frozen=True)
class TrackedFrame:
    """A frame with what the tracker made of it.

    Attributes:
        result: the frame and what was found in it.
        cells: for each of its cells the number of the cell within the session; None
            for one that the border cuts and that was never seen whole.
        votes: for each of its cells whether this sighting votes on the class.
        changed: decisions that this frame made or changed.
    """

    result: FrameResult
    cells: tuple[int | None, ...]
    votes: tuple[bool, ...]
    changed: tuple[Decision, ...]
