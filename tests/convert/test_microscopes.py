from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.convert.microscopes import as_found, describe, main
from edgecell.data.dataset import decode, scan
from edgecell.image.preprocess import Rgb, cell_image
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.microscope import judge
from edgecell.model.modelfile import read_tflite


def test_a_cell_as_found_is_near_the_training_view(converted: dict[str, Path]) -> None:
    prep = Classifier(converted["int8"]).record.preprocessing
    image = Rgb(np.full((224, 224, 3), 200, np.uint8))
    image[100:124, 100:124] = (90, 40, 120)
    seen = cell_image(image, prep).astype(float)
    rng = np.random.default_rng(0)
    views = [as_found(image, prep, rng).astype(float) for _ in range(20)]
    assert all(v.shape == seen.shape for v in views)
    differences = [np.abs(v - seen).mean() for v in views]
    assert 0 < np.median(differences) < 15
    centre = prep.input_size // 2
    assert sum(v[centre, centre, 1] < 100 for v in views) == 20


def test_the_microscope_of_the_training_data_is_known_again(
    converted: dict[str, Path], drawn_cells: Path
) -> None:
    files = [replace(f, source="drawn") for f in scan([drawn_cells])]
    path = converted["int8"]
    (microscope,) = describe(path, files)
    assert microscope.name == "drawn"
    test = [f for f in files if f.split == "test"][:10]
    classifier = Classifier(path)
    prep = classifier.record.preprocessing

    views = [cell_image(decode(f.data, f.name), prep) for f in test]

    def pooled(views: list[Rgb]) -> np.ndarray:
        return np.stack([classifier.classify(v, features=True).pooled for v in views])

    inverted = [Rgb(255 - v) for v in views]
    assert str(judge(pooled(views), [microscope])) == "known (drawn)"
    assert str(judge(pooled(inverted), [microscope])) == "unknown"


def test_a_source_with_few_cells_is_named(
    converted: dict[str, Path], drawn_cells: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert describe(converted["int8"], scan([drawn_cells])[:60]) == ()
    assert "too few cells" in caplog.text


def test_they_are_added_to_a_file_that_has_none(
    converted: dict[str, Path], drawn_cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "with.tflite"
    before, _ = read_tflite(converted["int8"])
    result = CliRunner().invoke(
        main, [str(converted["int8"]), str(drawn_cells), "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    after, record = read_tflite(out)
    assert after == before
    assert [m.name for m in record.microscopes] == ["drawn"]
