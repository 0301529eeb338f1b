"""Manifests: which image is in which split, as a file."""

import csv
import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from edgecell.data.dataset import CellFile, Split, scan, split_of
from edgecell.errors import InputError
from edgecell.files import csv_text, write_atomically
from edgecell.image.decode import read_file
from edgecell.model.modelfile import ModelRecord

logger = logging.getLogger(__name__)

COLUMNS = ("sha256", "class", "source", "split", "name", "reason")
SPLITS: tuple[Split, ...] = get_args(Split)


def write_manifest(
    path: Path,
    files: Iterable[CellFile],
    left_out: Iterable[tuple[CellFile, str]] = (),
) -> None:
    """Writes a manifest: CSV, one row an image.

    Args:
        path: the file to write.
        files: the images in use.
        left_out: images that are not, each with the reason; their split is empty.

    Raises:
        OutputError: the file can't be written.
    """
    rows: list[tuple[str, ...]] = [
        (f.sha256, f.code, f.source, f.split, f.name, "") for f in files
    ]
    rows += [(f.sha256, f.code, f.source, "", f.name, why) for f, why in left_out]
    write_atomically(path, csv_text(COLUMNS, sorted(rows)))


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = read_file(path).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        if rows and not {"sha256", "split"} <= set(rows[0]):
            raise KeyError("a column is missing")
    except (KeyError, UnicodeDecodeError, csv.Error) as e:
        raise InputError(
            f"{path} is not a manifest ({e!r}); it is a CSV file with the columns "
            "sha256 and split, as 'edgecell train' writes to split.csv"
        ) from e
    return rows


def manifest_rows(path: Path) -> set[tuple[str, str, str]]:
    """Hash, class code and split of each image that a manifest uses.

    Raises:
        InputError: not a manifest that `write_manifest` wrote.
    """
    return {
        (r["sha256"], r.get("class", ""), r["split"]) for r in _rows(path) if r["split"]
    }


def apply_manifest(files: Sequence[CellFile], path: Path) -> list[CellFile]:
    """The images that a manifest uses, in the splits that it gives them.

    Args:
        files: images.
        path: a manifest: CSV with at least the columns sha256 and split.

    Returns:
        Those of ``files`` that the manifest names, by content, with a split.

    Raises:
        InputError: not a manifest, or it names none of the images.
    """
    rows = [(row["sha256"], row["split"]) for row in _rows(path)]
    splits: dict[str, Split] = {}
    for sha256, name in rows:
        if not name:
            continue
        split = next((s for s in SPLITS if s == name), None)
        if split is None or splits.get(sha256, split) != split:
            raise InputError(
                f"{path}: {sha256[:12]} is in '{name}', but must be in exactly one of "
                f"{', '.join(SPLITS)}"
            )
        splits[sha256] = split
    used = [replace(f, assigned=splits[f.sha256]) for f in files if f.sha256 in splits]
    if not used:
        raise InputError(f"{path} names none of the {len(files)} images")
    return used


def scan_split(roots: Sequence[Path], manifest: Path | None) -> list[CellFile]:
    """Images in their splits: those of a manifest, or of their content.

    Args:
        roots: see `dataset.read`.
        manifest: see `apply_manifest`; None for the split by content.

    Raises:
        InputError: see `dataset.read` and `apply_manifest`.
    """
    files = scan(roots)
    return apply_manifest(files, manifest) if manifest else files


def split_hash(files: Iterable[CellFile]) -> str:
    """A hash over which image is in which split, in any order."""
    lines = sorted(f"{f.sha256} {f.split}" for f in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def check_split(record: ModelRecord, files: Sequence[CellFile]) -> None:
    """Makes sure that images are in the splits that a model was trained with.

    Args:
        record: the model's.
        files: images, in splits.

    Raises:
        InputError: another split, or other images.
    """
    if record.training.get("own_split") and (
        split_hash(files) != record.training["split_sha256"]
    ):
        raise InputError(
            "the model was trained with a split of its own; give that run's data and "
            "its split.csv with --manifest, so that no test image is taken for another"
        )
    if not record.training.get("own_split") and any(
        f.split != split_of(f.sha256) for f in files
    ):
        raise InputError(
            "the model was trained with the split by content, and the manifest's is "
            "another, in which its training images may be called test; leave out "
            "--manifest"
        )


def unseen(record: ModelRecord, files: Sequence[CellFile]) -> list[CellFile]:
    """The images that a model was not trained or fitted on, as far as can be known.

    For sources that it was trained on, going by their names, these are the images of
    the test split; for other sources, all images.

    Args:
        record: the model's.
        files: images, in splits.

    Raises:
        InputError: the model was trained on such a source in another split.
    """
    trained = record.training.get("sources", ())
    known = [f for f in files if f.source in trained]
    if not known:
        return list(files)
    check_split(record, files)
    used = [f for f in files if f.source not in trained or f.split == "test"]
    logger.warning(
        "the model was trained on %s: of that only the test split is used, %d of %d "
        "images",
        ", ".join(sorted({f.source for f in known})),
        len(used) - len(files) + len(known),
        len(known),
    )
    return used
