"""The finder as a network: its model file, and what it sees in a working image.

The file is a TFLite graph with an archive appended, as the classifier's; the record in
it is ``finder.json``. The graph takes an image of any shape whose sides are multiples
of `STRIDE` and puts out two maps of a quarter of its resolution: logits of the centres
of white cells, red cells and platelets, and the cells' sizes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgecell import __version__
from edgecell.errors import ModelError
from edgecell.image.preprocess import Bgr, to_rgb
from edgecell.image.red_cells import glass_colour
from edgecell.model.modelfile import (
    FORMAT,
    METADATA_FINDER,
    checked,
    read_members,
    record_text,
    sealed_record,
    write_members,
)
from edgecell.model.runtime import open_interpreter

KINDS = ("white", "red", "platelet")
"""In the order of the heat maps, and of the labels of frames."""

STRIDE = 16
"""Both sides of an input are multiples of it."""

CELL = 4
"""Pixels of the input, across and down, for which the maps have one entry."""

SIZE_UNIT = 16.0
"""Sizes are put out as natural logs of pixels over this."""

_APART = np.array([0.45, 0.4, 0.4])
"""Two centres of one kind nearer than this, as a share of the longer side of the surer
one, are one cell. A white cell and a platelet at one place are one cell, too."""


@dataclass(frozen=True)
class FinderRecord:
    """What a device needs to know about a finder.

    Attributes:
        network: its specification.
        least_scores: score from which on a white cell, a red cell and a platelet count,
            chosen on frames that were held out of training.
        side: longest side of the working image, pixels; training saw cells at the sizes
            that they have in it.
        glass: level that the colour of bare glass is brought to before anything else.
        middle: of the standardised input, levels.
        spread: of the standardised input, levels.
        training: where the weights come from: data, settings, curve.
        metrics: figures on the frames that were held out.
        calibration_set: number of the frames that set the int8 ranges.
        scheme: number format.
        model_sha256: hash of the TFLite flatbuffer.
        record_sha256: hash of all other fields.
        version: edgecell version that wrote the record.
        format: version of this record.
    """

    network: dict[str, Any]
    least_scores: tuple[float, float, float]
    side: int = 256
    glass: float = 224.0
    middle: float = 160.0
    spread: float = 64.0
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    calibration_set: dict[str, Any] = field(default_factory=dict)
    scheme: str = "int8"
    model_sha256: str = ""
    record_sha256: str = ""
    version: str = __version__
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not all(0 < score < 1 for score in self.least_scores):
            raise ValueError("least_scores must lie between 0 and 1")
        if self.side < STRIDE or not (self.glass > 0 and self.spread > 0):
            raise ValueError("side, glass and spread must be above 0")


def write_finder(path: Path, flatbuffer: bytes, record: FinderRecord) -> None:
    """Writes a finder with its record, sealed, atomically.

    Raises:
        OutputError: the file can't be written.
    """
    record = sealed_record(record, hashlib.sha256(flatbuffer).hexdigest())
    write_members(path, flatbuffer, {METADATA_FINDER: record_text(record)})


def read_finder(path: Path) -> tuple[bytes, FinderRecord]:
    """Reads a finder and checks that nothing in it was changed.

    Returns:
        The flatbuffer and the record.

    Raises:
        ModelError: it is no finder of ours, or was changed or damaged.
    """
    flatbuffer, (text,) = read_members(path, METADATA_FINDER)
    sha256 = hashlib.sha256(flatbuffer).hexdigest()
    return flatbuffer, checked(FinderRecord, text, sha256, str(path))


@dataclass(frozen=True, eq=False)
class Points:
    """Cells in a working image, by descending score.

    Attributes:
        kinds: int (N,), index into `KINDS`.
        boxes: float32 (N, 4), x, y of the centre, width and height, pixels.
        scores: float32 (N,), 0..1.
    """

    kinds: npt.NDArray[np.intp]
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]


class Finder:
    """Sees white cells, red cells and platelets in working images, on one thread."""

    def __init__(self, path: Path) -> None:
        """Opens a finder.

        Args:
            path: a finder's file.

        Raises:
            ModelError: see `read_finder`; or the graph is no finder's.
            MissingPackageError: no runtime takes it.
        """
        flatbuffer, self.record = read_finder(path)
        self._interpreter, _, _ = open_interpreter(flatbuffer, 1)
        (image,) = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        maps = {int(o["shape"][-1]): o for o in outputs}
        if image["dtype"] != np.int8 or set(maps) != {len(KINDS), 2}:
            raise ModelError(f"{path} holds a graph that is no finder's")
        self._input = int(image["index"])
        self._shape = tuple(image["shape"][1:3])
        self._scale, self._zero = image["quantization"]
        self._heat, self._size = maps[len(KINDS)], maps[2]

    def __call__(self, image: Bgr) -> Points:
        """The cells in a working image.

        Args:
            image: uint8 BGR (h, w, 3), its red cells some 20 to 90 pixels across.
        """
        _, heat, size = self.maps(image)
        shape = (image.shape[1], image.shape[0])
        return decode(heat, size, self.record.least_scores, shape)

    def maps(
        self, image: Bgr
    ) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """What the network makes of a working image.

        Args:
            image: uint8 BGR (h, w, 3).

        Returns:
            Its input, int8 (1, H, W, 3), sides rounded up to multiples of `STRIDE`; the
            logits of the heat, float32 (H / 4, W / 4, 3); and the natural logs of sizes
            over `SIZE_UNIT`, float32 (H / 4, W / 4, 2).
        """
        height, width = image.shape[:2]
        rows, columns = -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE
        if (rows, columns) != self._shape:
            self._interpreter.resize_tensor_input(self._input, [1, rows, columns, 3])
            self._interpreter.allocate_tensors()
            self._shape = (rows, columns)
        levels = self._input_of(image, rows, columns)
        self._interpreter.set_tensor(self._input, levels)
        self._interpreter.invoke()
        return levels, self._output(self._heat), self._output(self._size)

    def _output(self, details: dict[str, Any]) -> npt.NDArray[np.float32]:
        """A map of the graph, float32 (h, w, channels)."""
        scale, zero = details["quantization"]
        levels = self._interpreter.get_tensor(details["index"])[0].astype(np.float32)
        return np.asarray((levels - zero) * np.float32(scale), np.float32)

    def _input_of(self, image: Bgr, rows: int, columns: int) -> npt.NDArray[np.int8]:
        """Levels relative to the glass, in the graph's own numbers; glass around."""
        record, glass = self.record, glass_colour(image)
        levels = levels_by_glass(glass, record.glass)
        standardised = (levels - record.middle) / record.spread
        table = np.rint(standardised / self._scale + self._zero)
        table = np.clip(table, -128, 127).astype(np.int8)[None, :, ::-1]
        height, width = image.shape[:2]
        if (height, width) != (rows, columns):
            below, right = rows - height, columns - width
            edge = (0, below, 0, right, cv2.BORDER_CONSTANT)
            bordered = cv2.copyMakeBorder(image, *edge, value=glass.tolist())
            image = Bgr(np.asarray(bordered, np.uint8))
        numbers = cv2.LUT(to_rgb(image), np.ascontiguousarray(table))
        return np.asarray(numbers[None], np.int8)


