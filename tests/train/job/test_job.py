import csv
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from click.testing import CliRunner

from edgecell.data.pack import Pack, write_packs
from edgecell.errors import InputError
from edgecell.train.job.__main__ import command
from edgecell.train.job.files import read_weights
from edgecell.train.job.fold import Fold
from edgecell.train.job.networks.network import get_weights
from edgecell.train.job.training import rate_at
from edgecell.train.job.views import FAR
from tests.train.job.runs import config, half_way, job, same


def test_ten_steps_write_everything_that_is_needed_to_judge(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    run = job(pack, config(tiny_preset))
    before = get_weights(run.network)
    found = run.run(tmp_path)
    assert {source: f.n for source, f in found.items()} == {"here": 24, "there": 24}
    weights = read_weights(tmp_path / "result.npz")
    assert weights.keys() == before.keys()
    assert any(not np.allclose(weights[k], before[k], atol=1e-3) for k in weights)
    assert weights["000.kernel"].dtype == np.float16
    with np.load(tmp_path / "result.npz") as result:
        assert result["val_logits"].shape == (48, 12)
        assert np.isfinite(result["val_logits"]).all()
        assert result["val_hashes"].tolist() == list(run.val.hashes)
    summary = json.loads((tmp_path / "result.json").read_text())
    assert summary["step"] == 10
    assert summary["trained_on"] == {"here": 84, "there": 84}
    (row,) = csv.DictReader((tmp_path / "history.csv").read_text().splitlines())
    assert row["images"] == "240"


def test_it_learns_colours(pack: Pack, tiny_preset: str, tmp_path: Path) -> None:
    settings = replace(config(tiny_preset, 60), learning_rate=0.01)
    run = job(pack, settings)
    first = run.validate(0.0)
    last = run.run(tmp_path)
    assert last["here"].loss < 0.7 * first["here"].loss
    assert run.history[0]["hue"] < 0.8
    assert run.history[-1]["hue"] > 0.9


def test_a_resumed_run_is_the_uninterrupted_one(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    whole, second = half_way(pack, config(tiny_preset), tmp_path)
    assert same(whole.network, second.network)
    assert same(whole.averaged, second.averaged)


def test_excluded_sources_are_neither_trained_nor_validated_on(
    pack: Pack, tiny_preset: str
) -> None:
    run = job(pack, replace(config(tiny_preset), exclude=("there",)))
    assert set(run.train.sources) == set(run.val.sources) == {"here"}
    test = {h for h, s in zip(pack.hashes, pack.splits, strict=True) if s == "test"}
    assert not test & set(run.val.hashes)
    assert set(run.test.hashes) == test


def test_frozen_statistics_stay_those_of_the_first_weights(
    pack: Pack, tiny_preset: str
) -> None:
    first = job(pack, config(tiny_preset))
    first.train_step()
    before = get_weights(first.network)
    with pytest.raises(ValueError, match="are those of first weights"):
        replace(config(tiny_preset), frozen=True)
    run = job(pack, replace(config(tiny_preset), frozen=True, first="one"))
    run.set_first_weights(before)
    for _ in range(3):
        run.train_step()
    for after in (get_weights(run.network), get_weights(run.averaged)):
        same = {k: np.allclose(w, before[k]) for k, w in after.items()}
        assert all(v for k, v in same.items() if k.endswith(("mean", "variance")))
        assert not any(v for k, v in same.items() if k.endswith("kernel"))


def test_a_time_limit_ends_the_run(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    run = job(pack, replace(config(tiny_preset), steps=0, seconds=0.5))
    run.run(tmp_path)
    assert run.progress == 1
    assert run.step >= 1
    assert (tmp_path / "result.npz").exists()


def test_the_rate_rises_along_a_line_and_falls_along_a_cosine() -> None:
    rates = [rate_at(p, 2.0, 0.2) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    assert rates == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"exclude": ("here", "there")}, "no cells to train"),
        ({"shares": {"elsewhere": 1.0}}, "sources with cells to train on are here"),
        ({"model": "alexnet"}, "no network 'alexnet'"),
        ({"fold": Fold("nowhere", 1, 5)}, "0 cells of nowhere can't be dealt into 5"),
    ],
)
def test_bad_settings_are_told(
    pack: Pack, tiny_preset: str, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError, match=says):
        job(pack, replace(config(tiny_preset), **change))


def test_the_command_trains_refuses_and_resumes(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    (path, *_), _ = write_packs(pack, tmp_path / "cells.npz")
    out = tmp_path / "run"
    start = [str(path), "--out", str(out), "--model", tiny_preset, "--device", "cpu"]
    limits = ["--seconds", "60", "--steps", "3", "--batch-size", "12"]

    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(command, arguments)
        return result.exit_code, result.output

    assert call(*start, *limits) == (0, "")
    assert call(*start, *limits) == (
        1,
        f"Error: {out} holds a run; add --resume, or name another --out\n",
    )
    assert call(*start[:3], "--steps", "5", "--resume")[0] == 0
    summary = json.loads((out / "result.json").read_text())
    assert summary["step"] == 5
    assert summary["config"]["first"] == "random"
    assert (
        "is not a file of 'edgecell data pack'"
        in call(str(out / "result.npz"), "--out", str(tmp_path / "other"))[1]
    )
    assert call(*start[:3], "--resume", "--first", str(path))[0] == 2
    again = [str(path), "--out", str(tmp_path / "again"), *start[3:], "--steps", "1"]
    assert "holds no weights" in call(*again, "--first", str(tmp_path))[1]
    assert "is for a GRsNet" in call(*again, "--unseen", "--model", "resnet50")[1]
    assert call(*again, "--first", str(out), "--unseen", "--teacher", str(out)) == (
        0,
        "",
    )
    settings = json.loads((tmp_path / "again" / "config.json").read_text())["config"]
    assert (settings["first"], settings["style"]) == ("run", 0.5)
    assert settings["views"] == asdict(FAR)
    assert (settings["teacher"], settings["finished"]) == ("", [str(out)])
    resumed = [*start[:2], str(tmp_path / "again"), "--resume"]
    moved = out.rename(tmp_path / "moved")
    assert "holds no weights of a classifier" in call(*resumed)[1]
    assert call(*resumed, "--steps", "2", "--teacher", str(moved))[0] == 0
    history = (tmp_path / "again" / "history.csv").read_text()
    # What is changed stays changed; and nothing is left to do.
    assert call(*resumed)[0] == 0
    assert (tmp_path / "again" / "history.csv").read_text() == history
    out = moved.rename(out)
    two = call(*again, "--teacher", "resnet50", "--teacher", "mobilenet-v2")
    assert two[0] == 2
    assert "only one teacher can learn beside it" in two[1]
    for nothing in ("", str(path), "nowhere/run"):
        said = call(*again, "--teacher", nothing)
        assert said[0] == 2
        assert f"the teacher '{nothing}' is neither the folder of a finished" in said[1]
    assert call(*start[:3], "--resume", "--seconds", "0", "--steps", "0")[0] == 2
    assert call(*start[:3], "--seconds", "nan")[0] == 2
    assert "no part of a source" in call(*start[:3], "--fold", "here")[1]
    zero = ["--out", str(tmp_path / "zero"), *start[3:], "--seed", "0", "--steps", "1"]
    assert call(str(path), *zero, "--batch-size", "4") == (0, "")
    settings = json.loads((tmp_path / "zero" / "config.json").read_text())
    assert settings["config"]["seed"] == 0
    elsewhere = call(str(path), "--out", str(tmp_path / "no"), "--resume")
    assert "holds no run to resume" in elsewhere[1]
