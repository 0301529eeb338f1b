"""Fixtures that several folders of tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edgecell.classes import CODES
from tests.tiny import TINY, TINY_CONFIG

SAMPLES = Path(__file__).parent.parent / "edge" / "samples"


def draw_cell(rng: np.random.Generator, code: str, side: int = 96) -> np.ndarray:
    """A stand-in for a cell: BGR (side, side, 3), disc and colour by class.

    Red cells lie around it, so that its scale can be measured.
    """
    k = CODES.index(code)
    image = np.full((side, side, 3), (205, 230, 250), np.uint8)
    for x, y in ((10, 12), (side - 12, 14), (14, side - 12), (side - 14, side - 14)):
        cv2.circle(image, (x, y), 9, (150, 150, 200), -1, cv2.LINE_AA)
    colour = (200 - 8 * k, 40 + 6 * k, 90 + 12 * (k % 5))
    at = side // 2 + rng.integers(-3, 4, 2)
    cv2.circle(image, (int(at[0]), int(at[1])), 9 + k, colour, -1, cv2.LINE_AA)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def drawn_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 12 classes with 20 drawn cells each: drawn/<CODE>/<n>.png."""
    root = tmp_path_factory.mktemp("data") / "drawn"
    rng = np.random.default_rng(0)
    for code in CODES:
        (root / code).mkdir(parents=True)
        for i in range(20):
            cv2.imwrite(str(root / code / f"{i}.png"), draw_cell(rng, code))
    return root


@pytest.fixture(scope="session")
def tiny_run(
    drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A finished run of the tiny network on the drawn cells."""
    from edgecell.data.audit import audited
    from edgecell.data.dataset import read
    from edgecell.train.networks.network import PRESETS
    from edgecell.train.run import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    PRESETS[TINY.name] = TINY
    train(audited(read([drawn_cells]).files), TINY_CONFIG, out)
    yield out
    del PRESETS[TINY.name]
