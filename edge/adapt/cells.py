"""Cells that a person named, from folders or sessions, as the network sees them."""

import os
from collections import Counter
from collections.abc import Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecell.classes import label_matrix
from edgecell.data.dataset import CellFile, decode, read
from edgecell.edge.count.microscopes import check_one_camera
from edgecell.edge.record.connection import DATABASE
from edgecell.edge.record.pictures import equal_cells, export_hashes, hashes
from edgecell.edge.record.sessions import open_session
from edgecell.edge.record.trail import codes_of, open_trail
from edgecell.errors import InputError
from edgecell.files import several
from edgecell.image.preprocess import (
    Preprocessing,
    Rgb,
    cell_image,
    to_bgr,
    white_gains,
)
from edgecell.image.red_cells import red_cell_diameter
from edgecell.model.classifier import Classifier, Prediction
from edgecell.model.microscopes.microscope import Verdict
from edgecell.model.modelfile import ModelRecord

Sets = npt.NDArray[np.bool_]

LEAST_CELLS = 10
_LEAST_SCALES = 3
_MOST_SCALES = 60
"""Images whose red cells are measured, at most: their median hardly changes then."""
_LEAST_FOR_LAMPS = 20
_LAMPS_APART = 7.0
"""Distance of two groups of backgrounds, in their own standard deviations, beyond which
they are two microscopes. Draws of 20 cells from one microscope stay below 6.2."""


@dataclass(frozen=True, eq=False)
class NamedCells:
    """Cells with what a person calls them.

    Attributes:
        features: float32 (N, K), pooled features; of a cell that was seen several
            times their mean.
        views: uint8 RGB (S, S, 3), one view of each, as the network sees it.
        predictions: what the model says of these.
        labels: N labels: a class code, or codes joined by '|'.
        sets: bool (N, C), the classes that each may belong to.
        hashes: for each, SHA-256 of the files, or of the recorded crops; no two cells
            share one.
        source: where they come from, in a few words.
        left_out: how many were left out, by reason.
    """

    features: npt.NDArray[np.float32]
    views: tuple[Rgb, ...]
    predictions: tuple[Prediction, ...]
    labels: tuple[str, ...]
    sets: Sets
    hashes: tuple[tuple[str, ...], ...]
    source: str
    left_out: Counter[str]


@dataclass(frozen=True, eq=False)
class _Views:
    """One cell: its name in messages, label, the network's views, their hashes."""

    name: str
    label: str
    views: tuple[Rgb, ...]
    hashes: tuple[str, ...]


def named_cells(classifier: Classifier, places: Sequence[Path]) -> NamedCells:
    """Reads cells and has the network look at them.

    Args:
        classifier: the model that is to be adapted.
        places: folders or zip files, in which the directory above an image names its
            class, or sessions in which cells were named.

    Raises:
        InputError: there are none, or they can't be used, see `check`; the same
            picture has two names; or they come from several microscopes.
    """
    left_out: Counter[str] = Counter()
    sessions = [p for p in places if (p / DATABASE).is_file()]
    folders = [p for p in places if p not in sessions]
    check_one_camera([_told(session) for session in sessions])
    cells: list[_Views] = []
    for session in sessions:
        cells += _of_session(session, classifier.record, left_out, bool(folders))
    if folders:
        cells += _of_folders(folders, classifier.record.preprocessing)
    cells = _each_once(cells, left_out)
    check([cell.label for cell in cells])
    predictions = _look(classifier, cells)
    labels = tuple(cell.label for cell in cells)
    return NamedCells(
        np.stack([np.mean([p.pooled for p in seen], 0) for seen in predictions]),
        tuple(cell.views[0] for cell in cells),
        tuple(seen[0] for seen in predictions),
        labels,
        label_matrix(labels, classifier.record.codes),
        tuple(cell.hashes for cell in cells),
        ", ".join(p.resolve().name for p in places),
        left_out,
    )


def _each_once(cells: Sequence[_Views], left_out: Counter[str]) -> list[_Views]:
    """Merges cells that share a picture: a copy of a cell would judge its own fit.

    Raises:
        InputError: such cells have different names.
    """
    once = []
    for group in equal_cells([cell.hashes for cell in cells]):
        first, *others = (cells[i] for i in group)
        for other in others:
            if other.label != first.label:
                raise InputError(
                    f"{first.name} is {first.label}, and {other.name}, the same "
                    f"cell, is {other.label}; correct the one that is wrong"
                )
            left_out["given twice"] += 1
        known = dict.fromkeys(h for cell in (first, *others) for h in cell.hashes)
        once.append(replace(first, hashes=tuple(known)))
    return once


def check(labels: Sequence[str]) -> None:
    """Refuses cells from which no microscope can be learned.

    Raises:
        InputError: fewer than `LEAST_CELLS`, or all of one class.
    """
    if len(labels) < LEAST_CELLS:
        raise InputError(
            f"{several(len(labels), 'named cell')}: too few to learn a microscope "
            f"from; name {LEAST_CELLS - len(labels)} more, of several classes"
        )
    if len(set(labels)) < 2:
        raise InputError(
            f"all {len(labels)} cells are {labels[0]}; one class is not enough to "
            "learn from, so name cells of other classes too"
        )


def _told(folder: Path) -> dict[tuple[int, int], Verdict]:
    """The microscopes that a session identified, by the size of their frames."""
    with open_session(folder) as session:
        return session.told()


