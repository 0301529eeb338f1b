import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edgecell.data.pack import Pack
from edgecell.errors import InputError
from edgecell.train.job.config import JobConfig
from edgecell.train.job.files import read_weights
from edgecell.train.job.networks.finished import (
    FinishedNetwork,
    built,
    kept,
)
from edgecell.train.job.networks.network import get_weights
from tests.factories import TINY
from tests.train.job.runs import STD, config, half_way, job, same


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
