from pathlib import Path

import numpy as np
import pytest

from edgecell.benchmarks.microscopes.cells import (
    Looked,
    classes_unknown,
    draws,
    told_unknown,
)
from edgecell.benchmarks.microscopes.colour import corrected, red_cells
from edgecell.benchmarks.microscopes.frames import read_truth
from edgecell.classes import CODES, label_matrix
from edgecell.errors import InputError
from edgecell.image.preprocess import Rgb
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.microscope import judge
from edgecell.model.modelfile import bundled_model


def cells(slides: list[str], features: np.ndarray) -> Looked:
    n = len(slides)
    sets = label_matrix(["BNE|SNE"] * n, CODES)
    return Looked("lab", features, np.zeros((n, 12), np.float32), sets, tuple(slides))


def test_a_draw_is_of_one_slide_that_has_cells_enough() -> None:
    slides = ["a"] * 30 + ["b"] * 10 + ["c"] * 9
    looked = cells(slides, np.zeros((49, 4)))
    drawn = list(draws(looked, 200))
    seen = [{slides[i] for i in each} for each in drawn]
    assert all(len(set(each.tolist())) == 10 for each in drawn)
    assert {s for each in seen for s in each} == {"a", "b"}
    assert 120 < seen.count({"a"}) < 180  # 150 by their cells
    assert all(len(each) == 1 for each in seen)


def test_a_draw_is_called_what_a_run_would_call_it() -> None:
    record = Classifier(bundled_model()).record
    known = record.microscopes[0].class_means()[0]
    rng = np.random.default_rng(1)
    x = known + rng.normal(size=(60, len(known))) * rng.uniform(0, 0.3, (60, 1))
    looked = cells([""] * 60, x)
    kinds = [judge(x[d], record.microscopes).kind for d in draws(looked, 100)]
    assert told_unknown(looked, record, 100) == kinds.count("unknown") / 100
    assert told_unknown(cells([""] * 60, x + 5), record, 100) == 1


def test_draws_of_one_class_are_told_apart_from_those_of_all() -> None:
    record = Classifier(bundled_model()).record
    known = record.microscopes[0].class_means()[0]
    labels = ["EO"] * 20 + ["LY"] * 20 + ["PLT"] * 20 + ["MO"] * 9
    x = np.repeat(known[None], len(labels), axis=0)
    x[20:] += 5
    sets = label_matrix(labels, CODES)
    looked = Looked("lab", x, np.zeros((69, 12), np.float32), sets, ("",) * 69)
    assert classes_unknown(looked, record, 50) == {"EO": 0.0, "LY": 1.0}
    assert 0 < told_unknown(looked, record, 50) < 1


def test_neutrophils_are_right_as_band_or_segmented() -> None:
    looked = cells([""] * 3, np.zeros((3, 4)))
    answers = np.eye(12)[[CODES.index(c) for c in ("BNE", "SNE", "EO")]]
    assert looked.right(answers, CODES).tolist() == [True, True, False]


def test_red_cells_tell_the_stain() -> None:
    prep = Classifier(bundled_model()).record.preprocessing
    density = np.array([0.2, 0.4, 0.1])
    image = np.full((120, 120, 3), prep.white_level)
    image[20:70, 20:70] = prep.white_level * np.exp(-density)
    image[80:110, 80:110] = prep.white_level * np.exp([-1.2, -1.5, -0.6])  # a nucleus
    field = Rgb(np.rint(image).astype(np.uint8))
    found = red_cells([field] * 5, prep)
    assert found is not None
    np.testing.assert_allclose(found, density, atol=0.01)
    assert red_cells([field] * 4, prep) is None
    factors = np.array([0.5, 2.0, 1.0])
    again = red_cells([corrected(field, factors, prep.white_level)] * 5, prep)
    assert again is not None
    np.testing.assert_allclose(again, density * factors, atol=0.02)


def test_the_truth_of_frames(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_text("frame,source,class\nimages/val/1.jpg,lab,NEU\n")
    assert read_truth(path) == {"1.jpg": ("lab", "BNE|SNE")}
    path.write_text("file,class\n1.jpg,NEU\n")
    with pytest.raises(InputError, match="no columns"):
        read_truth(path)
