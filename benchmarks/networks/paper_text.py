"""The paper's comparison of networks as text."""

from collections.abc import Sequence

from edgecell.benchmarks.networks.paper import ComparedNetwork
from edgecell.benchmarks.tables import aligned


def paper_text(rows: Sequence[ComparedNetwork]) -> str:
    """Returns the comparison as text: accuracy, training, by class, cost."""
    trained = [row for row in rows if row.n]
    parts = [
        f"Test split of PBC and Munich{f', {trained[0].n:,} images' if trained else ''}"
        ", float32; precision, recall, F1 and AUC are means over the classes:",
        _accuracies(rows),
    ]
    if trained:
        parts += [
            "How much each was trained; compare networks with as many views alone:",
            _trainings(trained),
            f"{trained[0].label} by class:",
            _by_class(trained[0]),
            "F1 by class, %:",
            _f1(trained),
        ]
    parts += [
        "Cost at 112x112 (GFLOPs: 2 x multiply-accumulates):",
        _costs(rows),
        "The paper's figures are from its own split of the two sources, which shares "
        "thousands\nof images between training and test; '-': not known here.",
    ]
    return "\n\n".join(parts)


def _accuracies(rows: Sequence[ComparedNetwork]) -> str:
    heads = ("network", "views", "accuracy (95 % interval)", "precision", "recall")
    table = [(*heads, "F1", "AUC", "paper: accuracy", "AUC")]
    return aligned(table + [_accuracy(row) for row in rows])


def _accuracy(row: ComparedNetwork) -> tuple[str, ...]:
    paper = (_percent(row.paper_accuracy), _fixed(row.paper_macro_auc))
    if row.accuracy is None or row.accuracy_ci95 is None:
        return (row.label, "", "not trained", *4 * ("",), *paper)
    low, high = row.accuracy_ci95
    return (
        row.label,
        f"{row.training.views:,}" if row.training else "-",
        f"{_percent(row.accuracy)} ({100 * low:.1f}-{100 * high:.1f})",
        _percent(row.macro_precision),
        _percent(row.macro_recall),
        _percent(row.macro_f1),
        _fixed(row.macro_auc),
        *paper,
    )


def _trainings(rows: Sequence[ComparedNetwork]) -> str:
    table: list[tuple[str, ...]] = [
        ("network", "sources", "images", "views", "time", "on", "first weights")
    ]
    for row in rows:
        t = row.training
        if t is None:
            table.append((row.label, *6 * ("-",)))
            continue
        images = f"{sum(t.sources.values()):,}"
        counts = (str(len(t.sources)), images, f"{t.views:,}")
        table.append((row.label, *counts, t.time, t.device, t.start))
    return aligned(table)


def _by_class(row: ComparedNetwork) -> str:
    rows: list[tuple[str, ...]] = [("class", "n", "precision", "recall", "F1", "AUC")]
    for code, c in row.per_class.items():
        shares = (_percent(c[name]) for name in ("precision", "recall", "f1"))
        rows.append((code, str(c["n"]), *shares, _fixed(c["auc"])))
    return aligned(rows)


def _f1(rows: Sequence[ComparedNetwork]) -> str:
    codes = list(rows[0].per_class)
    table: list[tuple[str, ...]] = [("network", *codes)]
    for row in rows:
        values = (row.per_class.get(code, {}).get("f1") for code in codes)
        shares = ("-" if v is None else f"{100 * v:.1f}" for v in values)
        table.append((row.label, *shares))
    return aligned(table)


def _costs(rows: Sequence[ComparedNetwork]) -> str:
    table = [("network", "parameters", "GFLOPs", "paper: parameters", "GFLOPs")]
    for row in {row.network: row for row in rows}.values():
        mparameters, gflops = row.paper_mparameters, row.paper_gflops
        table.append(
            (
                row.network,
                f"{row.mparameters:.2f} M",
                f"{row.gflops:.2f}",
                f"{mparameters:.2f} M" if mparameters else "-",
                f"{gflops:.2f}" if gflops else "-",
            )
        )
    return aligned(table)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
