"""What happened in each epoch of a run."""

import csv
import resource
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from edgecell.errors import InputError
from edgecell.files import csv_text, write_atomically
from edgecell.optional import require


@dataclass(frozen=True)
class EpochResult:
    """One row of history.csv.

    Accuracies and recalls are shares, seconds wall time; the peak of the memory is
    the process's so far, MB of resident pages.
    """

    epoch: int
    view_size: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_macro_recall: float
    seconds: float
    peak_memory_mb: float


def write_history(path: Path, history: Sequence[EpochResult]) -> None:
    """Writes one CSV row an epoch."""
    names = [f.name for f in fields(EpochResult)]
    rows = (asdict(h).values() for h in history)
    write_atomically(path, csv_text(names, rows))


def read_history(path: Path) -> list[EpochResult]:
    """Reads what `write_history` wrote.

    Raises:
        InputError: it is missing or damaged.
    """
    whole = {"epoch", "view_size"}
    try:
        with path.open() as f:
            rows = list(csv.DictReader(f))
        return [
            EpochResult(
                **{k: int(v) if k in whole else float(v) for k, v in row.items()}  # type: ignore[arg-type]
            )
            for row in rows
        ]
    except (OSError, ValueError, TypeError, csv.Error) as e:
        raise InputError(f"{path} is missing or damaged ({e}); start a new run") from e


def peak_memory_mb() -> float:
    """The peak memory of this process, MB of resident pages."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


class TensorBoardLog:
    """The history as TensorBoard reads it: one event file."""

    def __init__(self, folder: Path, history: Sequence[EpochResult]) -> None:
        """Writes the epochs so far in place of an earlier log.

        Args:
            folder: for the event file.
            history: epochs of a run that is resumed.
        """
        tf = require("tensorflow", "train")
        shutil.rmtree(folder, ignore_errors=True)
        self._tf, self._writer = tf, tf.summary.create_file_writer(str(folder))
        for result in history:
            self.add(result)

    def add(self, result: EpochResult) -> None:
        """Adds an epoch."""
        row = asdict(result)
        step = row.pop("epoch")
        with self._writer.as_default():
            for name, value in row.items():
                self._tf.summary.scalar(name, value, step)
        self._writer.flush()
