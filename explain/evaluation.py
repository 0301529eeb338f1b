"""How reliable each method is: all methods and controls on the same cells."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.errors import InputError
from edgecell.explain.faithfulness import (
    area,
    deletion,
    energy_inside,
    insertion,
    paired_interval,
    rank_correlation,
    road,
)
from edgecell.explain.masks import MaskedCell
from edgecell.explain.methods import Explanation, explain
from edgecell.explain.randomised import randomised
from edgecell.explainers import EXPLAINERS
from edgecell.image.preprocess import Rgb
from edgecell.model import cam
from edgecell.model.classifier import Classifier

logger = logging.getLogger(__name__)

_NOISE = 3.0
"""Deviation of the noise that a map must not follow, in levels of 255."""

_TOLD = 10
"""How often progress is logged where no bar can be drawn."""

_OTHER_SEED = 1_000_003
_MAP_SIDE = 7

BETTER = {
    "deletion": -1,
    "insertion": 1,
    "road": -1,
    "in_nucleus": 1,
    "in_cell": 1,
}
"""Measures in which a method is compared with the controls; -1: less is better."""


def random_map(size: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """A control: noise on the grid of the activation maps, enlarged as they are."""
    noise = rng.random((_MAP_SIDE, _MAP_SIDE)).astype(np.float32)
    return cam.enlarge(noise, size)


def centred_disc(size: int) -> npt.NDArray[np.float32]:
    """A control: falls evenly from the centre of the image, 1, to its corners, 0."""
    axis = np.linspace(-1, 1, size)
    away = np.hypot(axis[:, None], axis) / np.sqrt(2)
    return np.asarray(1 - away, np.float32)


CONTROLS = ("random", "disc")


@dataclass
class MethodReport:
    """What was measured of one method; lists have an entry for each cell.

    Attributes:
        method: its name.
        empty: cells for which nothing spoke for the class; they are in no other figure.
        values: by measure and cell: deletion and insertion (areas), road (mean share of
            `ROAD_SHARES` at which the class stays), in_nucleus, in_cell, seconds,
            evaluations and the method's own scores. On fewer cells, since they repeat
            the method: stability (rank correlation with the map of the same cell under
            slight noise and another seed), random_head and random_weights (with the
            map under shuffled weights).
        curves: mean over cells, by 'deletion', 'insertion' and 'road'.
    """

    method: str
    empty: int = 0
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)

    def add(self, cell: int, values: dict[str, float]) -> None:
        """Adds what was measured on a cell."""
        for measure, value in values.items():
            self.values.setdefault(measure, {})[cell] = value

    def mean(self, measure: str) -> float | None:
        """Mean over the cells; None if it was not measured."""
        found = self.values.get(measure)
        return float(np.mean(list(found.values()))) if found else None


@dataclass(frozen=True)
class Comparison:
    """A method against a control in one measure, on the cells that both have.

    Attributes:
        method: the method.
        control: 'random' or 'disc'.
        measure: one of `BETTER`.
        n: cells.
        gain: mean difference, above 0 where the method is better.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
    """

    method: str
    control: str
    measure: str
    n: int
    gain: float
    low: float
    high: float

    @property
    def beats(self) -> bool:
        """Whether the whole interval is on the better side."""
        return self.low > 0


@dataclass(frozen=True)
class ExplainReport:
    """All methods on the same cells.

    Attributes:
        cells: cells of the data; the class explained is the one that the model names.
        masked: cells with expert masks.
        nucleus_area: mean share of the image that is nucleus: what a map that says
            nothing has inside.
        cell_area: the same of the whole cell.
        methods: one a method, controls last.
        comparisons: every method, measure and control.
    """

    cells: int
    masked: int
    nucleus_area: float | None
    cell_area: float | None
    methods: list[MethodReport]
    comparisons: list[Comparison]

    def beating(self, measure: str) -> list[str]:
        """Methods that beat both controls in a measure."""
        won = [c.method for c in self.comparisons if c.measure == measure and c.beats]
        return [m.method for m in self.methods if won.count(m.method) == len(CONTROLS)]

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready summary."""
        rows = []
        for m in self.methods:
            means = {k: m.mean(k) for k in m.values}
            row = {"method": m.method, "empty": m.empty, "n": _n(m)}
            rows.append(row | means | {"curves": m.curves})
        return {
            "cells": self.cells,
            "masked": self.masked,
            "nucleus_area": self.nucleus_area,
            "cell_area": self.cell_area,
            "methods": rows,
            "comparisons": [asdict(c) | {"beats": c.beats} for c in self.comparisons],
            "beating_both_controls": {k: self.beating(k) for k in BETTER},
        }


def _n(report: MethodReport) -> int:
    return max((len(v) for v in report.values.values()), default=0)


