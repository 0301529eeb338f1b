"""The scope file: what a model has been shown to do on one microscope and its camera.

`edgecell trust` writes it and `edgecell run --scope` applies it. It is valid for one
model, one frame size and one size of red cells.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecell import __version__
from edgecell.edge.count.exact import clopper_pearson
from edgecell.errors import InputError
from edgecell.files import read_bounded, write_atomically
from edgecell.model.microscopes.microscope import Microscope
from edgecell.model.modelfile import ModelRecord
from edgecell.typed import build, loads

LEAST = 0.9
"""What the lower bound of the share that is right has to exceed by default."""

SAME_SCALE = 0.2
"""A red cell that is larger or smaller by more comes from another objective."""

_LARGEST = 2**20


@dataclass(frozen=True)
class Shown:
    """How often a model was right on a random sample of cells that people named.

    Attributes:
        cells: cells of the sample with a name and a class of the machine's.
        right: how many of them were right; a name of several classes allows each.
        accepted: those that the model's rule accepts without review.
        accepted_right: how many of these were right.
        least: what the lower bound of this last share has to exceed, 0..1.
    """

    cells: int
    right: int
    accepted: int
    accepted_right: int
    least: float = LEAST

    def __post_init__(self) -> None:
        if not (
            0 <= self.accepted_right <= min(self.accepted, self.right)
            and max(self.accepted, self.right) <= self.cells
            and 0 < self.least < 1
        ):
            raise ValueError("the counts of the scope file do not fit together")

    @property
    def interval(self) -> tuple[float, float]:
        """Exact 95 % interval of the share of right ones among the accepted."""
        return clopper_pearson(self.accepted_right, self.accepted)

    @property
    def holds(self) -> bool:
        """Whether cells may be accepted without review."""
        return self.interval[0] > self.least

    @property
    def missing(self) -> int:
        """Accepted cells that are still needed for `holds`, if all are right."""
        if self.holds:
            return 0
        low, high = 0, 1
        while not self._holds_after(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._holds_after(middle) else (middle, high)
        return high

    def _holds_after(self, more: int) -> bool:
        right, n = self.accepted_right + more, self.accepted + more
        return clopper_pearson(right, n)[0] > self.least

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.accepted_right} of {self.accepted} accepted cells right "
            f"(95 % interval {100 * low:.1f}-{100 * high:.1f} %)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, with exact 95 % intervals."""
        return asdict(self) | {
            "right_interval": clopper_pearson(self.right, self.cells),
            "accepted_right_interval": self.interval,
            "holds": self.holds,
        }


@dataclass(frozen=True)
class Scope:
    """What was shown, and for which camera and model.

    Attributes:
        width: of the camera's frames, pixels.
        height: likewise.
        red_cell_px: diameter of a red cell in them, pixels.
        microscope: what the microscope is called.
        model_sha256: hash of the network.
        record_sha256: hash of the model's record, with its rule for review.
        shown: how often the model was right.
        sessions: the sessions that the sample was drawn in.
        made: when, UTC, ISO 8601.
        more: random cells still to be named for `Shown.holds`, if all are right; None
            if that isn't known.
        described: how to recognise the microscope, if the model can't.
        version: of edgecell.
    """

    width: int
    height: int
    red_cell_px: float
    microscope: str
    model_sha256: str
    record_sha256: str
    shown: Shown
    sessions: tuple[str, ...]
    made: str
    more: int | None = None
    described: Microscope | None = None
    version: str = __version__

    def __post_init__(self) -> None:
        if self.red_cell_px <= 0:
            raise ValueError("red_cell_px must be > 0")

    @property
    def camera(self) -> str:
        """Describes the camera and its objective in words."""
        return f"{self.width}x{self.height}, red cells {self.red_cell_px:.0f} px"

    def fits(self, size: tuple[int, int], red_cell_px: float | None) -> bool:
        """Whether frames may come from the same camera and objective.

        Args:
            size: width and height of the frames, pixels.
            red_cell_px: diameter of a red cell in them; None if it was not measured.
        """
        if size != (self.width, self.height):
            return False
        return red_cell_px is None or (
            abs(math.log(red_cell_px / self.red_cell_px)) <= math.log1p(SAME_SCALE)
        )

    def recorded(self) -> dict[str, Any]:
        """The parts that a session records, ready for JSON."""
        return {
            "microscope": self.microscope,
            "made": self.made,
            "sessions": list(self.sessions),
            "says": str(self.shown),
            **self.shown.to_dict(),
        }


def write_scope(path: Path, scope: Scope) -> None:
    """Writes a scope file, atomically; an earlier one of the same camera is replaced.

    Raises:
        InputError: the file exists but is something else, or another camera's.
        OutputError: the file can't be written.
    """
    if path.exists():
        before = read_scope(path)
        if not before.fits((scope.width, scope.height), scope.red_cell_px):
            raise InputError(
                f"{path} is the scope file of another camera ({before.camera}, not "
                f"{scope.camera}); name another file"
            )
    write_atomically(path, json.dumps(asdict(scope), indent=1) + "\n")


def read_scope(path: Path) -> Scope:
    """Reads a scope file.

    Raises:
        InputError: it is missing, damaged or something else.
    """
    content = read_bounded(path, _LARGEST)
    try:
        return build(Scope, loads(content))
    except ValueError as e:
        raise InputError(
            f"{path} is not a scope file, or is damaged ({e}); 'edgecell trust' writes "
            "one"
        ) from e


def scope_for(path: Path, record: ModelRecord) -> Scope:
    """Reads a scope file for a model.

    Raises:
        InputError: see `read_scope`; or it is another model's.
    """
    scope = read_scope(path)
    if (scope.model_sha256, scope.record_sha256) != (
        record.model_sha256,
        record.record_sha256,
    ):
        raise InputError(
            f"{path} was written for another model ({scope.model_sha256[:12]}, not "
            f"{record.model_sha256[:12]}); name its model, or run 'edgecell trust' on "
            "a session of this one"
        )
    return scope
