"""What a motorised stage does, and where it is."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from edgecell.errors import SourceError


class StageError(SourceError):
    """The stage is lost, refuses to move, or does not do what it says."""


class LimitReachedError(StageError):
    """The stage can't move further in this direction."""


@dataclass(frozen=True)
class Position:
    """Where the stage is, in its own steps: x and y across the slide, z the focus."""

    x: int
    y: int
    z: int = 0

    def __sub__(self, other: "Position") -> "Position":
        return Position(self.x - other.x, self.y - other.y, self.z - other.z)


class Stage(AbstractContextManager["Stage"], Protocol):
    """A stage with a camera over it; enter it to connect.

    Attributes:
        camera: address of the camera's pictures, as `open_source` takes it.
    """

    camera: str

    def position(self) -> Position:
        """Where it is now.

        Raises:
            StageError: it is lost.
        """

    def move_to(self, place: Position) -> None:
        """Moves, and returns when it stands still.

        Raises:
            LimitReachedError: it can't get there.
            StageError: it is lost, or takes too long.
        """

    def focus(self) -> None:
        """Brings the slide into focus; the z of its position changes.

        Raises:
            StageError: it is lost, or has no autofocus.
        """
