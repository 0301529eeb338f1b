"""Synthetic packed cells and a tiny network for the tests of the job."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pytest

from edgecell.classes import CODES
from edgecell.data.pack import Pack, encoded
from edgecell.image.preprocess import Preprocessing, Rgb
from edgecell.morphology.table import Attribute
from edgecell.train.networks.network import PRESETS
from tests.factories import TINY

PREP = Preprocessing(32, 0.66, 3.0, 95.0, 240.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SIDE = 42
SCHEME = (Attribute("hue", ("blue", "red")), Attribute("parity", ("even", "odd")))


def cell(rng: np.random.Generator, kind: int) -> np.ndarray:
    """A disc whose colour tells the class: uint8 RGB (SIDE, SIDE, 3)."""
    image = np.full((SIDE, SIDE, 3), 240.0)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    colour = (60 + 14 * kind, 40, 220 - 14 * kind)
    image[np.hypot(x, y) < 8 + kind % 3] = colour
    return np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def pack() -> Pack:
    """240 cells: ten of each class from 'here', and groups alone from 'there'."""
    rng = np.random.default_rng(0)
    images, sets, splits, sources = [], [], [], []
    for source in ("here", "there"):
        for kind in range(len(CODES)):
            for i in range(10):
                images.append(encoded(Rgb(cell(rng, kind))))
                row = np.zeros(len(CODES), bool)
                row[kind] = True
                if source == "there" and CODES[kind] in ("BNE", "SNE"):
                    row[[CODES.index("BNE"), CODES.index("SNE")]] = True
                sets.append(row)
                splits.append("train" if i < 7 else "val" if i < 9 else "test")
                sources.append(source)
    # 'here' knows its cells' reddishness and evenness, but for some of the latter.
    kinds = np.array([row.argmax() for row in sets])
    attributes = np.stack(
        [
            kinds >= 6,
            kinds % 2,
        ],
        1,
    ).astype(np.int8)
    attributes[np.array(sources) == "there"] = -1
    attributes[::3, 1] = -1
    return Pack(
        images=tuple(images),
        sets=np.stack(sets),
        attributes=attributes,
        splits=tuple(splits),
        sources=tuple(sources),
        hashes=tuple(hashlib.sha256(x).hexdigest() for x in images),
        prep=PREP,
        side=SIDE,
        crops={"here": 0.66, "there": 0.7},
        codes=CODES,
        scheme=SCHEME,
    )


@pytest.fixture
def tiny_preset() -> Iterator[str]:
    """The tiny network among the presets; its name."""
    PRESETS[TINY.name] = TINY
    yield TINY.name
    del PRESETS[TINY.name]
