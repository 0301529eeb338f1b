"""Training that goes on from a converted network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecell.classes import CODES
from edgecell.data.audit import audited
from edgecell.data.dataset import load_images, read
from edgecell.errors import InputError
from edgecell.image.preprocess import standardise
from edgecell.model.kerasfile import load_keras
from edgecell.model.modelfile import bundled_model, read_tflite
from edgecell.model.predict import predict
from edgecell.train.networks.network import PRESETS, build
from edgecell.train.networks.readback import load_tflite
from edgecell.train.run import train
from tests.convert.conftest import SCHEMES
from tests.convert.test_convert import run
from tests.factories import TINY, TINY_CONFIG

SAMPLE_CELLS = bundled_model().parent / "cells"


@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_a_network_read_back_answers_as_the_file_does(
    converted: dict[str, Path], tiny_run: Path, cells: np.ndarray, scheme: str
) -> None:
    original, record = load_keras(tiny_run / "model.keras")
    x = standardise(cells, record.preprocessing)
    model = build(TINY, len(CODES))
    load_tflite(model, converted[scheme], [x])
    expected = original(x, training=False).numpy()
    error = np.abs(model(x, training=False).numpy() - expected).max()
    # float32 to rounding; int8 weights are a 254th of their channel's range off.
    assert error < (1e-4 if scheme == "float32" else 0.05) * np.ptp(expected)


def test_batch_normalisation_fits_the_training_views(
    converted: dict[str, Path], tiny_run: Path, cells: np.ndarray
) -> None:
    _, record = load_keras(tiny_run / "model.keras")
    x = standardise(cells, record.preprocessing)
    model = build(TINY, len(CODES))
    load_tflite(model, converted["int8"], [x[:20], x[20:]])
    norms = [m for m in model.layers if m.name.startswith("batch_normalization")]
    before = [norm.get_weights() for norm in norms]
    model(x, training=True)  # moves each mean and variance towards the batch's
    for norm, (_, _, mean, variance) in zip(norms, before, strict=True):
        _, _, moved_mean, moved_variance = norm.get_weights()
        np.testing.assert_allclose(moved_mean, mean, atol=1e-4)
        np.testing.assert_allclose(moved_variance, variance, rtol=1e-3, atol=1e-4)


def test_the_bundled_model_is_read_back() -> None:
    _, record = read_tflite(bundled_model())
    images = load_images(read([SAMPLE_CELLS]).files, record.preprocessing)
    x = standardise(images, record.preprocessing)
    model = build(PRESETS["grsnet-lite"], len(CODES))
    load_tflite(model, bundled_model(), [x])
    got = model(x, training=False).numpy()
    expected = predict(bundled_model(), images).logits
    assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.99
    assert (got.argmax(1) == expected.argmax(1)).mean() >= 0.9


def test_training_goes_on_from_a_converted_network(
    tiny_network: None,
    converted: dict[str, Path],
    tiny_run: Path,
    drawn_cells: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, before = load_keras(tiny_run / "model.keras")
    selection = audited(read([drawn_cells]).files)
    cfg = replace(
        TINY_CONFIG,
        init=str(converted["int8"]),
        epochs=1,
        small_epochs=0,
        learning_rate=1e-7,
        crop_fraction=0.5,
    )
    train(selection, replace(cfg, crop_fraction=0.66), tmp_path / "same")
    assert "same scale" not in caplog.text
    _, after = load_keras(tmp_path / "same" / "model.keras")
    assert after.preprocessing == before.preprocessing
    assert after.metrics["val"]["accuracy"] == pytest.approx(
        before.metrics["val"]["accuracy"], abs=0.05
    )
    assert "will not predict them" not in caplog.text
    few = [drawn_cells / code for code in ("BA", "EO", "LY", "MO", "SNE")]
    train(audited(read(few).files), cfg, tmp_path / "closer")
    assert "cells fill 1.32 times as much" in caplog.text
    assert "--crop 0.66 gives the same scale" in caplog.text
    assert "cut the images out with more field" not in caplog.text
    assert "no images of BNE, ERB, MMY, MY, MYE, PLT, PMY to train on" in caplog.text
    out = tmp_path / "few.tflite"
    code, output = run(
        tmp_path / "closer" / "model.keras", "--int8", "--calibration", *few,
        "--out", out, "--max-drop", 100,
    )  # fmt: skip
    assert code == 0, output
    record = read_tflite(out)[1]
    assert record.learned == ("BA", "EO", "LY", "MO", "SNE")
    assert record.review
    never = [t == 1 for t in record.review.least_probability]
    assert never == [code not in record.learned for code in CODES]


def test_weights_of_another_graph_are_refused(converted: dict[str, Path]) -> None:
    model = build(replace(TINY, stages=TINY.stages[:1]), len(CODES))
    with pytest.raises(InputError, match=r"give the \.keras file"):
        load_tflite(model, converted["float32"], ())