def _of_session(
    folder: Path, record: ModelRecord, left_out: Counter[str], exports: bool
) -> list[_Views]:
    """A session's named cells; if `exports`, to be compared with exported ones."""
    with open_session(folder) as session, open_trail(folder, "ro") as trail:
        seen_by = session.model.model_sha256
        if seen_by != record.model_sha256:
            raise InputError(
                f"{folder} was recorded with another model ({seen_by[:12]}) than the "
                f"one to adapt ({record.model_sha256[:12]}); give the model of that "
                "session"
            )
        cells = []
        for cell, label in trail.reviewed().items():
            sightings = [s for s in session.sightings(cell) if s.logits is not None]
            pictures = [s.seen for s in sightings if s.seen is not None]
            if not codes_of(label):
                left_out[f"'{label}'"] += 1
            elif not pictures:
                left_out["without pixels"] += 1
            else:
                views = tuple(decode(png, f"cell {cell}") for png in pictures)
                known = hashes(sightings)
                if exports:
                    known += export_hashes(sightings, record.preprocessing)
                cells.append(_Views(f"cell {cell} of {folder}", label, views, known))
    return cells


def _of_folders(folders: Sequence[Path], prep: Preprocessing) -> list[_Views]:
    reading = read(folders)
    reading.warn_of_unlabelled()
    files: dict[str, CellFile] = {}
    for file in reading.files:
        other = files.setdefault(file.sha256, file)
        if other.code != file.code:
            raise InputError(
                f"{other.name} is {other.code}, and {file.name}, the same image, is "
                f"{file.code}; remove the one that is wrong"
            )
    with ThreadPoolExecutor(_cores(files)) as pool:
        decoded = pool.map(lambda f: decode(f.data, f.name), files.values())
        images = dict(zip(files, decoded, strict=True))
    # A recorded crop is the network's view already; all else shows a field around.
    fields = [i for i in images.values() if i.shape[:2] != (prep.input_size,) * 2]
    _check_one_lamp([f.name for f in files.values()], list(images.values()), prep)
    scaled = replace(prep, crop_fraction=crop_of(fields, prep))
    return [
        _Views(
            file.name,
            file.code,
            (_view(images[file.sha256], prep, scaled),),
            (file.sha256,),
        )
        for file in files.values()
    ]


def _view(image: Rgb, prep: Preprocessing, scaled: Preprocessing) -> Rgb:
    side = prep.input_size
    return image if image.shape[:2] == (side, side) else cell_image(image, scaled)


def crop_of(images: Sequence[Rgb], prep: Preprocessing) -> float:
    """The share of the images that the network is to see, by their red cells' size.

    Args:
        images: single-cell images of one data set.
        prep: the model's preprocessing, whose share stays if too few show red cells.
    """
    measured = np.linspace(0, len(images) - 1, min(len(images), _MOST_SCALES))
    some = [images[i] for i in np.rint(measured).astype(int)]
    with ThreadPoolExecutor(_cores(some)) as pool:
        found = list(pool.map(lambda image: red_cell_diameter(to_bgr(image)), some))
    ratios = [
        min(image.shape[:2]) / diameter
        for image, diameter in zip(some, found, strict=True)
        if diameter
    ]
    if len(ratios) < _LEAST_SCALES:  # then they are taken for images like training's
        return prep.crop_fraction
    return min(1.0, prep.crop_red_cells / float(np.median(ratios)))


def _check_one_lamp(
    names: Sequence[str], images: Sequence[Rgb], prep: Preprocessing
) -> None:
    """Refuses cells whose backgrounds are of two clearly different colours."""
    if len(images) < _LEAST_FOR_LAMPS:
        return
    gains = [white_gains(i, prep.white_percentile, prep.white_level) for i in images]
    parted = two_groups(np.log(gains))
    if parted is not None:
        one = names[int(np.flatnonzero(parted)[0])]
        other = names[int(np.flatnonzero(~parted)[0])]
        raise InputError(
            f"the cells seem to come from two microscopes: {parted.sum()} have a "
            f"different background from the other {(~parted).sum()} (such as {one} and "
            f"{other}); give the cells of one microscope at a time"
        )


def two_groups(points: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_] | None:
    """Splits points into two groups that lie far apart, if there are any.

    Args:
        points: float64 (N, D).

    Returns:
        bool (N,), one group; None if none of at least a fifth of the points is
        `_LAMPS_APART` of its own standard deviations away from the rest.
    """
    n, width = points.shape
    least = max(3, n // 5)
    for along in (points - points.mean(0)).T:
        ordered = np.sort(along)
        gaps = np.diff(ordered)[least - 1 : n - least]
        group = along >= ordered[least + int(gaps.argmax())]
        for _ in range(15):
            if not least <= group.sum() <= n - least:
                break
            one, other = points[group], points[~group]
            within = np.concatenate([one - one.mean(0), other - other.mean(0)])
            inverse = np.linalg.inv(within.T @ within / (n - 2) + 1e-4 * np.eye(width))
            apart = one.mean(0) - other.mean(0)
            middle = (one.mean(0) + other.mean(0)) / 2
            again = (points - middle) @ inverse @ apart > 0
            if np.array_equal(again, group):
                if float(np.sqrt(apart @ inverse @ apart)) > _LAMPS_APART:
                    return np.asarray(group)
                break
            group = again
    return None


def _cores(work: Sized) -> int:
    """Threads for some pieces of work, at least 1."""
    return max(1, min(os.cpu_count() or 1, len(work)))


def _look(classifier: Classifier, cells: Sequence[_Views]) -> list[list[Prediction]]:
    """Runs the model on each view of each cell, with one interpreter a core."""
    cores = _cores(cells)
    each = [classifier, *(Classifier(classifier.path) for _ in range(cores - 1))]
    found: list[list[Prediction]] = [[] for _ in cells]

    def work(first: int) -> None:
        for i in range(first, len(cells), cores):
            found[i] = [each[first].classify(v, features=True) for v in cells[i].views]

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, range(cores)))
    return found
