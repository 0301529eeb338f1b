"""Packed cells where training wants them: on the device, and as arrays to judge by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from edgecell.data.pack import Pack
from edgecell.errors import InputError
from edgecell.train.job.sampling import draw_weights


@dataclass(frozen=True, eq=False)
class TrainCells:
    """Cells to train on, on the device.

    Attributes:
        images: uint8 (N, M, M, 3), with the margin around the crop.
        sets: bool (N, C), the classes that each may belong to.
        attributes: int64 (N, A), indices of attribute values, -1 where unknown.
        weights: float32 (N,), how probably each is drawn.
        sources: N names of sources.
    """

    images: torch.Tensor
    sets: torch.Tensor
    attributes: torch.Tensor
    weights: torch.Tensor
    sources: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class JudgedCells:
    """Cells to judge by.

    Attributes:
        images: uint8 (V, S, S, 3), cropped to the input size.
        sets: bool (V, C), the classes that each may belong to.
        attributes: int8 (V, A), indices of attribute values, -1 where unknown.
        sources: V names of sources.
        hashes: V hashes of the original files.
    """

    images: npt.NDArray[np.uint8]
    sets: npt.NDArray[np.bool_]
    attributes: npt.NDArray[np.int8]
    sources: tuple[str, ...]
    hashes: tuple[str, ...]


def dealt(
    pack: Pack,
    exclude: Sequence[str],
    shares: Mapping[str, float],
    balance: float,
    device: torch.device,
) -> tuple[TrainCells, JudgedCells, JudgedCells]:
    """Divides packed cells by their split: train, val and test.

    Args:
        pack: the cells.
        exclude: sources to leave out, but for those of their cells to test by.
        shares: see `draw_weights`.
        balance: see `draw_weights`.
        device: where to train.

    Raises:
        InputError: there is nothing to train or validate on, or a share is of a source
            that does not exist; or an image is damaged.
    """
    train, val, test = (
        [
            i
            for i, (own, source) in enumerate(
                zip(pack.splits, pack.sources, strict=True)
            )
            if own == split and (source not in exclude or split == "test")
        ]
        for split in ("train", "val", "test")
    )
    if not train or not val:
        raise InputError("the packed files hold no cells to train or validate on")
    sources = tuple(pack.sources[i] for i in train)
    weights = draw_weights(sources, pack.sets[train], shares, balance)
    return (
        TrainCells(
            torch.from_numpy(pack.decoded(train)).to(device),
            torch.from_numpy(pack.sets[train]).to(device),
            torch.from_numpy(pack.attributes[train]).long().to(device),
            torch.from_numpy(weights).float().to(device),
            sources,
        ),
        _judged(pack, val),
        _judged(pack, test),
    )


def _judged(pack: Pack, chosen: Sequence[int]) -> JudgedCells:
    return JudgedCells(
        pack.crops_of(chosen),
        pack.sets[chosen],
        pack.attributes[chosen],
        tuple(pack.sources[i] for i in chosen),
        tuple(pack.hashes[i] for i in chosen),
    )
