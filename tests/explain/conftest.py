from pathlib import Path

import pytest

from tests.explain.sessions import CAM, record, seen


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """A session with three jobs: cells 1, 2, 3 by Grad-CAM."""
    return record(tmp_path / "s", CAM, [seen(n) for n in range(3)])
