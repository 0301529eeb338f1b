"""How right a model is on labelled images."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecell.classes import GROUPS
from edgecell.data.dataset import CellFile, labels, load_images
from edgecell.errors import InputError
from edgecell.model.decision import review_reasons
from edgecell.model.modelfile import ModelRecord
from edgecell.model.predict import predict, read_record
from edgecell.model.probabilities import softmax
from edgecell.optional import require
from edgecell.plots import cell_sheet, confusion_matrix, roc_curves

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
class Evaluation:
    """Figures of a model on a set of labelled images.

    Means over classes ('macro') leave out classes without an image in the data.

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
        per_source: n, accuracy and macro_recall by source.
        confusion: rows true class, columns predicted class.
        classes: class codes, the order of ``confusion``.
    """

    n: int
    accuracy: float
    macro_recall: float
    macro_f1: float
    macro_auc: float | None
    accuracy_ci95: tuple[float, float]
    grouped_accuracy: float
    ece: float
    accepted: float | None
    accepted_right: float | None
    review_reasons: dict[str, int]
    per_class: dict[str, ClassFigures]
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


def figures(
    y: npt.NDArray[np.int32],
    probabilities: npt.NDArray[np.float64],
    sources: Sequence[str],
    codes: Sequence[str],
    reasons: Sequence[tuple[str, ...]] | None = None,
) -> Evaluation:
    """Computes the figures, with scikit-learn's metrics.

    Args:
        y: int32 (N,), true class indices, N >= 1.
        probabilities: float64 (N, C).
        sources: N names.
        codes: C class codes.
        reasons: what `review_reasons` says of each cell; None without a rule.
    """
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
    present = n > 0
    aucs = [f.auc for f in per_class.values() if f.auc is not None]
    right = predicted == y
    groups = {code: name for name, members in GROUPS.items() for code in members}
    group = np.array([groups.get(code, code) for code in codes])
    per_source = {}
    for source in sorted(set(sources)):
        here = np.array([s == source for s in sources])
        recalls = [right[here & (y == c)].mean() for c in np.unique(y[here])]
        per_source[source] = {
            "n": int(here.sum()),
            "accuracy": float(right[here].mean()),
            "macro_recall": float(np.mean(recalls)),
        }
    taken = np.array([reasons is not None and not reasons[i] for i in range(len(y))])
    kinds = Counter(kind.partition(":")[0] for cell in reasons or () for kind in cell)
    return Evaluation(
        n=len(y),
        accuracy=float(right.mean()),
        macro_recall=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        macro_auc=float(np.mean(aucs)) if aucs else None,
        accuracy_ci95=_bootstrap(right),
        grouped_accuracy=float((group[predicted] == group[y]).mean()),
        ece=expected_calibration_error(probabilities.max(1), right),
        accepted=float(taken.mean()) if reasons is not None else None,
        accepted_right=float(right[taken].mean()) if taken.any() else None,
        review_reasons=dict(kinds),
        per_class=per_class,
        per_source=per_source,
        confusion=confusion.tolist(),
        classes=list(codes),
    )


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of a set of labelled images.

    Attributes:
        record: the model's.
        files: N images.
        images: uint8 RGB (N, S, S, 3), as the network sees them.
        y: int32 (N,), true class indices.
        probabilities: float64 (N, C).
        figures: computed from these.
    """

    record: ModelRecord
    files: Sequence[CellFile]
    images: npt.NDArray[np.uint8]
    y: npt.NDArray[np.int32]
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
    y = labels(files, record.codes)
    images = load_images(files, record.preprocessing, crops=record.crops)
    logits = predict(path, images).logits
    probabilities = softmax(logits, record.temperature)
    reasons = [review_reasons(x, record) for x in logits] if record.review else None
    sources = [f.source for f in files]
    found = figures(y, probabilities, sources, record.codes, reasons)
    return Answers(record, files, images, y, probabilities, found)


def draw(answers: Answers, folder: Path) -> None:
    """Draws what the figures can't say.

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
    roc_curves(answers.y, answers.probabilities, codes, folder / "roc.png")
    called, sure = answers.probabilities.argmax(1), answers.probabilities.max(1)
    wrong = np.flatnonzero(called != answers.y)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:SHEET_CELLS]
    titles = [
        f"truth {codes[answers.y[i]]}\ncalled {codes[called[i]]} {sure[i]:.0%}"
        for i in worst
    ]
    if len(worst):
        cell_sheet(answers.images[worst], titles, folder / "misclassified.png")
