"""Where the fields of a scan lie, and how its cells are found again."""

import json
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecell.edge.record.sessions import open_session
from edgecell.edge.stage.base import Position
from edgecell.edge.stage.openflexure import OpenFlexure
from edgecell.errors import InputError

MAP = "scan.json"
"""Where the fields lie, in the session's folder."""


@dataclass(frozen=True)
class Scale:
    """How the picture moves with the stage.

    Attributes:
        x: steps for a pixel to the right in the slide.
        y: steps for a pixel downwards.
    """

    x: float
    y: float


def is_scan(folder: Path) -> bool:
    """Whether a session has a map of its fields."""
    return (folder / MAP).is_file()


def place_of(folder: Path, frame: int, centre: tuple[float, float]) -> Position:
    """Where the stage has to be for a cell to lie in the middle of the picture.

    Args:
        folder: a session that a scan recorded.
        frame: number of a frame that shows the cell.
        centre: the cell's (x, y) in that frame, pixels.

    Raises:
        InputError: the session has no map, or not of this frame.
    """
    data = _map_of(folder)
    try:
        x, y, z = data["places"][str(frame)]
        scale = Scale(*data["steps_per_px"])
        width, height = data["frame_px"]
        across = (centre[0] - width / 2) * scale.x
        down = (centre[1] - height / 2) * scale.y
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"{folder / MAP} does not say where frame {frame} is") from e
    if not all(map(math.isfinite, (across, down))):
        raise InputError(f"{folder / MAP} is damaged")
    return Position(round(x + across), round(y + down), z)


def _map_of(folder: Path) -> dict[str, Any]:
    try:
        data = json.loads((folder / MAP).read_text())
    except FileNotFoundError as e:
        raise InputError(f"{folder} was not recorded by 'edgecell scan'") from e
    except (OSError, ValueError) as e:
        raise InputError(f"{folder / MAP} can't be read: {e}") from e
    return data if isinstance(data, dict) else {}


def place_of_cell(folder: Path, cell: int) -> Position:
    """Where the stage has to be for a session's cell to lie in the middle.

    Args:
        folder: a session that a scan recorded.
        cell: the cell's number.

    Raises:
        InputError: there is no such cell, or nothing says where it is.
    """
    with open_session(folder) as session:
        sightings = session.sightings(session.decision(cell).cell)
    if not sightings:
        raise InputError(f"no frame of {folder} shows cell {cell}")
    return place_of(folder, sightings[-1].frame, sightings[-1].box.centre)


class Driver:
    """Drives a stage to the cells of its earlier scans, for one person at a time.

    Attributes:
        address: the stage's.
    """

    def __init__(self, address: str) -> None:
        """Sets the stage's address; the first call of `show` contacts it.

        Args:
            address: 'openflexure://HOST[:PORT]'.

        Raises:
            InputError: it is no such address.
        """
        self.address = address
        self._stage = OpenFlexure(address)
        self._moving = threading.Lock()

    def show(self, folder: Path, cell: int) -> Position:
        """Brings a cell into the middle of the picture.

        Args:
            folder: a session that a scan recorded with this stage.
            cell: the cell's number.

        Raises:
            InputError: another stage recorded it, the scan still runs, somebody else
                is moving the stage, or see `place_of_cell`.
            StageError: the stage is lost or can't get there.
        """
        place = place_of_cell(folder, cell)
        scanned_by = _map_of(folder).get("address")
        if scanned_by != self.address:
            raise InputError(
                f"this slide was scanned with {scanned_by}; the page drives "
                f"{self.address}"
            )
        with open_session(folder) as session:
            if session.summary().ended is None:
                raise InputError("the scan has not ended; its stage is not free")
        if not self._moving.acquire(blocking=False):
            raise InputError("the stage is moving; try again when it has stopped")
        try:
            with self._stage as stage:
                stage.move_to(place)
        finally:
            self._moving.release()
        return place
