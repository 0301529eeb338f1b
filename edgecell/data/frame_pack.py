"""Packed frames: what a finder of cells is trained on, as a few files.

Two kinds of images. In a frame all cells are labelled. A single-cell image is also a
frame, but only one of its cells is labelled: the white cell or platelet in its middle.
As in `edgecell.data.pack` a file is an uncompressed ``.npz`` archive without pickled
objects, and numpy and OpenCV are enough to read it.
"""

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.data.frames import PLATELET, WHITE, LabelledFrame
from edgecell.data.near_duplicates import groups, near_duplicates, thumbnail
from edgecell.data.pack import FILE_BYTES, encoded
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Bgr, Rgb, to_rgb
from edgecell.image.regions import cell_mask
from edgecell.image.resizing import shrink

if TYPE_CHECKING:
    from edgecell.data.dataset import CellFile

FORMAT = 1
SIDE = 384
"""Longest side of a packed image: half as much again as a finder's working image, so
that training can look closer."""

Boxes = npt.NDArray[np.float32]
"""(N, 5): label (0 white cell, 1 red cell, 2 platelet), left, upper, right and lower
edge in pixels of the image."""

_HELD_OUT = 6
"""One frame in so many is kept out of training, to choose by."""

_CELL = (0.05, 0.85)
_MOST_OBLONG = 1.8
_OFF_CENTRE = 0.1
"""Sides of the box of a cell in the middle of an image, its sides' ratio and its
distance from the middle, in sides of the image; what is segmented as anything else
is no cell, or not well enough."""

_ARRAYS = (
    "pixels",
    "ends",
    "boxes",
    "box_ends",
    "whole",
    "splits",
    "sources",
    "hashes",
    "meta",
)


