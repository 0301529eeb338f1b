"""Frame sources: cameras, streams, videos, images."""

from importlib.resources import files
from pathlib import Path

SAMPLES = Path(str(files("edgecell.edge"))) / "samples"
"""The bundled cells, frames and clip."""
