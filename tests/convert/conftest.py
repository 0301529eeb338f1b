from pathlib import Path

import numpy as np
import pytest

from edgecell.convert.calibration import calibration_set
from edgecell.convert.export import QuantScheme, exported, to_tflite
from edgecell.data.dataset import load_images, scan
from edgecell.image.preprocess import standardise
from edgecell.model.kerasfile import deployed, load_keras
from edgecell.model.modelfile import write_tflite

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
    model, record = load_keras(tiny_run / "model.keras")
    chosen = calibration_set(scan([drawn_cells]), record.codes, 60, 1)
    images = load_images(chosen, record.preprocessing)
    x = standardise(images, record.preprocessing)
    with exported(deployed(model)) as saved:
        for name, scheme in SCHEMES.items():
            flatbuffer = to_tflite(saved, scheme, x)
            write_tflite(folder / f"{name}.tflite", flatbuffer, record)
    return {name: folder / f"{name}.tflite" for name in SCHEMES}


@pytest.fixture(scope="session")
def cells(tiny_run: Path, drawn_cells: Path) -> np.ndarray:
    _, record = load_keras(tiny_run / "model.keras")
    files = [f for f in scan([drawn_cells]) if f.split == "test"]
    return load_images(files, record.preprocessing)
