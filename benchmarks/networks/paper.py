"""The paper's comparison of networks, with what was measured here beside it.

The paper (CMES 2025, 145(2), 2435-2456) compares GRsNet with a Vision Transformer,
EfficientNetV2M, ResNet50 and MobileNet by accuracy, by class, and by cost.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgecell.benchmarks.networks.trained import Trained
from edgecell.errors import InputError

RESULTS = Path(__file__).parents[1] / "results"
# The paper's figures, as far as they are known here. Its accuracy is that of a split of
# its own; its Table 4 counts 2 x multiply-accumulates at 112x112.
PAPER_MPARAMETERS = {"grsnet": 4.82}
PAPER_GFLOPS = {"grsnet": 1.80, "resnet50": 2.08}
PAPER_ACCURACY = {"grsnet": 0.895}
PAPER_MACRO_AUC = {"grsnet": 0.98}
TRAININGS = {"": "", "-same": " (same budget)", "-earlier": " (earlier)"}
"""What the names of a network's files and its rows end in: the longest job of each
network; jobs in which all saw the same number of views; and runs of `edgecell train` on
two sources before them."""


@dataclass(frozen=True)
class ComparedNetwork:
    """One training of a network of the comparison; None where a figure is not known.

    Attributes:
        network: a name of `edgecell.train.networks.models.model_names`.
        result: what the names of its files in the folder of results begin with.
        label: its name in tables.
        mparameters, gflops: counted here, millions and 2 x multiply-accumulates / 1e9.
        paper_mparameters, paper_gflops, paper_accuracy, paper_macro_auc: the paper's.
        n: test images, 0 if the network was not trained.
        accuracy, accuracy_ci95, macro_precision, macro_recall, macro_f1, macro_auc: of
            the float32 network on the test split of PBC and Munich.
        per_class: n, precision, recall, f1 and auc by class code.
        training: how much it was trained; None if the result does not say.
    """

    network: str
    result: str
    label: str
    mparameters: float
    gflops: float
    paper_mparameters: float | None
    paper_gflops: float | None
    paper_accuracy: float | None
    paper_macro_auc: float | None
    n: int
    accuracy: float | None = None
    accuracy_ci95: tuple[float, float] | None = None
    macro_precision: float | None = None
    macro_recall: float | None = None
    macro_f1: float | None = None
    macro_auc: float | None = None
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    training: Trained | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        return asdict(self)


def compare(results: Path = RESULTS) -> list[ComparedNetwork]:
    """Reads the comparison from the results of ``job``, ``evaluate`` and ``peers``.

    Args:
        results: folder with ``peers.csv``, ``<network>-float32-test.json`` of each
            network that was trained in a job, and such files with ``-same`` and
            ``-earlier`` after its name; see `TRAININGS`.

    Returns:
        One row for each training of each network, ours first; one row for a network
        that was never trained.

    Raises:
        InputError: the folder has no ``peers.csv``, or a result is damaged.
    """
    try:
        text = (results / "peers.csv").read_text(encoding="utf-8")
    except OSError as e:
        raise InputError(f"{results} has no peers.csv: {e.strerror}") from e
    rows = []
    for cost in csv.DictReader(text.splitlines()):
        trained = [
            suffix
            for suffix in TRAININGS
            if evaluation_of(f"{cost['network']}{suffix}", results)
        ]
        rows += [_row(cost, suffix, results) for suffix in trained or ("",)]
    return rows


def _row(cost: dict[str, str], suffix: str, results: Path) -> ComparedNetwork:
    name = cost["network"]
    figures = evaluation_of(f"{name}{suffix}", results)
    measured: dict[str, Any] = {}
    if figures:
        precisions = [c["precision"] for c in figures["per_class"].values()]
        measured = {
            "accuracy": figures["accuracy"],
            "accuracy_ci95": tuple(figures["accuracy_ci95"]),
            # A class that is never predicted has no precision and counts as 0.
            "macro_precision": sum(p or 0.0 for p in precisions) / len(precisions),
            "macro_recall": figures["macro_recall"],
            "macro_f1": figures["macro_f1"],
            "macro_auc": figures["macro_auc"],
            "per_class": figures["per_class"],
            "training": figures["training"],
        }
    return ComparedNetwork(
        network=name,
        result=f"{name}{suffix}",
        label=f"{name}{TRAININGS[suffix]}",
        mparameters=float(cost["mparameters"]),
        gflops=float(cost["gflops"]),
        paper_mparameters=PAPER_MPARAMETERS.get(name),
        paper_gflops=PAPER_GFLOPS.get(name),
        paper_accuracy=PAPER_ACCURACY.get(name),
        paper_macro_auc=PAPER_MACRO_AUC.get(name),
        n=figures["n"] if figures else 0,
        **measured,
    )


def evaluation_of(result: str, results: Path = RESULTS) -> dict[str, Any] | None:
    """Returns the stored figures of a float32 network, None if there are none.

    Those of ``evaluate`` don't say how the network was trained: 'training' is None.

    Args:
        result: what the file's name begins with; see `ComparedNetwork`.
        results: the folder of results.

    Raises:
        InputError: the file is damaged.
    """
    path = results / f"{result}-float32-test.json"
    if not path.exists():
        return None
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        told = figures.get("training")
        return figures | {"training": Trained.from_dict(told) if told else None}
    except (OSError, ValueError, TypeError, AttributeError) as e:
        raise InputError(f"{path} is damaged ({e})") from e


def draw(
    rows: Sequence[ComparedNetwork], folder: Path, results: Path = RESULTS
) -> None:
    """Draws the learning curves and the confusion matrix of each trained network.

    Args:
        rows: of `compare`.
        folder: gets ``<result>-confusion.png`` and, if it was validated at least twice,
            ``<result>-curves.png``.
        results: folder with ``<result>-history.csv`` and the evaluations.
    """
    from edgecell.plots import confusion_matrix, job_curves, learning_curves

    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        figures = evaluation_of(row.result, results)
        if figures is None:
            continue
        confusion_matrix(
            figures["confusion"],
            figures["classes"],
            folder / f"{row.result}-confusion.png",
        )
        history = results / f"{row.result}-history.csv"
        if not history.exists():
            continue
        lines = csv.DictReader(history.read_text(encoding="utf-8").splitlines())
        points = [{k: float(v) for k, v in line.items() if v} for line in lines]
        path = folder / f"{row.result}-curves.png"
        if len(points) < 2:  # one point makes no curve
            continue
        if "epoch" in points[0]:
            learning_curves(points, path)
        else:
            job_curves(points, list(figures["per_source"]), path)
