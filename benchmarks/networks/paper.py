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

from edgecell.benchmarks.tables import aligned
from edgecell.errors import InputError

RESULTS = Path(__file__).parents[1] / "results"
# The paper's figures, as far as they are known here. Its accuracy is that of a split of
# its own; its Table 4 counts 2 x multiply-accumulates at 112x112.
PAPER_MPARAMETERS = {"grsnet": 4.82}
PAPER_GFLOPS = {"grsnet": 1.80, "resnet50": 2.08}
PAPER_ACCURACY = {"grsnet": 0.895}
PAPER_MACRO_AUC = {"grsnet": 0.98}


@dataclass(frozen=True)
class ComparedNetwork:
    """One network of the comparison; None where a figure is not known.

    Attributes:
        network: a name of `edgecell.train.networks.models.model_names`.
        mparameters, gflops: counted here, millions and 2 x multiply-accumulates / 1e9.
        paper_mparameters, paper_gflops, paper_accuracy, paper_macro_auc: the paper's.
        n: test images, 0 if the network was not trained.
        accuracy, accuracy_ci95, macro_precision, macro_recall, macro_f1, macro_auc: of
            the float32 network on the test split of PBC and Munich.
        per_class: n, precision, recall, f1 and auc by class code.
    """

    network: str
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

    def to_dict(self) -> dict[str, Any]:
        """Returns the row as JSON values."""
        return asdict(self)


def compare(results: Path = RESULTS) -> list[ComparedNetwork]:
    """Reads the comparison from the results of the evaluations and of ``peers``.

    Args:
        results: folder with ``peers.csv`` and ``<network>-float32-test.json`` of each
            network that was trained.

    Returns:
        One row a network, ours first.

    Raises:
        InputError: the folder has no ``peers.csv``.
    """
    try:
        text = (results / "peers.csv").read_text(encoding="utf-8")
    except OSError as e:
        raise InputError(f"{results} has no peers.csv: {e.strerror}") from e
    return [_row(cost, results) for cost in csv.DictReader(text.splitlines())]


def _row(cost: dict[str, str], results: Path) -> ComparedNetwork:
    name = cost["network"]
    figures = evaluation_of(name, results)
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
        }
    return ComparedNetwork(
        network=name,
        mparameters=float(cost["mparameters"]),
        gflops=float(cost["gflops"]),
        paper_mparameters=PAPER_MPARAMETERS.get(name),
        paper_gflops=PAPER_GFLOPS.get(name),
        paper_accuracy=PAPER_ACCURACY.get(name),
        paper_macro_auc=PAPER_MACRO_AUC.get(name),
        n=figures["n"] if figures else 0,
        **measured,
    )


def evaluation_of(network: str, results: Path = RESULTS) -> dict[str, Any] | None:
    """Returns what ``edgecell evaluate`` wrote of a float32 network, if anything."""
    path = results / f"{network}-float32-test.json"
    if not path.exists():
        return None
    figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return figures


def paper_text(rows: Sequence[ComparedNetwork]) -> str:
    """Returns the comparison as text: accuracy, by class, cost."""
    accuracy: list[tuple[str, ...]] = [
        (
            "network",
            "accuracy (95 % interval)",
            "precision",
            "recall",
            "F1",
            "AUC",
            "paper: accuracy",
            "AUC",
        )
    ]
    costs = [("network", "parameters", "GFLOPs", "paper: parameters", "GFLOPs")]
    for row in rows:
        accuracy.append(_accuracy(row))
        costs.append(
            (
                row.network,
                f"{row.mparameters:.2f} M",
                f"{row.gflops:.2f}",
                f"{row.paper_mparameters:.2f} M" if row.paper_mparameters else "-",
                f"{row.paper_gflops:.2f}" if row.paper_gflops else "-",
            )
        )
    trained = next((row for row in rows if row.n), None)
    parts = [
        f"Test split of PBC and Munich{f', {trained.n:,} images' if trained else ''}, "
        "float32; precision, recall, F1 and AUC are means over the classes:",
        aligned(accuracy),
    ]
    if trained:
        parts += [f"{trained.network} by class:", _by_class(trained.per_class)]
    parts += [
        "Cost at 112x112 (GFLOPs: 2 x multiply-accumulates):",
        aligned(costs),
        "grsnet-lite is the bundled network: six sources, more views than the others.\n"
        "The paper's figures are from its own split of the two sources, which shares "
        "thousands\nof images between training and test; '-': not known here.",
    ]
    return "\n\n".join(parts)


def _accuracy(row: ComparedNetwork) -> tuple[str, ...]:
    paper = (_percent(row.paper_accuracy), _fixed(row.paper_macro_auc))
    if row.accuracy is None or row.accuracy_ci95 is None:
        return (row.network, "not trained", *4 * ("",), *paper)
    low, high = row.accuracy_ci95
    return (
        row.network,
        f"{_percent(row.accuracy)} ({100 * low:.1f}-{100 * high:.1f})",
        _percent(row.macro_precision),
        _percent(row.macro_recall),
        _percent(row.macro_f1),
        _fixed(row.macro_auc),
        *paper,
    )


def _by_class(per_class: dict[str, dict[str, Any]]) -> str:
    rows: list[tuple[str, ...]] = [("class", "n", "precision", "recall", "F1", "AUC")]
    for code, c in per_class.items():
        shares = (_percent(c[name]) for name in ("precision", "recall", "f1"))
        rows.append((code, str(c["n"]), *shares, _fixed(c["auc"])))
    return aligned(rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def draw(
    rows: Sequence[ComparedNetwork], folder: Path, results: Path = RESULTS
) -> None:
    """Draws the learning curves and the confusion matrix of each trained network.

    Args:
        rows: of `compare`.
        folder: gets ``<network>-curves.png`` and ``<network>-confusion.png``.
        results: folder with ``<network>-history.csv`` and the evaluations.
    """
    from edgecell.plots import confusion_matrix, learning_curves

    folder.mkdir(parents=True, exist_ok=True)
    for row in rows:
        figures = evaluation_of(row.network, results)
        if figures is None:
            continue
        confusion_matrix(
            figures["confusion"],
            figures["classes"],
            folder / f"{row.network}-confusion.png",
        )
        history = results / f"{row.network}-history.csv"
        if history.exists():
            lines = csv.DictReader(history.read_text(encoding="utf-8").splitlines())
            epochs = [{k: float(v) for k, v in line.items() if v} for line in lines]
            learning_curves(epochs, folder / f"{row.network}-curves.png")
