import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgecell.cli import cli
from edgecell.model.kerasfile import load_keras
from edgecell.train.command import make_config
from edgecell.train.config import PAPER, TrainConfig
from edgecell.train.history import read_history
from edgecell.train.trainer import plateau_rate

ROOT = Path(__file__).parents[2]
CLI = """
from edgecell.cli import cli
from edgecell.train.networks.network import PRESETS
from tests.factories import TINY
PRESETS[TINY.name] = TINY
cli()
"""


def invoke(*args: object) -> Result:
    result = CliRunner().invoke(cli, ["train", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_ctrl_c_keeps_the_best_weights_and_resume_goes_on(
    tiny_network: None, drawn_cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", CLI, "train", str(drawn_cells), "--out", str(out)),
            *("--model", "tiny", "--epochs", "1000", "--small-epochs", "0"),
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        # A test run in a shell's background inherits an ignored Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None:
        if (out / "checkpoints" / "checkpoint").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("Stopped after ")
    assert last.endswith("--resume continues")
    load_keras(out / "model.keras")
    done = len(read_history(out / "history.csv"))
    pictures = {"learning-curves.png", "confusion.png", "roc.png"}
    assert pictures <= {p.name for p in out.iterdir()}

    # Two more epochs are enough to see that it goes on, with the run's settings.
    config = json.loads((out / "config.json").read_text())
    config["epochs"] = done + 2
    (out / "config.json").write_text(json.dumps(config))
    before = (out / "split.csv").read_text()
    again = invoke(drawn_cells, "--out", out, "--resume", "--json", "-")
    assert again.exit_code == 0, again.output
    history = read_history(out / "history.csv")
    assert [h.epoch for h in history] == list(range(1, done + 3))
    assert history[-1].view_size == 112
    assert (out / "split.csv").read_text() == before
    assert logged(out) == [h.epoch for h in history]


def logged(out: Path) -> list[int]:
    """Epochs in the TensorBoard log, read with TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return [e.step for e in events.Tensors("val_loss")]


def test_bad_requests_end_in_one_line(
    tiny_network: None, tiny_run: Path, drawn_cells: Path, tmp_path: Path
) -> None:
    for args, message in (
        (("--out", tiny_run), "holds a run; add --resume"),
        (("--out", tmp_path / "x", "--resume"), "holds no run to resume"),
        (("--out", tiny_run, "--resume", "--epochs", 9), "leave out --epochs"),
        (("--out", tmp_path, "--model", "alexnet"), "no network 'alexnet'"),
        (("--out", tmp_path, "--model", "vit-b16", "--small-epochs", 1), "one size"),
        (("--out", tmp_path, "--strategy", "multiworker"), "needs TF_CONFIG"),
        (("--out", tmp_path, "--epochs", 0), "not in the range"),
    ):
        result = invoke(drawn_cells, *args)
        assert result.exit_code != 0
        assert message in result.output
        assert len(result.output.strip().splitlines()) <= 4  # click adds its usage


def test_a_run_does_not_resume_on_other_data(
    tiny_network: None, tiny_run: Path, drawn_cells: Path
) -> None:
    for path in (drawn_cells / "BA").iterdir():
        path.rename(path.with_suffix(".hidden"))
    try:
        result = invoke(drawn_cells, "--out", tiny_run, "--resume")
    finally:
        for path in (drawn_cells / "BA").iterdir():
            path.rename(path.with_suffix(".png"))
    assert result.exit_code == 1
    assert "not the data that the run" in result.output


def test_recipes() -> None:
    ours = make_config("default", {})
    assert (ours.epochs, ours.small_epochs) == (20, 8)
    assert make_config("default", {"model": "vit-b16"}).small_epochs == 0
    paper = make_config("paper", {"seed": 5})
    assert (paper.seed, paper.model, paper.small_epochs) == (5, "grsnet", 0)
    assert TrainConfig.from_dict(json.loads(json.dumps(PAPER.to_dict()))) == PAPER


def test_plateau_by_hand() -> None:
    falling = [1.0 - 0.01 * i for i in range(20)]
    assert plateau_rate(1.0, falling) == 1.0
    assert plateau_rate(1.0, [0.5] * 10) == 1.0  # the first is the best, nine wait
    assert plateau_rate(1.0, [0.5] * 11) == 0.1
    assert plateau_rate(1.0, [0.5] * 20) == 0.1
    assert plateau_rate(1.0, [0.5] * 21) == pytest.approx(0.01)
    # An improvement below 1e-4 is none.
    assert plateau_rate(1.0, [0.5] + [0.49995] * 10) == 0.1


def test_to_find_cells_has_settings_of_its_own(tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "run")]
    for arguments, why in (
        (["--task", "find", "--epochs", "3"], "--epochs is not for --task find"),
        (["--seconds", "3"], "--seconds is for --task find"),
    ):
        result = CliRunner().invoke(cli, ["train", str(tmp_path), *arguments, *out])
        assert result.exit_code == 2
        assert why in result.output
    assert not (tmp_path / "run").exists()
