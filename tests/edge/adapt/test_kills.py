"""Adapting that is killed leaves the whole file or none."""

import random
from pathlib import Path

import pytest

from edgecell.model.modelfile import read_tflite
from tests.edge.adapt.foreign import write_foreign_cells
from tests.edge.record.kills import KILLS, reported_until_killed

WRITE = """
import sys
from pathlib import Path
from edgecell.edge.adapt.adapt import adapt
from edgecell.edge.adapt.cells import named_cells
from edgecell.model.classifier import Classifier
classifier = Classifier("bundled")
adapted = adapt(classifier, named_cells(classifier, [Path(sys.argv[1])]))
print("open", flush=True)
while True:
    adapted.write(Path(sys.argv[2]))
    print(1, flush=True)
"""


@pytest.mark.slow
def test_kill_9_leaves_no_half_file(tmp_path: Path) -> None:
    cells = write_foreign_cells(tmp_path / "lab", views=1)
    out = tmp_path / "models" / "mine.tflite"
    rng = random.Random(1)
    written = 0
    for _ in range(KILLS):
        out.unlink(missing_ok=True)
        reported = reported_until_killed(
            WRITE, cells, out, within_s=rng.uniform(0, 0.2)
        )
        if reported or out.exists():
            _, record = read_tflite(out)
            assert "adapted" in record.training
            written += 1
        assert all(p == out or p.name.startswith(".") for p in out.parent.glob("*"))
    assert written
