"""How right a model is on labelled images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecell.convert.predict import predict, read_record
from edgecell.dataset import CellFile, labels, load_images
from edgecell.edge.classifier import softmax
from edgecell.errors import InputError
from edgecell.optional import require


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
    per_class: dict[str, ClassFigures]
    per_source: dict[str, dict[str, float]]
    confusion: list[list[int]]
    classes: list[str]

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready copy."""
        return asdict(self)


def figures(
    y: npt.NDArray[np.int32],
    probabilities: npt.NDArray[np.float64],
    sources: Sequence[str],
    codes: Sequence[str],
) -> Evaluation:
    """Computes the figures, with scikit-learn's metrics.

    Args:
        y: int32 (N,), true class indices, N >= 1.
        probabilities: float64 (N, C).
        sources: N names.
        codes: C class codes.
    """
    metrics = require("sklearn.metrics", "train")
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
    per_source = {}
    for source in sorted(set(sources)):
        here = np.array([s == source for s in sources])
        recalls = [right[here & (y == c)].mean() for c in np.unique(y[here])]
        per_source[source] = {
            "n": int(here.sum()),
            "accuracy": float(right[here].mean()),
            "macro_recall": float(np.mean(recalls)),
        }
    return Evaluation(
        n=len(y),
        accuracy=float(right.mean()),
        macro_recall=float(recall[present].mean()),
        macro_f1=float(f1[present].mean()),
        macro_auc=float(np.mean(aucs)) if aucs else None,
        per_class=per_class,
        per_source=per_source,
        confusion=confusion.tolist(),
        classes=list(codes),
    )


def evaluate(path: Path, files: Sequence[CellFile]) -> Evaluation:
    """Evaluates a model file on labelled images.

    Raises:
        InputError: there are no images.
        ModelError: not a model file of ours.
    """
    if not files:
        raise InputError("there are no images to evaluate on in this split")
    record = read_record(path)
    y = labels(files, record.codes)
    images = load_images(files, record.preprocessing)
    probabilities = softmax(predict(path, images), record.temperature)
    return figures(y, probabilities, [f.source for f in files], record.codes)
