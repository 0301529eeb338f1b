import json
from pathlib import Path

import numpy as np
import pytest

keras = pytest.importorskip("keras", reason="Keras is not installed")

from edgecell.convert.finder import convert_finder, is_finder
from edgecell.data.frame_pack import packed_frame, write_frames
from edgecell.edge.find.finder import Finder
from edgecell.errors import InputError
from edgecell.image.preprocess import Bgr, Rgb
from edgecell.train.networks.finder import (
    HEADS,
    FinderSpec,
    build_finder,
)
from edgecell.train.networks.keras_weights import get_keras_weights

SPEC = FinderSpec((8, 8, 8, 8), 1)
CONFIG = {
    "spec": {"widths": SPEC.widths, "blocks": SPEC.blocks},
    "side": 256,
    "glass": 224.0,
    "middle": 160.0,
    "spread": 64.0,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished job of a tiny finder with random weights, and its pack."""
    folder = tmp_path_factory.mktemp("run")
    keras.utils.set_random_seed(4)
    model = build_finder(SPEC)
    weights = get_keras_weights(model, {name: name for name in HEADS})
    np.savez(folder / "result.npz", allow_pickle=False, **weights)
    val = {"least_scores": [0.4, 0.35, 0.3], "white_recall": 0.9}
    about = {"step": 1, "seconds": 1.0, "images": 16, "trained_on": {}, "device": "x"}
    summary = about | {"config": CONFIG, "val": val}
    (folder / "result.json").write_text(json.dumps(summary))
    rng = np.random.default_rng(0)
    frames = [
        packed_frame(
            Rgb(rng.integers(0, 255, (192, 256, 3), np.uint8)),
            np.zeros((0, 5), np.float32),
            True,
            "train",
            "frames",
        )
        for _ in range(3)
    ]
    write_frames(frames, folder / "pack.npz")
    return folder


def test_the_file_does_what_the_network_does_at_any_shape(
    run: Path, tmp_path: Path
) -> None:
    path = tmp_path / "finder.tflite"
    record = convert_finder(run, [run / "pack.npz"], path)
    assert record.least_scores == (0.4, 0.35, 0.3)
    finder = Finder(path)
    assert finder.record.record_sha256
    model = build_finder(SPEC)
    for name, layer in zip(HEADS, HEADS, strict=True):
        assert model.get_layer(layer).name == name
    keras.utils.set_random_seed(4)
    model = build_finder(SPEC)
    rng = np.random.default_rng(1)
    for height, width in ((192, 256), (100, 250), (256, 144)):
        image = Bgr(rng.integers(0, 255, (height, width, 3), np.uint8))
        levels, *maps = finder.maps(image)
        assert levels.shape == (1, -(-height // 16) * 16, -(-width // 16) * 16, 3)
        seen = model((levels.astype(np.float32) + 128 - 160) / 64)
        for name, there in zip(("heat", "size"), maps, strict=True):
            here = seen[name].numpy()[0]
            assert there.shape == here.shape
            assert np.corrcoef(there.ravel(), here.ravel())[0, 1] > 0.98


def test_other_runs_are_refused(run: Path, tmp_path: Path) -> None:
    assert is_finder(run)
    assert not is_finder(tmp_path)
    (tmp_path / "result.json").write_text(json.dumps({"val": {"here": {}}}))
    assert not is_finder(tmp_path)
    with pytest.raises(InputError, match="no finished job of a finder"):
        convert_finder(tmp_path, [run / "pack.npz"], tmp_path / "f.tflite")
