"""Does a network know a cell, or the microscope behind it? Cells on other backgrounds.

A class that comes from one microscope alone (MYE in the project's data) can be learned
by its background. Here each cell is cut out, laid over the background of another image,
of its own source as a control or of another source, and classified again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.data.dataset import CellFile, decode
from edgecell.errors import InputError
from edgecell.image.preprocess import (
    Preprocessing,
    Rgb,
    cell_image,
    crop_square,
    resize,
)
from edgecell.image.regions import cell_mask
from edgecell.model.predict import predict, read_record

_MOST = 100
"""Cells of a class and source that are moved: the first by content."""


@dataclass(frozen=True)
class Transplant:
    """Cells of one class and source on backgrounds of a source.

    Attributes:
        code: class of the cells.
        cells: their source.
        backgrounds: source of the backgrounds; the same as ``cells`` for the control.
        n: cells that are classified correctly in their own image.
        kept: share of those that are called the same on the new background.
        lured: share of those that are called a class that only the source of the
            backgrounds has, and not theirs: the pull of the background.
    """

    code: str
    cells: str
    backgrounds: str
    n: int
    kept: float
    lured: float


def _view(file: CellFile, prep: Preprocessing) -> tuple[Rgb, npt.NDArray[np.float32]]:
    """What the network sees of a cell, and the cell's mask in it: (S, S, 1)."""
    image = decode(file.data, file.name)
    mask = np.rint(255 * cell_mask(image)).astype(np.uint8)
    height, width = image.shape[:2]
    side = prep.crop_fraction * min(height, width)
    there = crop_square(np.repeat(mask[..., None], 3, 2), (width / 2, height / 2), side)
    alpha = resize(there, prep.input_size)[..., :1].astype(np.float32) / np.float32(255)
    return cell_image(image, prep), alpha


def transplant(
    cell: Rgb,
    alpha: npt.NDArray[np.float32],
    around: Rgb,
    around_alpha: npt.NDArray[np.float32],
) -> Rgb:
    """Places a cell on the background of another image.

    Args:
        cell: uint8 (S, S, 3).
        alpha: float32 (S, S, 1), the cell's mask.
        around: uint8 (S, S, 3), whose own cell is first filled with its glass.
        around_alpha: float32 (S, S, 1), that cell's mask.

    Returns:
        uint8 (S, S, 3).
    """
    # Most of what is not a cell is glass, and brighter than the red cells on it.
    outside = around[around_alpha[..., 0] < 0.5]
    glass = np.percentile(outside, 75, axis=0) if len(outside) else np.full(3, 240.0)
    empty = around * (1 - around_alpha) + glass * around_alpha
    mixed = cell * alpha + empty * (1 - alpha)
    return Rgb(np.asarray(np.rint(mixed), np.uint8))


def transplants(path: Path, files: Sequence[CellFile]) -> list[Transplant]:
    """Moves cells onto backgrounds of each source and counts what is called the same.

    Args:
        path: a model file.
        files: labelled images, of two or more sources.

    Returns:
        One row for each class and source of cells and each source of backgrounds.

    Raises:
        InputError: the images come from one source.
    """
    record = read_record(path)
    sources = sorted({f.source for f in files})
    if len(sources) < 2:
        raise InputError(
            "all images come from one source; give images of two, so that "
            "backgrounds can be exchanged"
        )
    groups: dict[tuple[str, str], list[CellFile]] = {}
    for file in sorted(files, key=lambda f: f.sha256):
        groups.setdefault((file.code, file.source), []).append(file)
    groups = {key: members[:_MOST] for key, members in sorted(groups.items())}
    views = {
        f.name: _view(f, record.preprocessing)
        for f in tqdm(
            [f for members in groups.values() for f in members],
            "cutting out cells",
            disable=None,
            leave=False,
        )
    }
    of_source = {
        s: [f.name for key, members in groups.items() for f in members if key[1] == s]
        for s in sources
    }
    alone = {
        s: [c for c in record.codes if {x for k, x in groups if k == c} == {s}]
        for s in sources
    }
    rng = np.random.default_rng(0)
    rows = []
    for (code, source), members in groups.items():
        own = np.stack([views[f.name][0] for f in members])
        here = predict(path, own).logits.argmax(1) == record.codes.index(code)
        for other in sources:
            drawn = rng.choice(of_source[other], len(members))
            moved = np.stack(
                [
                    transplant(*views[f.name], *views[str(b)])
                    for f, b in zip(members, drawn, strict=True)
                ]
            )
            called = predict(path, moved).logits.argmax(1)[here]
            lures = [record.codes.index(c) for c in alone[other] if c != code]
            n = int(here.sum())
            kept = called == record.codes.index(code)
            lured = np.isin(called, lures)
            rows.append(
                Transplant(
                    code,
                    source,
                    other,
                    n,
                    float(kept.mean()) if n else 0.0,
                    float(lured.mean()) if n else 0.0,
                )
            )
    return rows
