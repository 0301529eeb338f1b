"""A model's accuracy on attributes of cells, beside that of annotators."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.benchmarks.evaluation import Answers, expected_calibration_error
from edgecell.convert.microscopes import pooled_features
from edgecell.errors import InputError
from edgecell.morphology.heads import AttributeHeads
from edgecell.morphology.table import UNKNOWN, AttributeTable
from edgecell.optional import require

Array = npt.NDArray[np.float64]

AGREEMENT = {
    "nucleus_shape": 0.903,
    "cell_size": 0.898,
    "cell_shape": 0.958,
    "cytoplasm_texture": 0.949,
    "cytoplasm_colour": 0.954,
    "chromatin_density": 0.965,
}
"""Share of 1,000 cells on which two annotators of WBCAtt agree (Tsutsui et al., NeurIPS
2023). For its other attributes it is 0.976 to 0.999."""

_NUCLEUS = "nucleus_shape"
_SIDES = {"SNE": "unsegmented", "BNE": "segmented"}
"""How the nucleus of a cell begins in words that contradict its class."""

_RARE = 0.01


@dataclass(frozen=True)
class AttributeFigures:
    """Figures of one attribute.

    Attributes:
        n: cells that have it.
        accuracy: share for which the most probable value is right.
        macro_f1: mean F1 over its values.
        ece: expected calibration error of the most probable value.
        agreement: share on which two annotators agree; None if it isn't known.
    """

    n: int
    accuracy: float
    macro_f1: float
    ece: float
    agreement: float | None


@dataclass(frozen=True)
class Consensus:
    """Accuracy without the cells whose class two groups of annotators contradict.

    One group named the class, the other the nucleus' shape: a segmented neutrophil
    with an unsegmented nucleus, or a band neutrophil with a segmented one.

    Attributes:
        n: images that nobody contradicts.
        accuracy: share of them that is right.
        contradicted: the other images.
        contradicted_accuracy: share of these that is right; None without any.
    """

    n: int
    accuracy: float
    contradicted: int
    contradicted_accuracy: float | None


@dataclass(frozen=True)
class BandErrors:
    """Neutrophils of one class that the model calls the other.

    Attributes:
        truth: their class.
        called: what the model calls them.
        n: cells with attributes.
        sided: of these, cells whose nucleus the annotators describe as the model does.
    """

    truth: str
    called: str
    n: int
    sided: int


@dataclass(frozen=True)
class AttributeReport:
    """Figures of all attributes on labelled cells.

    Attributes:
        cells: cells with attributes.
        accuracy: mean over the attributes.
        macro_f1: likewise.
        attributes: figures by attribute.
        misclassified: cells whose class is wrong, both classes being ones that have
            attributes.
        towards_truth: of these, cells whose attributes, as the model predicts them, are
            more typical of the true class than of the one that it calls them.
        band_errors: see there.
        consensus: over all images.
    """

    cells: int
    accuracy: float
    macro_f1: float
    attributes: dict[str, AttributeFigures]
    misclassified: int
    towards_truth: int
    band_errors: tuple[BandErrors, ...]
    consensus: Consensus

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


def evaluate_attributes(
    path: Path, answers: Answers, table: AttributeTable
) -> AttributeReport:
    """Measures a model's attributes on the images that it was evaluated on.

    Args:
        path: the model file.
        answers: what it says of the images.
        table: attributes of some of them.

    Raises:
        InputError: the model has no attributes, or no image has any.
    """
    heads = answers.record.attributes
    if heads is None:
        raise InputError(
            f"{path} predicts no attributes; make it with 'edgecell convert "
            "--attributes'"
        )
    truth = true_values(heads, table, answers)
    chosen = np.flatnonzero((truth >= 0).any(1))
    if not len(chosen):
        raise InputError("none of these images has attributes in the table")
    pooled = pooled_features(path, [answers.files[int(i)] for i in chosen])
    return figures(heads, heads.probabilities(heads.logits(pooled)), truth, answers)


def true_values(
    heads: AttributeHeads, table: AttributeTable, answers: Answers
) -> npt.NDArray[np.int64]:
    """The table's values as the model numbers them, int64 (N, A); `UNKNOWN` for others.

    Args:
        heads: the model's.
        table: by file name.
        answers: of N images.
    """
    given = table.of(answers.files)
    truth = np.full((len(given), len(heads.attributes)), UNKNOWN, np.int64)
    names = [a.name for a in table.attributes]
    for i, attribute in enumerate(heads.attributes):
        if attribute.name in names:
            column = given[:, names.index(attribute.name)]
            values = table.attributes[names.index(attribute.name)].values
            for k, value in enumerate(values):
                if value in attribute.values:
                    truth[column == k, i] = attribute.values.index(value)
    return truth


def figures(
    heads: AttributeHeads,
    p: Array,
    truth: npt.NDArray[np.int64],
    answers: Answers,
) -> AttributeReport:
    """Computes the figures.

    Args:
        heads: the model's.
        p: float64 (M, V), probabilities of the M cells that have attributes.
        truth: int64 (N, A), see `true_values`; M of its rows are not all `UNKNOWN`.
        answers: of the N images.
    """
    chosen = np.flatnonzero((truth >= 0).any(1))
    starts = np.cumsum((0, *heads.sizes[:-1]))
    each = {
        attribute.name: _of_one(
            attribute.name, p[:, start : start + size], truth[chosen, i]
        )
        for i, (attribute, start, size) in enumerate(
            zip(heads.attributes, starts, heads.sizes, strict=True)
        )
        if (truth[:, i] >= 0).any()
    }
    codes = np.array([f.code for f in answers.files])
    called = np.array(answers.record.codes)[answers.probabilities.argmax(1)]
    nuclei = _nuclei(heads, truth)
    wrong = [
        (i, codes[k], called[k])
        for i, k in enumerate(chosen)
        if codes[k] != called[k] and {codes[k], called[k]} <= set(heads.classes)
    ]
    towards = sum(_evidence(heads, p[i], own, other) > 0 for i, own, other in wrong)
    return AttributeReport(
        cells=len(chosen),
        accuracy=float(np.mean([f.accuracy for f in each.values()])),
        macro_f1=float(np.mean([f.macro_f1 for f in each.values()])),
        attributes=each,
        misclassified=len(wrong),
        towards_truth=towards,
        band_errors=tuple(
            _band_errors(codes, called, nuclei, *pair)
            for pair in (("SNE", "BNE"), ("BNE", "SNE"))
        ),
        consensus=_consensus(codes, nuclei, answers),
    )


def _of_one(name: str, p: Array, truth: npt.NDArray[np.int64]) -> AttributeFigures:
    metrics = require("sklearn.metrics", "evaluate")
    known = truth >= 0
    own, y = p[known], truth[known]
    called = own.argmax(1)
    right = called == y
    return AttributeFigures(
        n=int(known.sum()),
        accuracy=float(right.mean()),
        macro_f1=float(metrics.f1_score(y, called, average="macro")),
        ece=expected_calibration_error(own.max(1), right),
        agreement=AGREEMENT.get(name),
    )


def _nuclei(heads: AttributeHeads, truth: npt.NDArray[np.int64]) -> list[str]:
    """The nucleus' shape of each image in words; '' where unknown."""
    names = [a.name for a in heads.attributes]
    if _NUCLEUS not in names:
        return [""] * len(truth)
    place = names.index(_NUCLEUS)
    values = heads.attributes[place].values
    return [values[v] if v >= 0 else "" for v in truth[:, place]]


