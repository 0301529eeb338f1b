"""The finder's job: its network, views, targets, judgement and the run."""

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from click.testing import CliRunner

from edgecell.data.frame_pack import (
    PackedFrame,
    packed_frame,
    write_frames,
)
from edgecell.data.frames import LabelBox
from edgecell.edge.find.finder import Points
from edgecell.image.preprocess import Rgb
from edgecell.train.find.feed import Feed, batch
from edgecell.train.find.job import FinderConfig, FinderJob
from edgecell.train.find.judge import Judged, judge
from edgecell.train.find.light import developed
from edgecell.train.find.network import (
    FinderNetwork,
    finder_weights,
    set_finder_weights,
)
from edgecell.train.find.scene import Scene, moved_boxes
from edgecell.train.find.targets import (
    HEAT,
    SIZE,
    SIZED,
    finder_loss,
    target,
)
from edgecell.train.find.views import SIDE, Views
from edgecell.train.job.__main__ import command
from edgecell.train.job.files import read_weights
from edgecell.train.networks.finder import FinderSpec

TINY = FinderSpec((8, 8, 8, 8), 1)
WORKING = 256
GLASS = 224.0
COLOURS = {0: (90, 40, 130), 1: (200, 140, 140), 2: (150, 60, 170)}


def frame(seed: int, whole: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Discs on glass, uint8 RGB (192, 256, 3), and their boxes."""
    rng = np.random.default_rng(seed)
    image = np.full((192, 256, 3), 224, np.uint8)
    rows = [(0, 128, 96, 80)] if not whole else []
    if whole:
        kinds = rng.permutation([0, 1, 1, 1, 1, 2])
        places = [(x, y) for x in (45, 128, 210) for y in (50, 140)]
        sizes = {0: 76, 1: 50, 2: 18}
        rows = [(k, *p, sizes[k]) for k, p in zip(kinds, places, strict=True)]
    y, x = np.mgrid[:192, :256]
    for kind, cx, cy, size in rows:
        image[np.hypot(x - cx, y - cy) < size / 2] = COLOURS[kind]
    boxes = [
        (k, cx - s / 2, cy - s / 2, cx + s / 2, cy + s / 2) for k, cx, cy, s in rows
    ]
    return image, np.array(boxes, np.float32)


@pytest.fixture(scope="session")
def frames() -> list[PackedFrame]:
    """Twelve frames to train on, three to choose by, four single cells."""
    found = []
    for i in range(15):
        image, boxes = frame(i)
        image[0, i] = 0  # so that no two are the same
        split = "train" if i < 12 else "val"
        found.append(packed_frame(Rgb(image), boxes, True, split, "frames"))
    for i in range(4):
        image, boxes = frame(i, whole=False)
        image[0, i] = 0
        found.append(packed_frame(Rgb(image), boxes, False, "train", "cells"))
    return found


def scenes() -> list[Scene]:
    made = [(frame(i), True) for i in range(4)] + [(frame(9, False), False)]
    return [Scene(im, boxes, whole, im.shape[:2]) for (im, boxes), whole in made]


def shaken() -> FinderNetwork:
    """A network whose batch normalisations are not the identity."""
    torch.manual_seed(3)
    network = FinderNetwork(TINY).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
    return network


def test_weights_go_out_and_in() -> None:
    one, other = shaken(), FinderNetwork(TINY).eval()
    set_finder_weights(other, finder_weights(one))
    x = torch.randn(2, 3, 48, 64)
    for a, b in zip(one(x), other(x), strict=True):
        assert torch.equal(a, b)
    assert one(x)[0].shape == (2, 3, 12, 16)


# In a process of its own: Keras keeps the backend that it was first imported with.
COMPARE = """
import keras
import numpy as np
import torch

from edgecell.train.find.network import finder_weights
from edgecell.train.networks.finder import HEADS, build_finder
from edgecell.train.networks.keras_weights import set_keras_weights
from tests.train.find.test_find import TINY, shaken

network = shaken()
model = build_finder(TINY, 48, 64, keras)
set_keras_weights(model, finder_weights(network), {name: name for name in HEADS})
x = np.random.default_rng(0).normal(size=(2, 48, 64, 3)).astype(np.float32)
with torch.no_grad():
    ours = network(torch.from_numpy(x).permute(0, 3, 1, 2))
    theirs = model(x, training=False)
    for name, one in zip(HEADS, ours):
        other = theirs[name].numpy()
        away = np.abs(one.permute(0, 2, 3, 1).numpy() - other).max()
        print(away / np.abs(other).max())
"""


def test_keras_builds_the_same_network() -> None:
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", COMPARE],
        env=os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    differences = [float(line) for line in done.stdout.split()]
    assert len(differences) == 2
    assert max(differences) < 1e-5


def test_boxes_move_with_the_picture() -> None:
    box = np.array([[1, 10, 20, 30, 60]], np.float32)
    turned = np.array([[0.0, -1.0, 100.0], [1.0, 0.0, 0.0]])  # x' = 100 - y, y' = x
    moved, seen = moved_boxes(box, turned, (0, 0, 224, 224))
    assert moved.tolist() == [[1, 40, 10, 80, 30]]
    assert seen == 1
    # 9 of 40 pixels are left of a cut at 49: more than a fifth
    moved, seen = moved_boxes(box, turned, (0, 0, 49, 224))
    assert moved.tolist() == [[1, 40, 10, 49, 30]]
    assert seen == pytest.approx(9 / 40)
    assert moved_boxes(box, turned, (0, 0, 47, 224))[0].shape == (0, 5)


def test_views_show_what_their_boxes_say() -> None:
    views = Views(scenes(), WORKING, GLASS, np.random.default_rng(0))
    right = total = 0
    for _ in range(60):
        view, boxes, known = views()
        assert view.shape == (SIDE, SIDE, 3)
        assert set(np.unique(known)) <= {0.0, 1.0}
        for label, x0, y0, x1, y1 in boxes:
            if min(x0, y0) < 2 or max(x1, y1) > SIDE - 2:
                continue
            colour = view[int((y0 + y1) / 2), int((x0 + x1) / 2)].astype(int)
            total += 1
            right += int(np.abs(colour - COLOURS[int(label)]).sum() < 60)
    assert total > 150
    assert right > 0.95 * total


def test_of_single_cells_the_rest_is_unknown() -> None:
    image, boxes = frame(3, whole=False)
    image[20:50, 10:40] = COLOURS[2]  # stained, and nobody says what it is
    single = Scene(image, boxes, False, image.shape[:2])
    whole = Scene(*frame(1), True, image.shape[:2])
    views = Views([whole, single], WORKING, GLASS, np.random.default_rng(1))
    drawn = [views.single(np.ones((3, 56, 56), np.float32)) for _ in range(20)]
    for _, boxes, known in drawn:
        if not len(boxes):
            assert not known.any()
            continue
        (_, x0, y0, x1, y1) = boxes[0]
        assert known[:, int((y0 + y1) / 8), int((x0 + x1) / 8)].all()
        assert known[1].mean() < 0.5
        assert known[0].mean() > 0.5
    assert min(known[0].mean() for _, boxes, known in drawn if len(boxes)) < 1


def test_light_changes_a_view_and_keeps_its_glass_in_the_middle() -> None:
    glass = torch.full((60, 20, 20, 3), 224, dtype=torch.uint8)
    levels = developed(glass, GLASS, torch.Generator().manual_seed(5))
    assert levels.shape == (60, 3, 20, 20)
    means = levels.mean((1, 2, 3))
    assert float(means.median()) == pytest.approx(224, rel=0.02)
    assert float(means.std()) > 2
    again = developed(glass, GLASS, torch.Generator().manual_seed(5))
    assert torch.equal(levels, again)


def test_far_fields_have_no_boxes_and_mosaics_small_ones() -> None:
    views = Views(scenes(), WORKING, GLASS, np.random.default_rng(2))
    far = views.far()
    assert far.shape == (SIDE, SIDE, 3)
    assert far.min() < 150
    known = np.ones((3, 56, 56), np.float32)
    _, boxes = views.mosaic(known)
    reds = boxes[boxes[:, 0] == 1]
    assert len(reds) > 8
    assert np.median((reds[:, 3:] - reds[:, 1:3]).max(1)) < 45
    assert known[0].all()


def test_a_bar_cuts_the_picture_and_its_boxes() -> None:
    views = Views(scenes(), WORKING, GLASS, np.random.default_rng(4))
    for _ in range(20):
        view = np.zeros((SIDE, SIDE, 3), np.uint8)
        boxes = np.array([[1, 0, 0, SIDE, SIDE]], np.float32)
        (left,) = views.barred(view, boxes)
        _, x0, y0, x1, y1 = left.astype(int)
        assert not view[y0:y1, x0:x1].any()
        view[y0:y1, x0:x1] = 224
        assert (view == 224).all()


def test_patterns_show_no_cell() -> None:
    views = Views(scenes(), WORKING, GLASS, np.random.default_rng(6))
    made = [views.pattern() for _ in range(20)]
    assert all(one.shape == (SIDE, SIDE, 3) for one in made)
    assert min(one.min() for one in made) < 150


def test_the_target_is_the_cell() -> None:
    boxes = np.array([[0, 40, 40, 72, 104]], np.float32)
    one = target(boxes, np.ones((3, 56, 56), np.float32))
    assert one[HEAT][0].max() == one[0, 18, 14] == 1
    assert (one[HEAT] == 1).sum() == 1
    assert np.exp(one[SIZE, 18, 14].astype(float)) * 16 == pytest.approx(
        [32, 64], rel=1e-3
    )
    assert one[SIZED, 18, 14] == 1
    assert one[SIZED, 0, 0] == one[1:3].max() == 0


def test_the_loss_is_least_for_the_target_and_blind_where_nothing_is_known() -> None:
    boxes = np.array([[0, 40, 40, 104, 104]], np.float32)
    known = np.ones((3, 56, 56), np.float32)
    known[2] = 0
    maps = torch.from_numpy(target(boxes, known)[None])
    heat = torch.full((1, 3, 56, 56), -6.0)
    heat[0, 0, 18, 18] = 6.0
    size = maps[:, SIZE].float()
    good = finder_loss(heat, size, maps)
    blind = heat.clone()
    blind[0, 2] = 6.0
    assert finder_loss(blind, size, maps) == good
    wrong = heat.clone()
    wrong[0, 1, 5, 5] = 6.0
    assert finder_loss(wrong, size, maps) > good + 0.1
    assert finder_loss(heat, size + 0.5, maps) == pytest.approx(float(good) + 0.5)


def test_workers_make_other_views_each_and_end() -> None:
    views = Views(scenes(), WORKING, GLASS, np.random.default_rng(0))
    levels, maps = batch(views, 3)
    feed = Feed(views, 3, 2, (1, 0))
    batches = [feed() for _ in range(6)]
    feed.close()
    for made, drawn in batches:
        assert made.shape == levels.shape
        assert made.dtype == levels.dtype
        assert drawn.shape == maps.shape
        assert float(drawn.max()) >= 1
    seen = {made.numpy().tobytes() for made, _ in batches}
    assert len(seen) == 6
    assert not multiprocessing.active_children()


def test_figures_by_hand() -> None:
    whites = (LabelBox(0, 0, 0, 20, 20), LabelBox(0, 100, 100, 140, 140))
    reds = (LabelBox(1, 50, 10, 60, 20), LabelBox(1, 70, 10, 80, 20))
    points = Points(
        np.array([0, 0, 0, 1, 1]),
        np.array(
            [
                [10, 10, 20, 20],
                [12, 12, 9, 9],
                [200, 10, 9, 9],
                [55, 15, 11, 11],
                [75, 15, 11, 11],
            ],
            np.float32,
        ),
        np.array([0.9, 0.5, 0.22, 0.9, 0.9], np.float32),
    )
    found = judge([Judged(points, whites + reds, 256, 192)])
    # With the surest alone: 1 of 2 found, and 1 of 1 is right.
    assert found.white_recall == 0.5
    assert found.white_precision == 1
    assert 0.5 < found.least_scores[0] < 0.9
    assert found.red_cell_error == pytest.approx(0.1)


def test_a_resumed_run_is_the_uninterrupted_one(
    frames: list[PackedFrame], tmp_path: Path
) -> None:
    settings = FinderConfig(seconds=0, steps=6, batch_size=1, bf16=False, spec=TINY)
    cpu = torch.device("cpu")
    whole, first, second = (FinderJob(settings, frames, cpu) for _ in range(3))
    for _ in range(5):
        whole.train_step()
    for _ in range(2):
        first.train_step()
    first.save(tmp_path)
    second.restore(tmp_path)
    for _ in range(3):
        second.train_step()
    a, b = finder_weights(whole.averaged), finder_weights(second.averaged)
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_the_command_trains_refuses_and_resumes(
    frames: list[PackedFrame], tmp_path: Path
) -> None:
    (path,), _ = write_frames(frames, tmp_path / "frames.npz")
    out = tmp_path / "run"
    start = [str(path), "--task", "find", "--out", str(out), "--device", "cpu"]

    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(command, arguments)
        return result.exit_code, result.output

    assert call(*start, "--steps", "2", "--batch-size", "2") == (0, "")
    summary = json.loads((out / "result.json").read_text())
    assert summary["trained_on"] == {"cells": 4, "frames": 12}
    assert summary["val"]["frames"] == 3
    assert "heat.bias" in read_weights(out / "result.npz")
    assert "holds a run" in call(*start)[1]
    assert call(*start, "--steps", "3", "--resume", "--workers", "1")[0] == 0
    assert json.loads((out / "config.json").read_text())["steps"] == 3
    assert json.loads((out / "result.json").read_text())["step"] == 3
    assert "is not for --task find" in call(*start, "--model", "grsnet")[1]
    second = tmp_path / "second"
    start[4] = str(second)
    last = ("--steps", "1", "--batch-size", "2")
    assert call(*start, *last, "--first", str(out)) == (0, "")
    start[4] = str(tmp_path / "other")
    shutil.copy(path, tmp_path / "result.npz")
    assert "not those of this finder" in call(*start, "--first", str(tmp_path))[1]
    assert "not the folder of a finished run" in call(*start, "--first", str(path))[1]
