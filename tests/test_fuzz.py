"""`scripts/fuzz`, for a moment; run it by itself for hours."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
KINDS = "model,record,keras,image,labels,manifest"


def test_mutated_inputs_end_in_a_result_or_an_error_of_ours(tmp_path: Path) -> None:
    options = ["--count", "250", "--seed", "1", "--kind", KINDS]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/fuzz", *options, "--keep", tmp_path / "found"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("0 crashes or hangs, 0 other exceptions") == 6
    assert not list((tmp_path / "found").iterdir())
