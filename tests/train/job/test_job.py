import csv
import json
from collections import Counter
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
from edgecell.train.job.config import JobConfig
from edgecell.train.job.files import read_weights
from edgecell.train.job.fold import Fold
from edgecell.train.job.job import Job
from edgecell.train.job.networks.finished import (
    FinishedNetwork,
    built,
    kept,
)
from edgecell.train.job.networks.network import get_weights
from edgecell.train.job.training import rate_at
from edgecell.train.job.views import FAR
from tests.factories import TINY

MEAN, STD = (200.0, 190.0, 210.0), (50.0, 60.0, 40.0)


def job(pack: Pack, config: JobConfig) -> Job:
    return Job(config, pack, MEAN, STD, torch.device("cpu"))


def config(model: str, steps: int = 10) -> JobConfig:
    return JobConfig(model=model, seconds=0, steps=steps, batch_size=24, ema=0.9)


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


def half_way(pack: Pack, settings: JobConfig, folder: Path) -> tuple[Job, Job]:
    """A run of six steps, and the same one killed and resumed after three."""
    runs = []
    for steps in (6, 3):
        run = job(pack, settings)
        for _ in range(steps):
            run.train_step()
        runs.append(run)
    whole, killed = runs
    killed.save(folder)
    torch.manual_seed(99)
    second = job(pack, settings)
    second.restore(folder)
    assert second.step == 3
    for _ in range(3):
        second.train_step()
    return whole, second


