"""Models of every scheme are adapted, and are read back by training."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.classes import CODES
from edgecell.cli import cli
from edgecell.data.dataset import load_images, scan
from edgecell.image.preprocess import standardise
from edgecell.model.classifier import Classifier, map_residual
from edgecell.model.modelfile import read_tflite
from edgecell.train.networks.network import build
from edgecell.train.networks.readback import load_tflite
from tests.convert.conftest import SCHEMES
from tests.factories import TINY


@pytest.fixture(scope="module")
def foreign(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five drawn cells of each class, with red and blue swapped."""
    root = tmp_path_factory.mktemp("foreign") / "lab"
    for folder in sorted(path.parent for path in drawn_cells.rglob("*.png")):
        (root / folder.name).mkdir(parents=True, exist_ok=True)
        for path in sorted(folder.glob("*.png"))[:5]:
            image = np.asarray(cv2.imread(str(path)))
            cv2.imwrite(str(root / folder.name / path.name), image[..., ::-1])
    return root


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_a_model_of_any_scheme_is_adapted(
    converted: dict[str, Path],
    foreign: Path,
    cells: np.ndarray,
    tmp_path: Path,
    scheme: str,
) -> None:
    out = tmp_path / "mine.tflite"
    arguments = ["adapt", str(converted[scheme]), str(foreign), "--out", str(out)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    _, parent = read_tflite(converted[scheme])
    _, record = read_tflite(out)
    assert record.scheme == parent.scheme
    assert record.training["adapted"]["parent_model_sha256"] == parent.model_sha256
    adapted = Classifier(out)
    images = load_images(scan([foreign])[::7], record.preprocessing)
    for image in images:
        seen = adapted.classify(image, features=True)
        step = max(adapted.logit_step, 0.02)
        assert map_residual(seen, record.head_bias) < 8 * step
    # Of known cells: the file alone clips what lies beyond the integers' ranges.
    x = standardise(cells, record.preprocessing)
    network = build(TINY, len(CODES))
    load_tflite(network, out, [x])
    logits = np.stack([adapted.classify(cell).logits for cell in cells])
    error = np.abs(network(x, training=False).numpy() - logits).max()
    assert error < 0.1 * np.ptp(logits)
