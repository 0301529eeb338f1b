"""Accuracy of a model on labelled images."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecell.classes import GROUPS, SEPARATOR
from edgecell.data.dataset import CellFile, label_sets, load_images
from edgecell.errors import InputError
from edgecell.model.decision import review_reasons
from edgecell.model.modelfile import ModelRecord
from edgecell.model.predict import predict, read_record
from edgecell.model.probabilities import softmax
from edgecell.optional import require
from edgecell.plots import cell_sheet, confusion_matrix, roc_curves
from edgecell.train.order import set_keys

ECE_BINS = 15
SHEET_CELLS = 64


@dataclass(frozen=True)
class ClassFigures:
    """Figures of one class; None where the data do not define them.

    Attributes:
        n: images of the class.
        precision: right among those called so.
        recall: found among those that are so.
        f1: harmonic mean of both.
        auc: area under the one-against-rest ROC curve.
    """

    n: int
    precision: float | None
    recall: float | None
    f1: float | None
    auc: float | None


@dataclass(frozen=True)
class SetFigures:
    """Figures of the images that may belong to any class of a set.

    Attributes:
        n: images.
        right: share that is called by a class of the set.
    """

    n: int
    right: float


@dataclass(frozen=True)
class Evaluation:
    """Figures of a model on a set of labelled images.

    An image whose label is a set of classes ('BNE|SNE') is right if it is called by any
    of them. Figures by class, means over classes ('macro') and the confusion matrix are
    of the images of one known class; they leave out classes without an image.

    Attributes:
        n: images.
        accuracy: share that is right.
        macro_recall: mean recall over classes.
        macro_f1: mean F1 over classes.
        macro_auc: mean one-against-rest AUC over classes; None with one class.
        accuracy_ci95: 95 % interval of the accuracy, by the percentiles of 1,000
            bootstrap samples.
        grouped_accuracy: share that is right when the classes of each of `GROUPS`
            count as one.
        ece: expected calibration error of the top probability.
        accepted: share that the model file's review rule accepts; None without one.
        accepted_right: share of those that is right.
        review_reasons: cells by the kind of reason why a person should look.
        per_class: figures by class code.
        per_set: figures by set, of labels that are sets of classes.
        per_source: n, accuracy, grouped_accuracy and macro_recall by source; here a set
            counts as a class.
        confusion: rows true class, columns predicted class.
        classes: class codes, the order of ``confusion``.
    """

    n: int
    accuracy: float
    macro_recall: float | None
    macro_f1: float | None
    macro_auc: float | None
    accuracy_ci95: tuple[float, float]
    grouped_accuracy: float
    ece: float
    accepted: float | None
    accepted_right: float | None
    review_reasons: dict[str, int]
    per_class: dict[str, ClassFigures]
    per_set: dict[str, SetFigures]
    per_source: dict[str, dict[str, float]]
    confusion: list[list[int]]
    classes: list[str]

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready copy."""
        return asdict(self)


def expected_calibration_error(
    confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]
) -> float:
    """Mean gap between confidence and accuracy, over 15 bins of equal width.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, eq. 3.

    Args:
        confidence: float64 (N,), top probabilities in [0, 1].
        right: bool (N,).
    """
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gap = np.bincount(bins, right.astype(np.float64) - confidence, ECE_BINS)
    return float(np.abs(gap).sum() / len(right))


