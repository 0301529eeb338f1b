"""The table of an archive: parts as they are done, one file at the end.

A part is written whole or not at all, under a name that identifies what it rests on. So
a run that was killed can simply be run again: chunks that have a part are not done
again, and a part made from other images or settings is not used.
"""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from edgecell.edge.commands.archive.work import Part, Row
from edgecell.edge.count.microscopes import NOT_SHOWN, UNKNOWN
from edgecell.errors import InputError, OutputError
from edgecell.files import write_atomically
from edgecell.model.microscopes.microscope import CELLS, Microscope, Verdict, judge
from edgecell.optional import require

SUFFIXES = (".parquet", ".csv")
COLUMNS = {
    "image": "string",
    "size": "string",
    "cell": "int32",
    **dict.fromkeys(("x0", "y0", "x1", "y1"), "int32"),
    "class": "string",
    "probability": "float64",
    "runner_up": "string",
    "review": "string",
    "microscope": "string",
    "error": "string",
}
"""The table's columns and their types; what an image has no value for is empty."""

FLAGS = {"unknown": UNKNOWN, "calibrated": NOT_SHOWN}
"""Why a person has to look at every cell of a microscope, by the kind of verdict."""

_ROWS_A_GROUP = 50_000
_MOST_PARTS_SAMPLED = 10


class Table:
    """A table that grows part by part.

    Attributes:
        path: the file in the end.
        parts: the folder of the parts until then.
    """

    def __init__(self, path: Path) -> None:
        """Names the file; nothing is made yet.

        Raises:
            OutputError: it is there already.
            InputError: it is of another kind than these.
            MissingPackageError: it is Parquet, and pyarrow is not installed.
        """
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path} has to end in {' or '.join(SUFFIXES)}")
        self.path = path
        self.parts = path.with_name(f"{path.name}.parts")
        if path.exists():
            shutil.rmtree(self.parts, ignore_errors=True)  # it is whole
            raise OutputError(f"{path} exists; name another file, or remove it")
        if path.suffix.lower() == ".parquet":
            require("pyarrow.parquet", "parquet")

    def has(self, key: str) -> bool:
        """Whether a chunk is done."""
        return self._file(key).exists()

    def add(self, key: str, part: Part) -> None:
        """Keeps a chunk's result.

        Raises:
            OutputError: the disk doesn't take it.
        """
        text = json.dumps({"rows": part.rows, "samples": part.samples})
        write_atomically(self._file(key), text)

    def _file(self, key: str) -> Path:
        return self.parts / f"{key}.json"

    def _read(self, key: str) -> dict[str, Any]:
        return dict(json.loads(self._file(key).read_text()))

    def finish(
        self, keys: Sequence[str], described: Sequence[Microscope]
    ) -> tuple[int, int, dict[str, Verdict]]:
        """Makes one file of the parts and removes them.

        Args:
            keys: of all chunks, in their order.
            described: the microscopes of the model's record.

        Returns:
            Rows, those of them with an error, and the microscope for each size of
            which there are enough images.

        Raises:
            OutputError: the disk doesn't take it.
        """
        told = self._microscopes(keys, described)
        rows = errors = 0
        try:
            with self._writer() as write:
                for key in keys:
                    part = [_flat(row, told) for row in self._read(key)["rows"]]
                    write(part)
                    rows += len(part)
                    errors += sum(row["error"] is not None for row in part)
        except OSError as e:
            raise OutputError(
                f"cannot write {self.path}: {e.strerror}; make room and run the same "
                "command again: no image is processed twice"
            ) from e
        shutil.rmtree(self.parts, ignore_errors=True)
        return rows, errors, told

    def _microscopes(
        self, keys: Sequence[str], described: Sequence[Microscope]
    ) -> dict[str, Verdict]:
        """Identifies the microscope for each size of image, by cells from all parts."""
        if not described:
            return {}
        samples: dict[str, list[list[float]]] = {}
        some = np.linspace(0, len(keys) - 1, min(len(keys), _MOST_PARTS_SAMPLED))
        for at in some.round().astype(int):
            for size, each in self._read(keys[int(at)])["samples"].items():
                samples.setdefault(size, []).extend(each)
        told = {}
        for size, each in samples.items():
            if len(each) >= CELLS:
                chosen = np.linspace(0, len(each) - 1, CELLS).round().astype(int)
                features = np.array([each[i] for i in chosen], np.float32)
                told[size] = judge(features, described)
        return told

    @contextmanager
    def _writer(self) -> Iterator[Any]:
        """What rows are given to; the file is there once it is closed without error."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd, partial = tempfile.mkstemp(dir=self.path.parent, prefix=".edgecell-")
        try:
            with os.fdopen(fd, "w", newline="", encoding="utf-8") as file:
                if self.path.suffix.lower() == ".csv":
                    yield _csv_writer(file)
                else:
                    yield from _parquet_writer(partial)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(partial, 0o644)
            os.replace(partial, self.path)
        finally:
            with suppress(OSError):
                os.unlink(partial)


def _flat(row: Row, told: dict[str, Verdict]) -> Row:
    """A part's row as the table has it."""
    flat = {name: row.get(name) for name in COLUMNS}
    verdict = told.get(row.get("size", ""))
    review = list(row.get("review") or ())
    if row.get("class") is not None:
        flat["microscope"] = "not identified" if verdict is None else str(verdict)
        if verdict is not None and verdict.kind in FLAGS:
            review.append(FLAGS[verdict.kind])
    flat["review"] = "; ".join(review) if "class" in row or review else None
    return flat


def _csv_writer(file: TextIO) -> Any:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    return lambda rows: writer.writerows(row.values() for row in rows)


def _parquet_writer(path: str) -> Iterator[Any]:
    """Gives a function that takes rows, and writes them in groups."""
    pyarrow = require("pyarrow", "parquet")
    parquet = require("pyarrow.parquet", "parquet")
    kinds = ((name, getattr(pyarrow, kind)()) for name, kind in COLUMNS.items())
    schema = pyarrow.schema(list(kinds))
    waiting: list[Row] = []
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:

        def take(rows: list[Row], least: int = _ROWS_A_GROUP) -> None:
            waiting.extend(rows)
            if len(waiting) >= least:
                writer.write_table(pyarrow.Table.from_pylist(waiting, schema))
                waiting.clear()

        yield take
        take([], 1)