def levels_by_glass(
    glass: npt.NDArray[np.float32], level: float
) -> npt.NDArray[np.float64]:
    """What each level of each channel becomes when the glass is brought to one level.

    Args:
        glass: (3,), the colour of bare glass.
        level: what it becomes.

    Returns:
        float64 (256, 3), 0..255.
    """
    return np.clip(np.arange(256)[:, None] * (level / glass), 0.0, 255.0)


def decode(
    heat: npt.NDArray[np.float32],
    size: npt.NDArray[np.float32],
    least_scores: Sequence[float],
    shape: tuple[int, int],
) -> Points:
    """Peaks of the maps as cells.

    Args:
        heat: float32 (h, w, 3), logits.
        size: float32 (h, w, 2), natural logs of sizes over `SIZE_UNIT`.
        least_scores: score from which on a peak counts, by kind, in (0, 1).
        shape: width and height of the working image, pixels; what lies outside is
            dropped.
    """
    least = np.array(least_scores, np.float32)
    highest = cv2.dilate(heat, np.ones((3, 3), np.uint8))
    y, x, kinds = np.nonzero((heat == highest) & (heat >= np.log(least / (1 - least))))
    order = np.argsort(-heat[y, x, kinds], kind="stable")
    y, x, kinds = y[order], x[order], kinds[order]
    centres = CELL * (np.stack(_middles(heat, y, x, kinds), 1) + 0.5)
    sides = SIZE_UNIT * np.exp(size[y, x])
    keep = _distinct(centres, sides.max(1, initial=0.0), kinds)
    keep &= (centres < shape).all(1)
    boxes = np.concatenate([centres, sides], 1)[keep]
    return Points(
        kinds[keep], boxes.astype(np.float32), _sigmoid(heat[y, x, kinds][keep])
    )


def _middles(
    heat: npt.NDArray[np.float32],
    y: npt.NDArray[np.intp],
    x: npt.NDArray[np.intp],
    kinds: npt.NDArray[np.intp],
) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """Mean place, x and y, of each peak's heat over the 3x3 entries around it."""
    around = np.pad(heat, ((1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    steps = np.arange(-1, 2)
    near = _sigmoid(
        around[
            y[:, None, None] + 1 + steps[None, :, None],
            x[:, None, None] + 1 + steps[None, None, :],
            kinds[:, None, None],
        ]
    )
    total = near.sum((1, 2))
    return x + near.sum(1) @ steps / total, y + near.sum(2) @ steps / total


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _distinct(
    centres: npt.NDArray[np.floating],
    longest: npt.NDArray[np.floating],
    kinds: npt.NDArray[np.intp],
) -> npt.NDArray[np.bool_]:
    """Which cells, surest first, are not a second peak of an earlier one."""
    apart = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    alike = (kinds[:, None] == 1) == (kinds[None] == 1)
    same = alike & (apart < (_APART[kinds] * longest)[:, None])
    keep = np.ones(len(centres), bool)
    for i in range(len(centres)):
        if keep[i]:
            keep[i + 1 :] &= ~same[i, i + 1 :]
    return keep
