"""`edgecell` in a process of its own, as on a device: without TensorFlow."""

import os
import sys
from pathlib import Path

from tests.factories import rows

ROOT = Path(__file__).parents[3]

NO_TENSORFLOW = """
import sys
class Ban:
    def find_spec(self, name, path=None, target=None):
        assert name.split(".")[0] not in ("tensorflow", "keras"), name
sys.meta_path.insert(0, Ban())
from edgecell.cli import cli
cli(sys.argv[1:])
"""


def script(code: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def recorded(folder: Path) -> list[int]:
    return [frame for (frame,) in rows(folder, "SELECT frame FROM frames")]