@dataclass(frozen=True, eq=False)
class PackedFrame:
    """An image with what is known of it.

    Attributes:
        data: WebP.
        boxes: see `Boxes`.
        whole: whether all its cells are labelled; else the one in the middle is.
        split: 'train' or 'val'.
        source: where it comes from.
        sha256: hash of the original file, or of its pixels and labels.
    """

    data: bytes
    boxes: Boxes
    whole: bool
    split: str
    source: str
    sha256: str

    def decoded(self) -> Bgr:
        """The image, uint8 BGR (H, W, 3).

        Raises:
            InputError: it is damaged.
        """
        image = cv2.imdecode(np.frombuffer(self.data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise InputError(
                "a packed frame is damaged; pack the data again with 'edgecell data "
                "pack'"
            )
        return Bgr(np.asarray(image, np.uint8))


def packed_frame(
    image: Rgb, boxes: Boxes, whole: bool, split: str, source: str
) -> PackedFrame:
    """Makes an image small enough and encodes it.

    Args:
        image: uint8 RGB (H, W, 3).
        boxes: in its pixels.
        whole: see `PackedFrame`.
        split: see `PackedFrame`.
        source: see `PackedFrame`.
    """
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = Rgb(shrink(np.ascontiguousarray(image), scale))
    boxes = boxes.astype(np.float32).reshape(-1, 5)
    hashed = hashlib.sha256(np.ascontiguousarray(image).tobytes() + boxes.tobytes())
    boxes[:, 1:] *= np.array(small.shape[1::-1] * 2) / (image.shape[1::-1] * 2)
    return PackedFrame(encoded(small), boxes, whole, split, source, hashed.hexdigest())


def write_frames(
    frames: Sequence[PackedFrame], out: Path, file_bytes: int = FILE_BYTES
) -> tuple[list[Path], int]:
    """Writes frames as one or more files, each whole or not at all.

    Args:
        frames: at least one.
        out: the file, ``NAME.npz``; several are ``NAME-1.npz``, ``NAME-2.npz``, ...
        file_bytes: largest size of a file, within some per cent.

    Returns:
        The files' paths and their size in bytes together.

    Raises:
        OutputError: a file can't be written.
    """
    parts = -(-sum(len(f.data) + f.boxes.nbytes + 300 for f in frames) // file_bytes)
    paths, total = [], 0
    for i in range(parts):
        content = _serialised(frames[i::parts])
        path = out if parts == 1 else out.with_stem(f"{out.stem}-{i + 1}")
        write_atomically(path, content)
        paths.append(path)
        total += len(content)
    return paths, total


def _serialised(frames: Sequence[PackedFrame]) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        pixels=np.frombuffer(b"".join(f.data for f in frames), np.uint8),
        ends=np.cumsum([len(f.data) for f in frames], dtype=np.int64),
        boxes=np.concatenate([f.boxes for f in frames]),
        box_ends=np.cumsum([len(f.boxes) for f in frames], dtype=np.int64),
        whole=np.array([f.whole for f in frames]),
        splits=np.array([f.split for f in frames]),
        sources=np.array([f.source for f in frames]),
        hashes=np.array([f.sha256 for f in frames], "S64"),
        meta=np.frombuffer(json.dumps({"frames": FORMAT}).encode(), np.uint8),
    )
    return buffer.getvalue()


def read_packed_frames(paths: Sequence[Path]) -> list[PackedFrame]:
    """Reads packed files; an image that is in several counts once.

    Raises:
        InputError: a file is missing, damaged, or no pack of frames of this version.
    """
    found: dict[str, PackedFrame] = {}
    for path in paths:
        for frame in _read(path):
            found.setdefault(frame.sha256, frame)
    return list(found.values())


def _read(path: Path) -> list[PackedFrame]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
        if json.loads(arrays["meta"].tobytes()) != {"frames": FORMAT}:
            raise InputError(
                f"{path} is a pack of another version; pack the data again"
            )
        pixels = np.split(arrays["pixels"], arrays["ends"])
        boxes = np.split(arrays["boxes"].astype(np.float32), arrays["box_ends"])
        rows = zip(
            pixels[:-1],
            boxes[:-1],
            arrays["whole"].tolist(),
            arrays["splits"].tolist(),
            arrays["sources"].tolist(),
            arrays["hashes"].tolist(),
            strict=True,
        )
        return [
            PackedFrame(data.tobytes(), own, whole, split, source, sha256.decode())
            for data, own, whole, split, source, sha256 in rows
        ]
    except OSError as e:
        raise InputError(f"{path} cannot be read ({e.strerror or e})") from e
    except (BadZipFile, EOFError, KeyError, ValueError, TypeError) as e:
        raise InputError(
            f"{path} is not a file of 'edgecell data pack --frames' ({e})"
        ) from e


def pack_frames(
    frames: Iterable[LabelledFrame], cells: Sequence["CellFile"]
) -> list[PackedFrame]:
    """Makes a finder's training data.

    Frames in a folder called ``val`` or ``test`` are not packed: they are for reports.
    One in six of the others, chosen by content, is for validation. Images that show the
    same as a frame for reports or validation, in any orientation, are left out.

    Args:
        frames: frames whose cells are all labelled.
        cells: single-cell images.
    """
    from edgecell.data.dataset import decode

    packed: list[PackedFrame | None] = []
    thumbnails, sealed = [], []
    for frame in tqdm(frames, "packing frames", disable=None, leave=False):
        image = to_rgb(Bgr(frame.image))
        thumbnails.append(thumbnail(image))
        if {"val", "test"} & set(frame.name.split("/")[:-1]):
            packed.append(None)
            sealed.append(True)
            continue
        rows = [[b.label, b.x0, b.y0, b.x1, b.y1] for b in frame.boxes]
        one = packed_frame(image, np.array(rows, np.float32), True, "train", "frames")
        held_out = int(one.sha256[:8], 16) % _HELD_OUT == 0
        packed.append(replace(one, split="val" if held_out else "train"))
        sealed.append(held_out)

    def single(cell: "CellFile") -> tuple[PackedFrame | None, npt.NDArray[np.uint8]]:
        image = decode(cell.data, cell.name)
        label = PLATELET if cell.code == "PLT" else WHITE
        box = middle_cell(image)
        row = np.array([[label, *box]] if box else [], np.float32)
        one = packed_frame(image, row, False, "train", cell.source) if box else None
        return one, thumbnail(image)

    with ThreadPoolExecutor() as pool:
        done = pool.map(single, cells)
        for one, small in tqdm(done, "packing", len(cells), disable=None, leave=False):
            packed.append(one)
            thumbnails.append(small)
            sealed.append(False)
    copies: set[int] = set()
    for group in groups(len(packed), near_duplicates(thumbnails)):
        first = next((i for i in group if sealed[i]), group[0])
        copies.update(i for i in group if i != first)
    return [f for i, f in enumerate(packed) if f is not None and i not in copies]


def middle_cell(image: Rgb) -> tuple[int, int, int, int] | None:
    """Edges of the cell in the middle of an image; None if no cell is clear there.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        Left, upper, right and lower edge, pixels.
    """
    y, x = np.nonzero(cell_mask(image) > 0.5)
    if not len(x):
        return None
    x0, y0, x1, y1 = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
    height, width = image.shape[:2]
    side = min(height, width)
    short, long = sorted((x1 - x0, y1 - y0))
    away = np.hypot((x0 + x1 - width) / 2, (y0 + y1 - height) / 2)
    clear = (
        _CELL[0] * side < short
        and long < _CELL[1] * side
        and long < _MOST_OBLONG * short
        and away < _OFF_CENTRE * side
    )
    return (x0, y0, x1, y1) if clear else None
