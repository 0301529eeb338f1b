"""Cells out of a session as folders of classes, and back into its trail."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from edgecell.classes import GROUP_CODES, OTHER, SEPARATOR
from edgecell.edge.record.damage import damage_told
from edgecell.edge.record.pictures import export_image, export_png
from edgecell.edge.record.sessions import RecordedSession, Sighting
from edgecell.edge.record.trail import Naming, Trail, reviewed_label
from edgecell.errors import InputError, OutputError
from edgecell.files import csv_text
from edgecell.model.decision import Decision

UNSORTED = "unsorted"
"""Folder of cells that nobody has named."""

MANIFEST = "cells.csv"
_NAME = re.compile(r"([0-9a-f]{8})-cell(\d{1,18})(?:-frame\d+)?\.\w+")

_FOLDERS = {SEPARATOR.join(codes): name for name, codes in GROUP_CODES.items()}


@dataclass(frozen=True)
class ExportedCell:
    """A row of the manifest.

    Attributes:
        file: below the export's folder.
        label: what people take it for, see `trail.reviewed_label`; '' if nobody named
            it.
        sha256: of the file.
        session: key of the session, see `session_key`.
        cell: the cell's number in it.
        frame: number of the frame that is shown.
        machine: the class that the machine gives; '' for none.
        probability: of that class, 0..1; None likewise.
        review: the machine's reasons for review, joined by '; '.
        person: who named it last; '' for nobody.
        named: when, UTC, ISO 8601; '' likewise.
        drawn: whether it is in the session's random sample.
        crop_fraction: part of the image that is the network's view.
        model_sha256: hash of the model that looked at it.
    """

    file: str
    label: str
    sha256: str
    session: str
    cell: int
    frame: int
    machine: str
    probability: float | None
    review: str
    person: str
    named: str
    drawn: bool
    crop_fraction: float
    model_sha256: str


@dataclass(frozen=True)
class Imported:
    """What became of a folder of sorted cells.

    Attributes:
        named: the rows that were appended to the trail.
        unchanged: cells that already had the label they were sorted under.
        unsorted: cells that nobody sorted.
        others: images that are not from this session.
    """

    named: tuple[Naming, ...]
    unchanged: int
    unsorted: int
    others: tuple[str, ...]


@damage_told
def session_key(session: RecordedSession) -> str:
    """Eight hexadecimal digits that identify a session, wherever its folder is."""
    summary = session.summary()
    told = [summary.started, summary.source, summary.model_sha256, summary.version]
    if "id" in summary.settings:  # sessions of earlier versions have none
        told.append(str(summary.settings["id"]))
    return hashlib.sha256("\0".join(told).encode()).hexdigest()[:8]


def folder_name(label: str) -> str:
    """The name of a label's folder, which `label_of_folder` reads."""
    return _FOLDERS.get(label, label).replace(": ", "-").replace("/", "-")


def label_of_folder(name: str) -> str:
    """The label that a folder's name stands for.

    Raises:
        InputError: it stands for none.
    """
    kind, dash, rest = name.partition("-")
    if dash and kind.strip().lower() == OTHER:
        return reviewed_label(f"{OTHER}: {rest}")
    return reviewed_label(name.replace("_", " "))


def chosen_sighting(
    decision: Decision, sightings: Sequence[Sighting]
) -> Sighting | None:
    """The last sighting whose own class is the cell's; else the last sighting.

    Returns:
        A sighting whose pixels are kept; None if there is none.
    """
    kept = [s for s in sightings if s.seen is not None and s.pixels is not None]
    agreeing = [s for s in kept if s.code is not None and s.code == decision.code]
    best = agreeing or kept
    return best[-1] if best else None


