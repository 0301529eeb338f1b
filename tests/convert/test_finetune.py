import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecell.convert import finetune
from edgecell.convert.finetune import FineTuning, fine_tune
from edgecell.data.dataset import scan
from edgecell.errors import InputError, MissingPackageError
from edgecell.model.kerasfile import load_keras

ROOT = Path(__file__).parents[2]


def kernels(weights: list[np.ndarray]) -> list[np.ndarray]:
    """Kernels of ordinary convolutions and the head; tools leave depthwise ones."""
    return [w for w in weights if (w.ndim == 4 and w.shape[-1] > 1) or w.ndim == 2]


@pytest.mark.parametrize("tuning", [
    pytest.param(FineTuning(qat=True, steps=3), marks=pytest.mark.slow),
    pytest.param(FineTuning(prune=0.5, steps=4), marks=pytest.mark.slow),
    FineTuning(cluster=8, steps=2),
], ids=lambda t: t.name)  # fmt: skip
def test_tuned_weights_are_what_the_tuning_says(
    tiny_run: Path, drawn_cells: Path, tuning: FineTuning
) -> None:
    model, record = load_keras(tiny_run / "model.keras")
    before = model.get_weights()
    fine_tune(model, record, scan([drawn_cells]), tuning)
    after = model.get_weights()
    assert [w.shape for w in after] == [w.shape for w in before]
    assert all(np.isfinite(w).all() for w in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True))
    for kernel in kernels(after):
        if tuning.prune:
            assert np.mean(kernel == 0) == pytest.approx(0.5, abs=0.5 / kernel.size)
        if tuning.cluster:
            assert len(np.unique(kernel)) <= 8
    if tuning.qat:
        # A few small steps: it is still the same network.
        for a, b in zip(kernels(before), kernels(after), strict=True):
            assert np.abs(a - b).max() < 0.01


@pytest.mark.parametrize(
    "wrong", [{}, {"qat": True, "prune": 0.5}, {"prune": 1.0}, {"cluster": 1}]
)
def test_settings_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"choose one|must be in"):
        FineTuning(**wrong)  # type: ignore[arg-type]


def test_what_it_needs(
    tiny_run: Path, drawn_cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, record = load_keras(tiny_run / "model.keras")
    files = scan([drawn_cells])
    with pytest.raises(InputError, match="no training image"):
        fine_tune(
            model, record, [f for f in files if f.split == "val"], FineTuning(qat=True)
        )
    monkeypatch.setattr(finetune, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    with pytest.raises(MissingPackageError, match=r"\.\[qat\]"):
        fine_tune(model, record, files, FineTuning(qat=True))


SETTLED = """
import json, sys
import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from edgecell.convert.finetune_worker import settle_ranges
image = tf_keras.Input((8, 8, 3))
features = tf_keras.layers.Conv2D(4, 1, name="conv")(image)
model = tf_keras.Model(image, tf_keras.layers.ReLU(name="relu")(features))
model.get_layer("conv").set_weights([np.full((1, 1, 3, 4), 10.0), np.zeros(4)])
wrapped = tfmot.quantization.keras.quantize_model(model)
rng = np.random.default_rng(0)
settle_ranges(wrapped, (rng.random((2, 8, 8, 3), np.float32) for _ in range(12)))
(top,) = (v for v in wrapped.variables if "relu" in v.name and "max" in v.name)
print(json.dumps(float(top)))
"""


def test_simulated_ranges_reach_beyond_where_they_start() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETTLED],
        env=os.environ | {"TF_USE_LEGACY_KERAS": "1"},
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    # Three channels of up to 1, times 10; the largest of 128 draws is near 30.
    assert 20 < json.loads(done.stdout.splitlines()[-1]) <= 30
