"""The TensorFlow side: a job's result becomes a `.keras` file; weights go out."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.data.pack import Pack, write_packs
from edgecell.errors import InputError
from edgecell.train.job.files import read_first, read_weights, write_first

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from edgecell.image.preprocess import standardise
from edgecell.model.kerasfile import load_keras
from edgecell.train.job.finish import command, finish
from edgecell.train.networks.keras_weights import (
    get_keras_weights,
    set_keras_weights,
)
from edgecell.train.networks.models import build_model

MEAN, STD = (200.0, 190.0, 210.0), (50.0, 60.0, 40.0)


@pytest.fixture
def run(pack: Pack, tiny_preset: str, tmp_path: Path) -> tuple[Path, Path]:
    """A finished job's folder, written as the job does, and its pack."""
    (path,), _ = write_packs(pack, tmp_path / "cells.npz")
    model = build_model(tiny_preset, 12, 32)
    val = [i for i, split in enumerate(pack.splits) if split == "val"]
    prep = pack.prep.__class__(**vars(pack.prep) | {"mean": MEAN, "std": STD})
    logits = np.asarray(model(standardise(pack.crops_of(val), prep), training=False))
    folder = tmp_path / "run"
    folder.mkdir()
    np.savez(
        folder / "result.npz",
        allow_pickle=False,
        **get_keras_weights(model),
        val_logits=logits,
        val_hashes=np.array([pack.hashes[i] for i in val]),
    )
    summary = {
        "config": {"model": tiny_preset, "exclude": []},
        "mean": MEAN,
        "std": STD,
        "val": {},
        "step": 10,
        "cells": 240,
        "seconds": 3.5,
        "device": "a test",
        "torch": "2",
    }
    (folder / "result.json").write_text(json.dumps(summary))
    return folder, path


def test_the_network_and_its_record(
    run: tuple[Path, Path], pack: Pack, tmp_path: Path
) -> None:
    folder, path = run
    assert finish(folder, [path], tmp_path / "m.keras") == 1.0
    model, record = load_keras(tmp_path / "m.keras")
    weights = read_weights(folder / "result.npz")
    found = get_keras_weights(model)
    assert all(np.array_equal(found[name], weights[name]) for name in found)
    assert record.preprocessing.mean == MEAN
    assert record.preprocessing.crop_fraction == pack.prep.crop_fraction
    assert record.preprocessing_of("there").crop_fraction == 0.7
    assert record.training["images"] == {"train": 168, "val": 48}
    # Sets of two classes teach neither of them.
    assert record.training["learned"]["BNE"] == 7
    assert record.training["learned"]["EO"] == 14


def configured(folder: Path, **config: object) -> None:
    """Changes what a job's summary says of its settings."""
    path = folder / "result.json"
    summary = json.loads(path.read_text())
    summary["config"] |= config
    path.write_text(json.dumps(summary))


def test_the_record_tells_of_teachers_and_of_the_cells_of_a_fold(
    run: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, path = run
    configured(folder, finished=["/elsewhere/one"], fold="there=1/4")
    finish(folder, [path], tmp_path / "m.keras")
    _, record = load_keras(tmp_path / "m.keras")
    assert record.training["config"]["finished"] == ["one"]
    # 84 of 'here', and three quarters of the 120 cells of 'there'.
    assert record.training["images"] == {"train": 174, "val": 24}


def test_other_networks_are_refused(run: tuple[Path, Path], tmp_path: Path) -> None:
    configured(run[0], model="mobilenet-v2")
    with pytest.raises(InputError, match="mobilenet-v2, not a GRsNet; train it with"):
        finish(run[0], [run[1]], tmp_path / "m.keras")


def test_results_that_do_not_fit_are_refused(
    run: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, path = run
    out = tmp_path / "m.keras"
    with np.load(folder / "result.npz") as result:
        arrays = {name: result[name] for name in result.files}
    np.savez(folder / "result.npz", **arrays | {"val_logits": -arrays["val_logits"]})
    with pytest.raises(InputError, match="Keras and PyTorch agree on"):
        finish(folder, [path], out)
    np.savez(folder / "result.npz", **arrays | {"val_hashes": np.array(["0" * 64])})
    with pytest.raises(InputError, match="validated on other cells"):
        finish(folder, [path], out)
    (folder / "result.json").unlink()
    said = CliRunner().invoke(command, [str(folder), str(path), "--out", str(out)])
    assert (said.exit_code, "holds no finished job" in said.output) == (1, True)
    assert not out.exists()


def test_weights_of_keras_go_out_and_in(tiny_preset: str, tmp_path: Path) -> None:
    one, other = (build_model(tiny_preset, 12, 32) for _ in range(2))
    write_first(tmp_path / "first.npz", get_keras_weights(one), MEAN, STD)
    weights, mean, std = read_first(tmp_path / "first.npz")
    assert (mean, std) == (MEAN, STD)
    set_keras_weights(other, weights)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(one(x, training=False), other(x, training=False))
    with pytest.raises(InputError, match="not those of a grsnet_lite"):
        set_keras_weights(build_model("grsnet-lite", 12, 32), weights)
    (tmp_path / "result.json").write_text("[]")
    for nothing in (Path(__file__), tmp_path):
        with pytest.raises(InputError, match="holds no weights"):
            read_first(nothing)