def wanted_cells(
    session: RecordedSession, trail: Trail, everything: bool, sample: int | None
) -> list[int]:
    """Which cells are exported.

    Args:
        session: their session.
        trail: its trail; open for writing if a sample is wanted.
        everything: all cells that count, not only those that people have named.
        sample: instead, the unnamed cells of a random sample of this size.

    Raises:
        OutputError: the sample can't be kept in the session.
    """
    reviewed = trail.reviewed()
    if sample is not None:
        return sorted(cell for cell in trail.draw(sample) if cell not in reviewed)
    cells = [d.cell for d in session.decisions()]
    return cells if everything else [cell for cell in cells if cell in reviewed]


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Makes a folder whole or not at all.

    Args:
        path: a folder that does not exist, or is empty.

    Yields:
        A folder beside it, which takes its place at the end.

    Raises:
        OutputError: it is not empty, or the disk doesn't take it.
    """
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise OutputError(f"{path} is not empty; name another folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}."))
        try:
            yield partial
            partial.chmod(0o755)
            os.sync()  # once for all files
            partial.replace(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    except OSError as e:
        raise OutputError(f"cannot write {path}: {e.strerror}") from e


@damage_told
def export_cells(
    session: RecordedSession, trail: Trail, cells: Sequence[int], folder: Path
) -> tuple[list[ExportedCell], int]:
    """Writes cells into folders named after their labels, the rest into `UNSORTED`.

    Args:
        session: their session.
        trail: its trail.
        cells: numbers of cells that count.
        folder: where the folders are made.

    Returns:
        The manifest's rows, and how many cells no longer have pixels.

    Raises:
        OSError: the disk doesn't take them.
        InputError: stored pixels are damaged.
    """
    key, model = session_key(session), session.model
    holding, drawn = trail.holding(), set(trail.drawn())
    decisions = {d.cell: d for d in session.decisions()}
    rows, gone = [], 0
    for cell in cells:
        decision, naming = decisions[cell], holding.get(cell)
        sighting = chosen_sighting(decision, session.sightings(cell))
        if sighting is None:
            gone += 1
            continue
        label = (naming.label if naming else None) or ""
        place = Path(folder_name(label) if label else UNSORTED)
        file = place / f"{key}-cell{cell:05d}-frame{sighting.frame:06d}.png"
        data = export_png(export_image(sighting, model.preprocessing))
        (folder / place).mkdir(exist_ok=True)
        (folder / file).write_bytes(data)
        rows.append(
            ExportedCell(
                file=str(file),
                label=label,
                sha256=hashlib.sha256(data).hexdigest(),
                session=key,
                cell=cell,
                frame=sighting.frame,
                machine=decision.code or "",
                probability=decision.probability,
                review="; ".join(decision.reasons),
                person=naming.person if naming and label else "",
                named=naming.made if naming and label else "",
                drawn=cell in drawn,
                crop_fraction=model.preprocessing.crop_fraction,
                model_sha256=model.model_sha256,
            )
        )
    return rows, gone


def manifest_csv(rows: Sequence[ExportedCell]) -> str:
    """The manifest: one line a file, with a header (RFC 4180)."""
    return csv_text(tuple(ExportedCell.__dataclass_fields__), map(astuple, rows))


def import_labels(
    session: RecordedSession, trail: Trail, folder: Path, person: str
) -> Imported:
    """Names cells by the folders into which a person sorted them.

    Args:
        session: the session that they are from.
        trail: its trail, open for writing.
        folder: folders of labels with exported images in them; other files are
            counted and left alone.
        person: who sorted them.

    Raises:
        InputError: a folder's name is not a label, or a cell lies in two folders.
        OutputError: the disk doesn't take the namings.
    """
    key, roots = session_key(session), trail.roots()
    reviewed = trail.reviewed()
    wanted: dict[int, str] = {}
    unsorted, others = 0, []
    for path in sorted(folder.glob("*/*")):
        match = _NAME.fullmatch(path.name)
        if match is None or match[1] != key or int(match[2]) not in roots:
            others.append(str(path.relative_to(folder)))
            continue
        if path.parent.name == UNSORTED:
            unsorted += 1
            continue
        cell, label = roots[int(match[2])], label_of_folder(path.parent.name)
        if wanted.setdefault(cell, label) != label:
            raise InputError(
                f"cell {cell} lies in two folders of {folder}, '{wanted[cell]}' and "
                f"'{label}'; leave it in one"
            )
    changes = {c: label for c, label in wanted.items() if reviewed.get(c) != label}
    comment = "sorted into folders"
    named = trail.name_each(person, changes, comment) if changes else []
    return Imported(tuple(named), len(wanted) - len(changes), unsorted, tuple(others))