def _evidence(heads: AttributeHeads, p: Array, own: str, other: str) -> float:
    """Mean log ratio of how typical a cell's attributes are of two classes."""
    a, b = (np.array(heads.typical[heads.classes.index(c)]) for c in (own, other))
    return float(p @ np.log((a + _RARE) / (b + _RARE)))


def _band_errors(
    codes: npt.NDArray[np.str_],
    called: npt.NDArray[np.str_],
    nuclei: Sequence[str],
    truth: str,
    wrongly: str,
) -> BandErrors:
    shapes = [
        shape
        for code, call, shape in zip(codes, called, nuclei, strict=True)
        if shape and (code, call) == (truth, wrongly)
    ]
    sided = sum(shape.startswith(_SIDES[truth]) for shape in shapes)
    return BandErrors(truth, wrongly, len(shapes), sided)


def _consensus(
    codes: npt.NDArray[np.str_], nuclei: Sequence[str], answers: Answers
) -> Consensus:
    against = np.array(
        [
            code in _SIDES and shape.startswith(_SIDES[code])
            for code, shape in zip(codes.tolist(), nuclei, strict=True)
        ]
    )
    rows, predicted = np.arange(len(codes)), answers.probabilities.argmax(1)
    right = answers.sets[rows, predicted]
    return Consensus(
        n=int((~against).sum()),
        accuracy=float(right[~against].mean()) if (~against).any() else 0.0,
        contradicted=int(against.sum()),
        contradicted_accuracy=float(right[against].mean()) if against.any() else None,
    )