def same(one: Any, other: Any) -> bool:
    """Whether two networks have the same weights."""
    a, b = get_weights(one), get_weights(other)
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_a_resumed_run_is_the_uninterrupted_one(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    whole, second = half_way(pack, config(tiny_preset), tmp_path)
    assert same(whole.network, second.network)
    assert same(whole.averaged, second.averaged)


def test_a_teachers_first_weights_are_imagenets(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    run = job(pack, replace(config(tiny_preset), teacher=tiny_preset))
    with pytest.raises(InputError, match="another network's"):
        run.set_teacher_weights(get_weights(run.network))
    with pytest.raises(InputError, match="none that learns"):
        job(pack, config(tiny_preset)).set_teacher_weights({})


def test_the_result_has_what_the_teacher_says(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    run = job(pack, replace(config(tiny_preset, 2), teacher=tiny_preset))
    run.run(tmp_path)
    assert run.teacher
    with np.load(tmp_path / "result.npz") as result:
        expected, _ = run.predicted(run.test.images, run.teacher.averaged)
        assert np.array_equal(result["test_teacher_logits"], expected)
        assert result["test_logits"].shape == result["test_sets"].shape == (24, 12)


def test_a_resumed_run_has_its_teacher(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    settings = replace(config(tiny_preset), teacher=tiny_preset)
    whole, second = half_way(pack, settings, tmp_path)
    assert whole.teacher
    assert second.teacher
    assert same(whole.network, second.network)
    assert same(whole.teacher.averaged, second.teacher.averaged)


@pytest.fixture
def finished(pack: Pack, tiny_preset: str, tmp_path: Path) -> Path:
    """The folder of a run that learned for 60 steps."""
    settings = replace(config(tiny_preset, 60), learning_rate=0.01)
    job(pack, settings).run(tmp_path / "finished")
    return tmp_path / "finished"


def test_a_finished_network_answers_as_its_run_did(finished: Path, pack: Pack) -> None:
    """It standardises with its own mean and deviation, whatever the student's are."""
    cells = job(pack, config(TINY.name)).val
    network = FinishedNetwork(finished, 32, 12, torch.device("cpu"))
    images = torch.from_numpy(cells.images).permute(0, 3, 1, 2).float()
    with np.load(finished / "result.npz") as result:
        expected = result["val_logits"]
    # The run judged in bfloat16.
    assert np.allclose(network.logits(images).numpy(), expected, atol=0.1)


def test_a_finished_network_is_believed_against_the_labels(
    finished: Path, pack: Pack
) -> None:
    """A teacher that names the class after the right one."""
    path = finished / "result.npz"
    with np.load(path) as result:
        arrays = dict(result)
    for name in ("head.kernel", "head.bias"):
        arrays[name] = np.roll(arrays[name], 1, -1)
    np.savez(path, **arrays)
    taught = replace(
        config(TINY.name, 60),
        finished=(str(finished),),
        teacher_weight=1.0,
        learning_rate=0.01,
    )
    run = job(pack, taught)
    run.run(finished.parent / "taught")
    said = run.predicted(run.val.images)[0].argmax(1)
    true = arrays["val_logits"].argmax(1)
    assert (said == (true + 1) % 12).mean() > 0.5
    assert (said == true).mean() < 0.2


def test_a_resumed_run_has_its_finished_teachers(
    finished: Path, pack: Pack, tmp_path: Path
) -> None:
    settings = replace(
        config(TINY.name), teacher=TINY.name, finished=(str(finished),) * 2
    )
    assert JobConfig.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    whole, second = half_way(pack, settings, tmp_path)
    assert same(whole.network, second.network)


def test_what_cannot_teach_is_told(finished: Path, pack: Pack, tmp_path: Path) -> None:
    def refused(run: Path) -> str:
        settings = replace(config(TINY.name), finished=(str(run),))
        with pytest.raises(InputError) as error:
            job(pack, settings)
        return str(error.value)

    assert f"{tmp_path} holds no weights" in refused(tmp_path)
    summary = finished / "result.json"
    state = json.loads(summary.read_text())
    state["config"]["model"] = "grsnet"
    summary.write_text(json.dumps(state))
    assert "not those of a grsnet" in refused(finished)


def test_other_networks_learn_on_and_teach(
    pack: Pack, tiny_preset: str, tmp_path: Path
) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    run = job(pack, config("mobilenet-v2", 1))
    run.run(tmp_path)
    weights = read_weights(tmp_path / "result.npz")
    again = job(pack, replace(config("mobilenet-v2", 1), seed=2))
    again.set_first_weights(weights)
    for one in (run, again):
        one.network.eval()
    images = torch.from_numpy(run.val.images[:4]).permute(0, 3, 1, 2).float()
    network = FinishedNetwork(tmp_path, 32, 12, torch.device("cpu"))
    expected, _ = run.predicted(run.val.images[:4])
    assert np.allclose(network.logits(images).numpy(), expected, atol=0.1)
    assert np.array_equal(again.predicted(run.val.images[:4])[0], expected)
    with pytest.raises(InputError, match="another network's"):
        job(pack, config("efficientnet-lite0")).set_first_weights(weights)


def test_imagenets_weights_are_changed_for_the_inputs(pack: Pack) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    run = job(pack, config("efficientnet-lite0"))
    own = run.network.state_dict()
    learned = [k for k, v in own.items() if v.ndim and k.startswith("backbone.")]
    names = ["_conv_stem.weight", "gamma", "beta", "_bn0.running_mean"]
    names += [str(i) for i in range(len(names), len(learned))]
    weights = {
        name: np.full(own[key].shape, 0.5, np.float32)
        for name, key in zip(names, learned, strict=True)
    }
    run.set_first_weights(weights)
    for network in (run.network, run.averaged):
        stem = network.state_dict()[learned[0]]
        # (x - 127) / 128 is (x - mean) / std, times std / 128, and an offset.
        assert stem[3, :, 1, 1].tolist() == [0.5 * std / 128 for std in STD]
        assert network.state_dict()[learned[-1]].eq(0.5).all()
    with pytest.raises(InputError, match="are EfficientNet-Lite0's"):
        job(pack, config("grsnet-lite")).set_first_weights(weights)


def test_a_network_too_large_for_a_result_keeps_no_weights(tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="timm is not installed")
    assert kept(built("resnet50", 32, 12, (), torch.device("cpu"))) == {}


def test_excluded_sources_are_neither_trained_nor_validated_on(
    pack: Pack, tiny_preset: str
) -> None:
    run = job(pack, replace(config(tiny_preset), exclude=("there",)))
    assert set(run.train.sources) == set(run.val.sources) == {"here"}
    test = {h for h, s in zip(pack.hashes, pack.splits, strict=True) if s == "test"}
    assert not test & set(run.val.hashes)
    assert set(run.test.hashes) == test


def test_folds_test_by_every_cell_of_a_source_once(
    pack: Pack, tiny_preset: str
) -> None:
    hashes: list[str] = []
    others = {h for h, s in zip(pack.hashes, pack.sources, strict=True) if s == "here"}
    own = set(pack.hashes) - others
    for part in (1, 2, 3):
        settings = replace(config(tiny_preset), fold=Fold("there", part, 3))
        assert JobConfig.from_dict(settings.to_dict()) == settings
        run = job(pack, settings)
        tested = set(run.test.hashes) & own
        # 120 cells of twelve classes, two of which are one set.
        assert len(tested) == 40
        counts = Counter(map(bytes, run.test.sets[np.isin(run.test.hashes, list(own))]))
        assert set(counts.values()) <= {3, 4, 6, 7}
        assert Counter(run.train.sources)["there"] == 80
        assert not set(run.val.hashes) & own
        hashes += tested
    assert sorted(hashes) == sorted(own)


@pytest.mark.parametrize(
    "text", ["there", "there=0/3", "there=4/3", "there=1/1", "=1/2"]
)
def test_what_is_no_part_of_a_source_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="no part of a source, such as 'own=1/5'"):
        Fold.parse(text)


def test_a_source_that_is_left_out_has_no_fold() -> None:
    with pytest.raises(ValueError, match="there has a fold, but is left out"):
        JobConfig(fold=Fold("there", 1, 2), exclude=("there",))


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
