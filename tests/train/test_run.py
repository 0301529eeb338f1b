import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecell.data.audit import LeftOut, Selection, audited
from edgecell.data.dataset import CellFile, read, scan
from edgecell.errors import InputError
from edgecell.image.preprocess import channel_statistics
from edgecell.model.kerasfile import load_keras
from edgecell.train import run as module
from edgecell.train.config import TrainConfig
from edgecell.train.history import read_history
from edgecell.train.run import has_own_split, train
from tests.factories import TINY_CONFIG

ROOT = Path(__file__).parents[2]


def test_channel_statistics_agree_with_numpy() -> None:
    images = np.random.default_rng(0).integers(0, 255, (7, 9, 5, 3), np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.reshape(-1, 3).mean(0))
    np.testing.assert_allclose(std, images.reshape(-1, 3).std(0))


def test_what_a_run_leaves(tiny_run: Path, drawn_cells: Path) -> None:
    model, record = load_keras(tiny_run / "model.keras")
    assert model.input_shape == (None, 112, 112, 3)
    assert record.network["name"] == "tiny"
    assert record.training["images"]["train"] > record.training["images"]["test"]
    assert record.head_bias == pytest.approx(
        model.get_layer("logits").get_weights()[1].tolist()
    )
    # The drawn fields hold red cells of 18 pixels; the crop is 0.66 x 96.
    assert record.preprocessing.crop_red_cells == pytest.approx(3.5, rel=0.25)
    history = read_history(tiny_run / "history.csv")
    assert [h.epoch for h in history] == [1, 2, 3]
    assert [h.view_size for h in history] == [80, 112, 112]
    best = max(history, key=lambda h: h.val_macro_recall)
    assert record.metrics["val"]["macro_recall"] == best.val_macro_recall
    assert TrainConfig.from_dict(
        json.loads((tiny_run / "config.json").read_text())
    ) == TINY_CONFIG  # fmt: skip
    with (tiny_run / "split.csv").open() as f:
        rows = {r["sha256"]: r["split"] for r in csv.DictReader(f)}
    assert rows == {f.sha256: f.split for f in scan([drawn_cells])}


KILLED = """
import sys
from pathlib import Path
from edgecell.data.audit import audited
from edgecell.data.dataset import read
from edgecell.train.networks.network import PRESETS
from edgecell.train.run import train
from tests.factories import TINY, TINY_CONFIG
PRESETS[TINY.name] = TINY
train(audited(read([Path(sys.argv[1])]).files), TINY_CONFIG, Path(sys.argv[2]))
"""


def test_a_killed_run_resumes_to_the_same_result(
    tiny_network: None, tiny_run: Path, drawn_cells: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(drawn_cells), str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    # The checkpoint is the last thing that an epoch writes.
    while process.poll() is None:
        if (tmp_path / "checkpoints" / "checkpoint").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = len(read_history(tmp_path / "history.csv"))
    assert 1 <= done <= 3
    train(audited(read([drawn_cells]).files), TINY_CONFIG, tmp_path, resume=True)
    again, whole = (read_history(p / "history.csv") for p in (tmp_path, tiny_run))
    # Sums over threads come in any order, so weights agree to rounding alone.
    for a, b in zip(again, whole, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-3)
        assert a.val_loss == pytest.approx(b.val_loss, rel=1e-3)


def test_what_is_left_out_is_not_tested_on(drawn_cells: Path) -> None:
    files = scan([drawn_cells])
    by_split = {f.split: f for f in files}
    copies = [replace(f, sha256=f.sha256[:-1] + "x") for f in by_split.values()]
    of = {f.split: LeftOut(f, "looks the same") for f in copies}
    kept = tuple(files)
    assert not has_own_split(Selection(kept, ()))
    assert not has_own_split(Selection(kept, (of["train"],)))
    assert has_own_split(Selection(kept, (of["train"], of["val"])))
    byte_copy = LeftOut(by_split["val"], "the same file")
    assert not has_own_split(Selection(kept, (byte_copy,)))
    moved = replace(by_split["train"], assigned="test")
    assert has_own_split(Selection((moved,), ()))


def test_a_teacher_of_one_size_is_refused_for_small_views(
    drawn_cells: Path, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIXED_SIZE", ("tiny",))
    teacher = str(tiny_run / "model.keras")
    cfg = TrainConfig(teacher=teacher, epochs=2, small_epochs=1)
    with pytest.raises(InputError, match="tiny takes views of one size"):
        train(Selection(tuple(scan([drawn_cells])), ()), cfg, tmp_path)


def test_bad_requests(tiny_network: None, drawn_cells: Path, tmp_path: Path) -> None:
    files = scan([drawn_cells])
    whole = Selection(tuple(files), ())
    with pytest.raises(InputError, match="no network 'resnet'"):
        train(whole, replace(TINY_CONFIG, model="resnet"), tmp_path)
    only_train = tuple(f for f in files if f.split == "train")
    with pytest.raises(InputError, match="too few"):
        train(Selection(only_train, ()), TINY_CONFIG, tmp_path)
    with pytest.raises(InputError, match="no checkpoint to resume"):
        train(whole, TINY_CONFIG, tmp_path / "new", resume=True)
    grey = np.zeros((8, 8, 3), np.uint8)
    import cv2

    data = cv2.imencode(".png", grey)[1].tobytes()
    bare = [CellFile(f.name, f.code, f.source, f.sha256, data) for f in files]
    with pytest.raises(InputError, match="no red cells were found"):
        train(Selection(tuple(bare), ()), TINY_CONFIG, tmp_path / "bare")


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"small_epochs": 4},
        {"balance": 2.0},
        {"crop_fraction": 1.1},
        {"margin": 0.5},
    ],
)
def test_nonsense_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        replace(TINY_CONFIG, **change)  # type: ignore[arg-type]