def evaluate(
    classifier: Classifier,
    images: Sequence[Rgb],
    masked: Sequence[MaskedCell],
    methods: Sequence[str],
    seed: int,
    repeats: int,
) -> ExplainReport:
    """Measures methods and controls.

    Args:
        classifier: the model.
        images: uint8 RGB (S, S, 3), cells as the network sees them.
        masked: cells with masks, for the energy inside.
        methods: names from `EXPLAINERS`.
        seed: of everything that is drawn.
        repeats: the first so many cells get the checks that repeat a method.

    Raises:
        InputError: there are no cells.
    """
    if not images:
        raise InputError("there are no cells to explain in this split")
    reports = {name: MethodReport(name) for name in (*methods, *CONTROLS)}
    curves: dict[tuple[str, str], list[npt.NDArray[Any]]] = defaultdict(list)
    shuffled = {
        "random_head": randomised(classifier, True, seed),
        "random_weights": randomised(classifier, False, seed),
    }
    cells: list[tuple[int, Rgb, MaskedCell | None]] = [
        *((n, image, None) for n, image in enumerate(images)),
        *((n, cell.seen, cell) for n, cell in enumerate(masked)),
    ]
    # One step a method and a cell: a cell alone takes seconds.
    work = [(*cell, *named) for cell in cells for named in reports.items()]
    with tqdm(work, "explaining", unit="map", disable=None, leave=False) as bar:
        for done, (number, seen, masks, name, report) in enumerate(bar):
            if bar.disable and done and not done % -(-len(work) // _TOLD):
                logger.info("%d of %d explanations measured", done, len(work))
            index = classifier.classify(seen).index
            found = _heat(name, classifier, seen, index, (seed, number))
            if masks is not None:
                if not found.empty:
                    inside = {
                        "in_nucleus": energy_inside(found.heat, masks.nucleus),
                        "in_cell": energy_inside(found.heat, masks.cell),
                    }
                    report.add(number, inside)
                continue
            if found.empty:
                report.empty += 1
                continue
            for kind, curve in _curves(classifier, seen, found, seed).items():
                curves[name, kind].append(curve)
                mean = float(curve.mean()) if kind == "road" else area(curve)
                report.add(number, {kind: mean})
            report.add(number, found.scores)
            if number < repeats:
                report.add(number, _repeated(classifier, shuffled, seen, found, number))
    for (name, kind), found_curves in curves.items():
        reports[name].curves[kind] = np.mean(found_curves, 0).tolist()
    return ExplainReport(
        cells=len(images),
        masked=len(masked),
        nucleus_area=_mean_area([c.nucleus for c in masked]),
        cell_area=_mean_area([c.cell for c in masked]),
        methods=list(reports.values()),
        comparisons=_comparisons(reports, methods),
    )


def _heat(
    name: str, classifier: Classifier, seen: Rgb, index: int, seed: tuple[int, int]
) -> Explanation:
    """A method or a control; ``seed`` is the run's and the cell's."""
    if name in EXPLAINERS:
        return explain(name, classifier, seen, index, seed[0])
    size = len(seen)
    rng = np.random.default_rng(seed)
    heat = random_map(size, rng) if name == "random" else centred_disc(size)
    return Explanation(name, index, heat, {})


def _curves(
    classifier: Classifier, seen: Rgb, found: Explanation, seed: int
) -> dict[str, npt.NDArray[Any]]:
    heat, index = found.heat, found.index
    return {
        "deletion": deletion(classifier, seen, heat, index),
        "insertion": insertion(classifier, seen, heat, index),
        "road": road(classifier, seen, heat, index, seed),
    }


def _repeated(
    classifier: Classifier,
    shuffled: dict[str, Classifier],
    seen: Rgb,
    found: Explanation,
    number: int,
) -> dict[str, float]:
    """Rank correlations with the maps that should be alike, or should not."""
    noise = np.random.default_rng(number).normal(0, _NOISE, seen.shape)
    noisy = Rgb(np.clip(np.rint(seen + noise), 0, 255).astype(np.uint8))
    name, index, other_seed = found.method, found.index, (_OTHER_SEED, number)
    again = _heat(name, classifier, noisy, index, other_seed)
    maps = {"stability": again} | {
        kind: _heat(name, model, seen, index, other_seed)
        for kind, model in shuffled.items()
    }
    return {k: rank_correlation(found.heat, m.heat) for k, m in maps.items()}


def _mean_area(masks: Sequence[npt.NDArray[np.bool_]]) -> float | None:
    return float(np.mean(masks)) if masks else None


def _comparisons(
    reports: dict[str, MethodReport], methods: Sequence[str]
) -> list[Comparison]:
    rows = []
    for method in methods:
        for measure, sign in BETTER.items():
            mine = reports[method].values.get(measure, {})
            for control in CONTROLS:
                theirs = reports[control].values.get(measure, {})
                both = sorted(mine.keys() & theirs.keys())
                if not both:
                    continue
                gains = [sign * (mine[i] - theirs[i]) for i in both]
                low, high = paired_interval(gains)
                gain = float(np.mean(gains))
                rows.append(
                    Comparison(method, control, measure, len(both), gain, low, high)
                )
    return rows