def _bootstrap(right: npt.NDArray[np.bool_]) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    # The number that is right in a resample of N images is a binomial draw.
    draws = rng.binomial(len(right), right.mean(), 1000) / len(right)
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def grouped(sets: npt.NDArray[np.bool_], codes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Sets (N, C) widened to whole groups: {BNE} becomes {BNE, SNE}."""
    wide = sets.copy()
    for group in GROUPS.values():
        members = [codes.index(code) for code in group if code in codes]
        wide[:, members] |= sets[:, members].any(1, keepdims=True)
    return wide


def _per_source(
    sets: npt.NDArray[np.bool_],
    right: npt.NDArray[np.bool_],
    group_right: npt.NDArray[np.bool_],
    sources: Sequence[str],
) -> dict[str, dict[str, float]]:
    keys = set_keys(sets)
    found = {}
    for source in sorted(set(sources)):
        here = np.array([s == source for s in sources])
        recalls = [right[here & (keys == k)].mean() for k in np.unique(keys[here])]
        found[source] = {
            "n": int(here.sum()),
            "accuracy": float(right[here].mean()),
            "grouped_accuracy": float(group_right[here].mean()),
            "macro_recall": float(np.mean(recalls)),
        }
    return found


def _per_set(
    sets: npt.NDArray[np.bool_],
    right: npt.NDArray[np.bool_],
    codes: Sequence[str],
) -> dict[str, SetFigures]:
    by_label: dict[str, list[bool]] = {}
    for row, is_right in zip(sets, right, strict=True):
        if row.sum() > 1:
            label = SEPARATOR.join(codes[int(c)] for c in np.flatnonzero(row))
            by_label.setdefault(label, []).append(bool(is_right))
    return {
        label: SetFigures(len(answers), float(np.mean(answers)))
        for label, answers in sorted(by_label.items())
    }


def _per_class(
    y: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    codes: Sequence[str],
) -> tuple[dict[str, ClassFigures], list[list[int]]]:
    """Figures by class and the confusion matrix of images of one known class."""
    if not len(y):
        nothing = ClassFigures(0, None, None, None, None)
        zeros = np.zeros((len(codes), len(codes)), int)
        return dict.fromkeys(codes, nothing), zeros.tolist()
    metrics = require("sklearn.metrics", "evaluate")
    predicted = probabilities.argmax(1)
    every = list(range(len(codes)))
    confusion = metrics.confusion_matrix(y, predicted, labels=every)
    precision, recall, f1, n = metrics.precision_recall_fscore_support(
        y, predicted, labels=every, zero_division=0
    )
    called = confusion.sum(0)
    per_class = {}
    for c, code in enumerate(codes):
        there = bool(n[c])
        auc = there and n[c] < len(y)
        per_class[code] = ClassFigures(
            n=int(n[c]),
            precision=float(precision[c]) if called[c] else None,
            recall=float(recall[c]) if there else None,
            f1=float(f1[c]) if there else None,
            auc=float(metrics.roc_auc_score(y == c, probabilities[:, c]))
            if auc
            else None,
        )
    return per_class, confusion.tolist()


def _mean(values: Iterable[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else None


def figures(
    sets: npt.NDArray[np.bool_],
    probabilities: npt.NDArray[np.float64],
    sources: Sequence[str],
    codes: Sequence[str],
    reasons: Sequence[tuple[str, ...]] | None = None,
) -> Evaluation:
    """Computes the figures, with scikit-learn's metrics.

    Args:
        sets: bool (N, C), the classes that each image may belong to, N >= 1.
        probabilities: float64 (N, C).
        sources: N names.
        codes: C class codes.
        reasons: what `review_reasons` says of each cell; None without a rule.
    """
    rows, predicted = np.arange(len(sets)), probabilities.argmax(1)
    right = sets[rows, predicted]
    group_right = grouped(sets, codes)[rows, predicted]
    one = sets.sum(1) == 1
    per_class, confusion = _per_class(sets[one].argmax(1), probabilities[one], codes)
    of_classes = per_class.values()
    taken = np.array([reasons is not None and not reasons[i] for i in range(len(sets))])
    kinds = Counter(kind.partition(":")[0] for cell in reasons or () for kind in cell)
    return Evaluation(
        n=len(sets),
        accuracy=float(right.mean()),
        macro_recall=_mean(f.recall for f in of_classes),
        macro_f1=_mean(f.f1 for f in of_classes),
        macro_auc=_mean(f.auc for f in of_classes),
        accuracy_ci95=_bootstrap(right),
        grouped_accuracy=float(group_right.mean()),
        ece=expected_calibration_error(probabilities.max(1), right),
        accepted=float(taken.mean()) if reasons is not None else None,
        accepted_right=float(right[taken].mean()) if taken.any() else None,
        review_reasons=dict(kinds),
        per_class=per_class,
        per_set=_per_set(sets, right, codes),
        per_source=_per_source(sets, right, group_right, sources),
        confusion=confusion,
        classes=list(codes),
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of a set of labelled images.

    Attributes:
        record: the model's.
        files: N images.
        images: uint8 RGB (N, S, S, 3), as the network sees them.
        sets: bool (N, C), the classes that each image may belong to.
        probabilities: float64 (N, C).
        figures: computed from these.
    """

    record: ModelRecord
    files: Sequence[CellFile]
    images: npt.NDArray[np.uint8]
    sets: npt.NDArray[np.bool_]
    probabilities: npt.NDArray[np.float64]
    figures: Evaluation


def evaluate(path: Path, files: Sequence[CellFile]) -> Answers:
    """Evaluates a model file on labelled images.

    Raises:
        InputError: there are no images.
        ModelError: not a model file of ours.
    """
    if not files:
        raise InputError("there are no images to evaluate on in this split")
    record = read_record(path)
    sets = label_sets(files, record.codes)
    images = load_images(files, record.preprocessing, crops=record.crops)
    logits = predict(path, images).logits
    probabilities = softmax(logits, record.temperature)
    reasons = [review_reasons(x, record) for x in logits] if record.review else None
    sources = [f.source for f in files]
    found = figures(sets, probabilities, sources, record.codes, reasons)
    return Answers(record, files, images, sets, probabilities, found)


def draw(answers: Answers, folder: Path) -> None:
    """Draws what the figures can't show.

    Args:
        answers: of a model.
        folder: gets ``confusion.png``, ``roc.png`` and, if there are any,
            ``misclassified.png``: the wrong answers with the highest confidence,
            under the truth and what the model calls them.

    Raises:
        OutputError: the folder can't be written.
    """
    codes = answers.record.codes
    confusion_matrix(answers.figures.confusion, codes, folder / "confusion.png")
    sets, probabilities = answers.sets, answers.probabilities
    one = sets.sum(1) == 1
    if one.any():
        roc_curves(sets[one].argmax(1), probabilities[one], codes, folder / "roc.png")
    called, sure = probabilities.argmax(1), probabilities.max(1)
    wrong = np.flatnonzero(~sets[np.arange(len(sets)), called])
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:SHEET_CELLS]
    titles = [
        f"truth {answers.files[i].code}\ncalled {codes[called[i]]} {sure[i]:.0%}"
        for i in worst
    ]
    if len(worst):
        cell_sheet(answers.images[worst], titles, folder / "misclassified.png")
