"""What a run keeps of its data, so that its model can be converted without them."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from edgecell.data.dataset import CellFile, sample
from edgecell.data.manifest import scan_split
from edgecell.errors import InputError
from edgecell.files import write_atomically

NAME = "conversion.zip"
PER_CLASS = 60
"""Training images of each class and source that are kept: enough for a calibration set
and for the description of the microscopes."""

_FIXED = (2025, 1, 1, 0, 0, 0)  # the same images make the same file


def keep_for_conversion(run: Path, files: Sequence[CellFile]) -> None:
    """Keeps a run's validation images, and some of each class that it trains on.

    They are the files themselves, in a ZIP archive that is a data set like any other;
    ``split.csv`` beside it says which is in which split.

    Args:
        run: the run's folder.
        files: its images, in their splits.

    Raises:
        OutputError: the folder can't be written.
    """
    kept = [f for f in files if f.split == "val"]
    for source in sorted({f.source for f in files}):
        of_source = [f for f in files if f.source == source and f.split == "train"]
        kept += sample(of_source, PER_CLASS, seed=1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in kept:
            suffix = PurePosixPath(file.name).suffix.lower()
            source = file.source.replace("\\", "_")  # no separator in the archive
            name = f"{source}/{file.code}/{file.sha256[:16]}{suffix}"
            archive.writestr(zipfile.ZipInfo(name, _FIXED), file.data)
    write_atomically(run / NAME, buffer.getvalue())


def kept_for_conversion(model: Path) -> list[CellFile]:
    """What `keep_for_conversion` kept, in its splits.

    Args:
        model: the run's ``model.keras``.

    Raises:
        InputError: nothing was kept beside the model, or it is damaged.
    """
    run = model.parent
    if not (run / NAME).exists():
        raise InputError(
            f"there is no {NAME} beside {model}, which 'edgecell train' writes; give "
            "the data that the model was trained on with --calibration DATA..."
        )
    return scan_split([run / NAME], run / "split.csv")
