"""Cells of PBC as a microscope that does not exist would show them, for the demo.

No public set is unknown to a model that has learned them all. So the demo's foreign
microscope is made: PBC's cells with another stain, lamp, objective and camera. It is
said to be simulated wherever it is shown.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgecell.data.dataset import CellFile
from edgecell.edge.sources import SAMPLES
from edgecell.files import write_atomically
from edgecell.image.decode import decode
from edgecell.image.preprocess import Image

CODES = ("BA", "EO", "LY", "MO", "SNE")
"""Classes that are told apart in every laboratory."""

NAMED = 5
FRAMES = 5
_OF_A_FRAME = 4

_WHITE = 245.0
"""Level of PBC's background, about."""

# Rows: densities of R, G and B from those of the original. A slide stained too long.
_STAIN = 1.7 * np.array([[0.5, 0.5, 0.0], [0.2, 1.2, 0.0], [0.0, 0.5, 0.2]])
_LAMP = np.array([1.0, 0.95, 0.85])
_VIGNETTE = 0.2
_BLUR_PX = 1.2
_NOISE = 0.02
_QUALITY = 90

SOURCE = "Acevedo et al. 2020 (PBC), microscope simulated | CC BY 4.0"


def simulated(image: Image, seed: int) -> Image:
    """An image of PBC under another stain, lamp, objective and camera.

    Args:
        image: uint8 BGR (H, W, 3).
        seed: of the camera's noise.
    """
    light = np.clip(image[..., ::-1], 1, _WHITE) / _WHITE
    density = cv2.GaussianBlur(-np.log(light) @ _STAIN.T, (0, 0), _BLUR_PX)
    height, width = image.shape[:2]
    down, right = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    shade = 1 - _VIGNETTE * (down**2 + right**2) / 2
    seen = np.exp(-density) * shade[..., None] * _LAMP
    seen += np.random.default_rng(seed).normal(0, _NOISE, seen.shape)
    levels = np.clip(_WHITE * seen, 0, 255).astype(np.uint8)
    return np.asarray(levels[..., ::-1])


def make_simulated(cells: dict[str, list[CellFile]], used: int) -> list[str]:
    """Writes cells to adapt to, and frames of other cells; returns table rows.

    Args:
        cells: test cells of PBC by class, drawn by their hash.
        used: so many of each are samples already.
    """
    rows = []
    for code in CODES:
        for n, file in enumerate(cells[code][used : used + NAMED], 1):
            name = f"simulated/{code}_{n}.jpg"
            _write(name, simulated(_image(file), int(file.sha256[:8], 16)))
            rows.append(_row(name, [file]))
    used += NAMED
    each = FRAMES * _OF_A_FRAME // len(CODES)
    others = [cells[code][used + k] for k in range(each) for code in CODES]
    for n in range(FRAMES):
        four = others[n * _OF_A_FRAME : (n + 1) * _OF_A_FRAME]
        a, b, c, d = map(_image, four)
        name = f"frames/simulated_{n + 1}_{'-'.join(f.code for f in four)}.jpg"
        _write(name, simulated(np.vstack([np.hstack([a, b]), np.hstack([c, d])]), n))
        rows.append(_row(name, four))
    return rows


def _image(file: CellFile) -> Image:
    return decode(file.data, file.name)


def _write(name: str, image: Image) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    (SAMPLES / name).parent.mkdir(exist_ok=True)
    write_atomically(SAMPLES / name, cv2.imencode(".jpg", image, options)[1].tobytes())


def _row(name: str, files: Sequence[CellFile]) -> str:
    names = ", ".join(f"{f.code}/{Path(f.name).name}" for f in files)
    return f"| {name} | {names} | {SOURCE} |"
