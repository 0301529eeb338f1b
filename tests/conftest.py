"""Fixtures that several folders of tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edgecell.classes import CODES
from tests.factories import TINY, TINY_CONFIG, draw_cell

# The suite tries the same examples in each run; `scripts/fuzz` looks for new ones.
settings.register_profile(
    "suite", max_examples=300, derandomize=True, deadline=None, database=None
)
settings.load_profile("suite")


@pytest.fixture(autouse=True, scope="session")
def _keeps_its_priority() -> Iterator[None]:
    """`explain work` lowers its own: here it would lower that of all later tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "nice", lambda _: 19)
        yield


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


@pytest.fixture
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny network can be named in a run."""
    _add_tiny(monkeypatch)


@pytest.fixture(scope="session")
def tiny_run(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny network on the drawn cells."""
    from edgecell.data.audit import audited
    from edgecell.data.dataset import read
    from edgecell.train.run import train

    out = tmp_path_factory.mktemp("runs") / "tiny"
    with pytest.MonkeyPatch.context() as patch:
        _add_tiny(patch)
        train(audited(read([drawn_cells]).files), TINY_CONFIG, out)
    return out


def _add_tiny(patch: pytest.MonkeyPatch) -> None:
    from edgecell.train.networks.network import PRESETS

    patch.setitem(PRESETS, TINY.name, TINY)
