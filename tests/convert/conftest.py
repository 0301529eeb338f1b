from pathlib import Path

import numpy as np
import pytest

from edgecell.convert.convert import Request, convert
from edgecell.convert.export import QuantScheme
from edgecell.dataset import load_images, scan
from edgecell.kerasfile import load_keras

SCHEMES = {
    "float32": QuantScheme("float32"),
    "float16": QuantScheme("float16"),
    "dynamic": QuantScheme("dynamic"),
    "int16x8": QuantScheme("int16x8"),
    "int8": QuantScheme("int8", "int8"),
    "uint8-input": QuantScheme("int8", "uint8"),
    "int8-float-io": QuantScheme("int8"),
}


@pytest.fixture(scope="session")
def converted(
    tiny_run: Path, drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The tiny network in each scheme."""
    folder = tmp_path_factory.mktemp("converted")
    files = scan([drawn_cells])
    for name, scheme in SCHEMES.items():
        out = folder / f"{name}.tflite"
        # So small a network loses more than a real one.
        request = Request(scheme, calibration_size=60, max_drop=100)
        made, _ = convert(tiny_run / "model.keras", request, files, out)
        assert made.written
        assert made.comparison.agreement >= (0.8 if "int8" in name else 0.99)
        assert made.target.ran
    return {name: folder / f"{name}.tflite" for name in SCHEMES}


@pytest.fixture(scope="session")
def cells(tiny_run: Path, drawn_cells: Path) -> np.ndarray:
    _, record = load_keras(tiny_run / "model.keras")
    files = [f for f in scan([drawn_cells]) if f.split == "test"]
    return load_images(files, record.preprocessing)
