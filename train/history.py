"""What happened in each epoch of a run."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edgecell.files import write_atomically


@dataclass(frozen=True)
class EpochResult:
    """One row of history.csv; accuracies and recalls are shares, seconds wall time."""

    epoch: int
    view_size: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_macro_recall: float
    seconds: float


def write_history(path: Path, history: Sequence[EpochResult]) -> None:
    """Writes one CSV row an epoch."""
    text = io.StringIO()
    names = [f.name for f in fields(EpochResult)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(h) for h in history)
    write_atomically(path, text.getvalue())


def read_history(path: Path) -> list[EpochResult]:
    """Reads what `write_history` wrote."""
    with path.open() as f:
        rows = list(csv.DictReader(f))
    whole = {"epoch", "view_size"}
    return [
        EpochResult(**{k: int(v) if k in whole else float(v) for k, v in row.items()})  # type: ignore[arg-type]
        for row in rows
    ]
