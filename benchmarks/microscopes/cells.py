"""Cells of a microscope as the network sees them, and results of random draws."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.benchmarks.evaluation import grouped
from edgecell.classes import PLATELET, label_matrix
from edgecell.convert.microscopes import as_found
from edgecell.data.dataset import CellFile, decode, scan
from edgecell.edge.adapt.adapt import SIGNIFICANT, own_head, with_rule
from edgecell.edge.adapt.cells import crop_of
from edgecell.edge.adapt.head import Head, choose, log_likelihood
from edgecell.edge.count.exact import chance_of_gain
from edgecell.image.preprocess import Rgb, cell_image
from edgecell.model.classifier import Classifier
from edgecell.model.decision import review_reasons
from edgecell.model.microscopes.microscope import CELLS, most_like
from edgecell.model.modelfile import ModelRecord
from edgecell.model.probabilities import fit_temperature

Array = npt.NDArray[np.float64]
Sets = npt.NDArray[np.bool_]

FEW = 25
"""Cells that are worth naming before a model is adapted."""

MOST = 1000
"""Cells of a data set that are looked at, at most."""


@dataclass(frozen=True, eq=False)
class Looked:
    """Cells of one microscope.

    Attributes:
        name: of the data set.
        features: float64 (N, K), pooled features.
        logits: float32 (N, C).
        sets: bool (N, C), the classes that are right.
        slides: for each cell its slide; '' where none is named.
    """

    name: str
    features: Array
    logits: npt.NDArray[np.float32]
    sets: Sets
    slides: tuple[str, ...]

    def right(self, logits: npt.NDArray[np.floating], codes: Sequence[str]) -> Sets:
        """Whether answers are right, with the classes of a group counted as one."""
        rows = np.arange(len(logits))
        return np.asarray(grouped(self.sets, codes)[rows, logits.argmax(1)])


@cache
def files_of(folder: Path, known: bool) -> tuple[CellFile, ...]:
    """At most `MOST` cells of a data set, drawn by their hash; see `look`."""
    files = [f for f in scan([folder]) if not known or f.split == "test"]
    return tuple(sorted(files, key=lambda f: f.sha256)[:MOST])


def as_it_is(_: CellFile, view: Rgb) -> Rgb:
    """Changes nothing, see `look`."""
    return view


def look(
    classifier: Classifier,
    folder: Path,
    known: bool,
    change: Callable[[CellFile, Rgb], Rgb] = as_it_is,
) -> Looked:
    """Runs the network on the cells of a folder or zip file.

    Args:
        classifier: the model.
        folder: folders of classes.
        known: a data set that was trained on: only its test split is looked at, cut
            out as on a device. Others are cut out at the scale of their red cells, as
            `edgecell adapt` does.
        change: is given each file and the network's view of it, and returns what the
            network is to see instead.
    """
    files = files_of(folder, known)
    images = [decode(f.data, f.name) for f in files]
    prep = classifier.record.preprocessing
    if not known:
        prep = replace(prep, crop_fraction=crop_of(images, prep))

    def view(file: CellFile, image: Rgb) -> Rgb:
        if not known:
            return change(file, cell_image(image, prep))
        rng = np.random.default_rng(int(file.sha256[:8], 16))
        trained = classifier.record.preprocessing_of(file.source)
        return change(file, as_found(image, trained, rng))

    cores = min(os.cpu_count() or 1, len(files))
    each = [Classifier(classifier.path) for _ in range(cores)]
    features: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * len(files)
    logits = list(features)
    name = files[0].source
    with (
        ThreadPoolExecutor(cores) as pool,
        tqdm(total=len(files), desc=name, disable=None, leave=False) as bar,
    ):

        def work(first: int) -> None:
            for i in range(first, len(files), cores):
                seen = each[first].classify(view(files[i], images[i]), features=True)
                features[i], logits[i] = seen.pooled, seen.logits
                bar.update()

        list(pool.map(work, range(cores)))
    codes = classifier.record.codes
    return Looked(
        name,
        np.stack(features).astype(np.float64),
        np.stack(logits),
        label_matrix([f.code for f in files], codes),
        tuple(f.slide for f in files),
    )


def draws(cells: Looked, count: int) -> Iterator[npt.NDArray[np.intp]]:
    """Random draws of `CELLS` cells, each from one slide where slides are named.

    Args:
        cells: a microscope's.
        count: draws.
    """
    rng = np.random.default_rng(0)
    slides = np.array(cells.slides)
    names, sizes = np.unique(slides, return_counts=True)
    large = sizes >= CELLS
    names, weights = names[large], sizes[large] / sizes[large].sum()
    for _ in range(count):
        here = np.flatnonzero(slides == rng.choice(names, p=weights))
        yield rng.choice(here, CELLS, replace=False)


def told_unknown(cells: Looked, record: ModelRecord, count: int) -> float:
    """The share of draws of `CELLS` cells that are called an unknown microscope."""
    # As `judge` does, with each cell's scores computed once.
    scores = np.stack([m.scores(cells.features) for m in record.microscopes])
    limits = np.array([m.limits[-1] for m in record.microscopes])
    told = [(scores[:, d].mean(1) > limits).all() for d in draws(cells, count)]
    return float(np.mean(told))


def classes_unknown(cells: Looked, record: ModelRecord, count: int) -> dict[str, float]:
    """What `told_unknown` gives for draws from the white cells of one label alone.

    Args:
        cells: a microscope's.
        record: the model's.
        count: draws.

    Returns:
        The share by label, such as 'EO' or 'BNE|SNE', for those of which there are
        `CELLS` cells (on one slide, where slides are named).
    """
    found = {}
    for label in np.unique(cells.sets, axis=0):
        here = np.flatnonzero((cells.sets == label).all(1))
        slides = tuple(cells.slides[i] for i in here)
        name = "|".join(np.array(record.codes)[label])
        if name == PLATELET or max(Counter(slides).values()) < CELLS:
            continue
        alone = Looked(
            cells.name,
            cells.features[here],
            cells.logits[here],
            cells.sets[here],
            slides,
        )
        found[name] = told_unknown(alone, record, count)
    return found


@dataclass(frozen=True)
class Adapted:
    """The effect of adapting to some cells of a microscope on the others.

    Attributes:
        cells: cells named in each draw.
        draws: how many draws.
        before: mean share of the others that is right before, merged groups.
        after: with the new head, whether it would be written or not.
        after_interval: 95 % interval of this mean over draws.
        worst: the worst draw.
        worst_change: the worst change of a draw whose file would be written, in
            shares; 0 if none is.
        kept: mean with the old head where nothing would be written.
        written: share of the draws whose file would be.
        accepted: share of the others that the new rule would accept.
        accepted_right: of these the share that is right.
    """

    cells: int
    draws: int
    before: float
    after: float
    after_interval: tuple[float, float]
    worst: float
    worst_change: float
    kept: float
    written: float
    accepted: float
    accepted_right: float


def adapt_draws(
    cells: Looked, classifier: Classifier, named: int, count: int
) -> Adapted:
    """Adapts to random cells, and judges all others.

    Args:
        cells: a microscope's.
        classifier: the model.
        named: cells that are named.
        count: draws.
    """
    record, own = classifier.record, own_head(classifier)
    rng = np.random.default_rng(0)
    rows = [
        _adapted(cells, record, own, rng.permutation(len(cells.sets)), named)
        for _ in tqdm(
            range(count), desc=f"{cells.name} {named}", leave=False, disable=None
        )
    ]
    before, after, written, taken, good = np.array(rows).T
    error = 1.96 * after.std(ddof=1) / np.sqrt(count)
    return Adapted(
        cells=named,
        draws=count,
        before=float(before.mean()),
        after=float(after.mean()),
        after_interval=(float(after.mean() - error), float(after.mean() + error)),
        worst=float(after.min()),
        worst_change=float(np.where(written, after - before, 0.0).min()),
        kept=float(np.where(written, after, before).mean()),
        written=float(written.mean()),
        accepted=float(taken.mean()),
        accepted_right=float((taken * good).sum() / max(taken.sum(), 1e-9)),
    )


def _adapted(
    cells: Looked,
    record: ModelRecord,
    own: Head,
    order: npt.NDArray[np.intp],
    named: int,
) -> tuple[float, float, bool, float, float]:
    """Right before and after, whether it is written, accepted, of these right."""
    some, others = order[:named], order[named:]
    x, sets, codes = cells.features[some], cells.sets[some], record.codes
    like = most_like(x, record.microscopes).whitening()
    choice = choose(x, sets, own, like)
    rest = replace(cells, sets=cells.sets[others])
    before = rest.right(own.logits(cells.features[others]), codes)
    logits = choice.head.logits(cells.features[others]).astype(np.float32)
    after = rest.right(logits, codes)
    rule = with_rule(record, choice, sets)
    taken = np.array([not review_reasons(row, rule) for row in logits])
    good = float(after[taken].mean()) if taken.any() else 0.0
    written = _written(own.logits(x), choice.left_out, sets)
    return float(before.mean()), float(after.mean()), written, float(taken.mean()), good


def _written(
    before: npt.NDArray[np.floating], after: npt.NDArray[np.floating], sets: Sets
) -> bool:
    """Whether `edgecell adapt` would write the file; see `measure` there."""
    rows = np.arange(len(sets))
    was, now = (int(sets[rows, z.argmax(1)].sum()) for z in (before, after))
    gain = log_likelihood(after / fit_temperature(after, sets), sets) - log_likelihood(
        before / fit_temperature(before, sets), sets
    )
    return now >= was and chance_of_gain(gain) < SIGNIFICANT
