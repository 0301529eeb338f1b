"""A slide whose cells are known: real labelled cells laid side by side, and a pan.

Run as ``python -m edgecell.benchmarks make-mosaic CLIP.avi DATA...`` (DATA as in
'edgecell train') to look at it, or to give it to 'edgecell run'; the labels go to
CLIP.json. `counting.py` measures on it.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import numpy as np

from edgecell.cli import OutputFile, PoliteCommand, claim
from edgecell.data import dataset
from edgecell.data.dataset import CellFile, scan
from edgecell.edge.sources.base import Frame
from edgecell.files import write_atomically
from edgecell.image.preprocess import Bgr, apply_gains, to_bgr, white_gains

TILE = 224
FRAME = (640, 480)
FPS = 10.0
_GLASS = 240
_WHITE_PERCENTILE = 95.0
_RADIUS = 0.40
_FEATHER = 0.08
"""Of a tile: a disc around its cell is kept; what else the image shows is not
labelled, and its hard edges would be no slide's."""

_JITTER = 16
_NOISE = 2.0
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class LabelledCell:
    """A cell of the mosaic: class code and centre in its pixels."""

    code: str
    x: float
    y: float


@dataclass(frozen=True)
class View:
    """A camera's position: upper left corner in the mosaic, and sigma of its blur."""

    x: int
    y: int
    blur: float = 0.0


def mosaic(cells: Sequence[tuple[str, Bgr]]) -> tuple[Bgr, list[LabelledCell]]:
    """Lays cells on glass, in a grid that is not quite regular.

    Args:
        cells: code and image, uint8 BGR (H, W, 3), the cell in its middle.

    Returns:
        uint8 BGR (H, W, 3), at least as large as `FRAME`, and what is where.
    """
    rng = np.random.default_rng(0)
    columns = max(3, math.ceil(math.sqrt(len(cells) * 1.5)))
    rows = max(3, math.ceil(len(cells) / columns))
    side = TILE + 2 * _JITTER
    slide = np.full((rows * side, columns * side, 3), _GLASS, np.float32)
    away = np.hypot(*np.indices((TILE, TILE)) - (TILE - 1) / 2) / TILE
    part = np.clip((_RADIUS - away) / _FEATHER + 0.5, 0, 1)[..., None]
    labels = []
    for i, (code, image) in enumerate(cells):
        row, column = divmod(i, columns)
        gains = white_gains(image, _WHITE_PERCENTILE, _GLASS)
        tile = cv2.resize(apply_gains(image, gains), (TILE, TILE))
        x, y = np.array((column, row)) * side + rng.integers(0, 2 * _JITTER, 2)
        under = slide[y : y + TILE, x : x + TILE]
        slide[y : y + TILE, x : x + TILE] = part * tile + (1 - part) * under
        labels.append(LabelledCell(code, float(x + TILE / 2), float(y + TILE / 2)))
    return Bgr(slide.astype(np.uint8)), labels


def path(width: int, height: int, step: int) -> list[View]:
    """How a technician scans a slide, with all that goes wrong.

    Row by row, every spot seen; then a rest; a jump back to the start, where a
    frame out of focus and a shaken one come; a pan over fields seen before; and a
    jump to the far end.

    Args:
        width: of the mosaic, pixels.
        height: likewise.
        step: pixels between frames.
    """
    right, bottom = width - FRAME[0], height - FRAME[1]
    views: list[View] = []
    # Rows overlap by a tile, so that each cell is once seen whole.
    levels = np.linspace(0, bottom, 1 + math.ceil(bottom / (FRAME[1] - TILE)))
    for row, y in enumerate(levels.astype(int)):
        xs = [*range(0, right, step), right]
        if row:
            down = range(views[-1].y + step, int(y), step)
            views += [View(views[-1].x, v) for v in down]
        views += [View(x, int(y)) for x in (xs if row % 2 == 0 else xs[::-1])]
    views += [views[-1]] * 5
    views += [View(0, 0), View(0, 0, blur=4.0), View(step // 2, 3, blur=1.5)]
    views += [View(x, min(x // 2, bottom)) for x in range(step, right, step)]
    return [*views, View(right, bottom), View(right, bottom)]


def frames(slide: Bgr, views: Sequence[View]) -> Iterator[Frame]:
    """What a camera with a little noise and JPEG compression sees on a path."""
    rng = np.random.default_rng(1)
    width, height = FRAME
    for i, view in enumerate(views):
        image = slide[view.y : view.y + height, view.x : view.x + width]
        if view.blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), view.blur), np.uint8)
        noisy = np.clip(image + rng.normal(0, _NOISE, image.shape), 0, 255)
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        _, data = cv2.imencode(".jpg", noisy.astype(np.uint8), quality)
        seen = Bgr(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8))
        yield Frame(i, i / FPS, seen, "mosaic")


def decode(file: CellFile) -> tuple[str, Bgr]:
    """Code and image, uint8 BGR (H, W, 3), of a labelled cell."""
    return file.code, to_bgr(dataset.decode(file.data, file.name))


@click.command("make-mosaic", cls=PoliteCommand, no_args_is_help=True)
@click.argument("clip", type=OutputFile("AVI"))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(clip: Path, data: tuple[Path, ...]) -> None:
    """Film a slide whose cells are known.

    Lays the cells of DATA side by side and pans over them. Writes CLIP, an .avi file,
    and the labels to a .json file beside it.
    """
    labels_file = clip.with_suffix(".json")
    claim(labels_file, "JSON")
    slide, labels = mosaic([decode(file) for file in scan(data)])
    height, width = slide.shape[:2]
    fourcc = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(clip), fourcc, FPS, FRAME)
    for frame in frames(slide, path(width, height, 20)):
        writer.write(frame.image)
    writer.release()
    found = [{"class": cell.code, "x": cell.x, "y": cell.y} for cell in labels]
    write_atomically(labels_file, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    command()
