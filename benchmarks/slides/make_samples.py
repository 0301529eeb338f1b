"""Makes edge/samples (all but the model) from the unpacked data sets.

Run as ``python -m edgecell.benchmarks make-samples DATA_DIR``, DATA_DIR holding
``pbc/``, ``munich/`` and ``frames/`` as the zip files unpack. The files copied are
byte-identical to the data sets', so that anyone can find them again there.
"""

from collections import defaultdict
from pathlib import Path

import click
import cv2
import numpy as np

from edgecell.benchmarks.slides.simulated import make_simulated
from edgecell.classes import CLASSES
from edgecell.cli import PoliteCommand
from edgecell.data.dataset import CellFile, scan
from edgecell.edge.sources import SAMPLES
from edgecell.files import write_atomically

CELLS_PER_CLASS = 2

# First parts of the names in TXL-PBC's val half. They show several classes,
# platelets, two cells in a frame and four stains; how a model judges them played
# no part. Those from PBC show cells that lie in our test split: they were compared
# with every PBC cell, and byte-reduced copies correlate above 0.99.
FRAMES = {
    "raabin": ("0d8c09", "03e3f6", "20ac2b", "343a48", "3f63eb"),
    "bccd": ("032684", "2f4503", "315edf"),
    "bcd": ("6263d9", "56b634"),
    "pbc": ("025a6e", "78dc97", "e8ba57"),
}
CLIP_FRAMES = ("27d5f2", "09110e", "5551b4", "5b92cc")
CLIP_SIZE = (640, 480)
CLIP_FPS = 10.0
CLIP_LENGTH = 50

CELL_SOURCES = {
    "pbc": "Acevedo et al. 2020 (PBC) | CC BY 4.0",
    "munich": "'Microscopic Blood Cell' (Kaggle DSV 10500753) | see above",
}
FRAME_SOURCE = "TXL-PBC val, {} | MIT"

HEADER = """# The samples and where they come from

Written by `python -m edgecell.benchmarks make-samples`; the data sets' own bytes,
renamed, but for what is simulated. No single cell here was seen in training: all lie in
the test split of `edgecell.data.dataset.split_of`, and so do those in the PBC frames.
Cells of the other frames may have been seen, since Raabin and BCCD are among the
training data. BCD is BCCD's microscope, its frames squeezed to a square: of 202 in
TXL-PBC 57 show a frame of BCCD's there.

Cells were drawn by their hash, not by how well they are recognised. The label is in
the name; it is the data set's, not ours.

- **PBC**: Acevedo et al. 2020, *A dataset of microscopic peripheral blood cell
  images*, Data in Brief 30:105474. Hospital Clinic Barcelona. CC BY 4.0. Resized to
  224x224.
- **Munich**: 'Microscopic Blood Cell', Kaggle DSV 10500753, built on Matek et al.
  2019 (AML-Cytomorphology, TCIA). Its Kaggle page says CC BY 4.0 in one place and
  CC BY-NC 4.0 in another: treat these files as non-commercial. Resized to 224x224.
- **TXL-PBC**: Gan et al. 2024, MIT licence; built on BCCD, BCD, PBC and Raabin,
  which can be told apart by the size of a frame.
- `clip.avi`: {n} frames at {fps:g} frames/s, Motion JPEG; a {w}x{h} window that pans
  over four BCCD frames laid side by side. The seams are not hidden.
- **Simulated**: `frames/simulated_*.jpg` and `simulated/` show test cells of PBC under
  a stain, lamp, objective and camera that do not exist
  (`benchmarks/slides/simulated.py`), for the demo of a microscope that the model does
  not know. A frame shows four images side by side; its name tells their classes row by
  row. The cells in `simulated/` are others than those in the frames.
- `grsnet-lite-int8.tflite`: ours, see `MODEL_CARD.md`.
- `finder-int8.tflite`: ours, see `FINDER_CARD.md`.

| file | original | source | licence |
|---|---|---|---|
"""


def test_cells(data: Path) -> dict[str, list[CellFile]]:
    """The test cells of PBC and Munich by class, in the order of their hash."""
    by_class: dict[str, list[CellFile]] = defaultdict(list)
    for file in scan([data / "pbc", data / "munich"]):
        if file.split == "test":
            by_class[file.code].append(file)
    return {c: sorted(of, key=lambda f: f.sha256) for c, of in by_class.items()}


def copy_cells(cells: dict[str, list[CellFile]]) -> list[str]:
    """Copies CELLS_PER_CLASS test cells of each class; returns table rows."""
    rows = []
    for cell_class in CLASSES:
        drawn = cells[cell_class.code]
        sources = sorted({f.source for f in drawn})
        # A class that two sources hold shows one of each.
        queues = {s: [f for f in drawn if f.source == s] for s in sources}
        chosen = [
            queues[sources[i % len(sources)]].pop(0) for i in range(CELLS_PER_CLASS)
        ]
        for n, file in enumerate(chosen, 1):
            name = f"cells/{cell_class.code}_{n}.jpg"
            write_atomically(SAMPLES / name, file.data)
            original = f"{cell_class.code}/{Path(file.name).name}"
            rows.append(f"| {name} | {original} | {CELL_SOURCES[file.source]} |")
    return rows


def find_frame(data: Path, start: str) -> Path:
    """The one frame of the val half whose name starts so."""
    (path,) = (data / "frames" / "images" / "val").glob(f"{start}*.jpg")
    return path


def copy_frames(data: Path) -> list[str]:
    """Copies the frames; returns table rows."""
    rows = []
    for source, starts in FRAMES.items():
        for n, start in enumerate(starts, 1):
            path = find_frame(data, start)
            name = f"frames/{source}_{n}.jpg"
            write_atomically(SAMPLES / name, path.read_bytes())
            rows.append(f"| {name} | {path.name} | {FRAME_SOURCE.format(source)} |")
    return rows


def make_clip(data: Path) -> list[str]:
    """Pans over frames laid side by side; returns table rows."""
    paths = [find_frame(data, start) for start in CLIP_FRAMES]
    strip = np.hstack([np.asarray(cv2.imread(str(path))) for path in paths])
    width, _ = CLIP_SIZE
    fourcc = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(SAMPLES / "clip.avi"), fourcc, CLIP_FPS, CLIP_SIZE)
    for x in np.linspace(0, strip.shape[1] - width, CLIP_LENGTH).round().astype(int):
        writer.write(np.ascontiguousarray(strip[:, x : x + width]))
    writer.release()
    names = ", ".join(path.name for path in paths)
    return [f"| clip.avi | {names} | {FRAME_SOURCE.format('bccd')} |"]


@click.command("make-samples", cls=PoliteCommand, no_args_is_help=True)
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
def command(data: Path) -> None:
    """Make the bundled samples from the unpacked data sets.

    DATA is a folder with pbc/, munich/ and frames/ as the ZIP files unpack.
    """
    cells = test_cells(data)
    of_pbc = {c: [f for f in of if f.source == "pbc"] for c, of in cells.items()}
    rows = copy_cells(cells) + copy_frames(data) + make_clip(data)
    rows += make_simulated(of_pbc, CELLS_PER_CLASS)
    w, h = CLIP_SIZE
    text = HEADER.format(n=CLIP_LENGTH, fps=CLIP_FPS, w=w, h=h)
    write_atomically(SAMPLES / "README.md", text + "\n".join(rows) + "\n")


if __name__ == "__main__":
    command()
