"""Converts a finished finder's job to the file that devices run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.convert.export import QuantScheme, exported, to_tflite
from edgecell.convert.verify import prove
from edgecell.data.frame_pack import PackedFrame, read_packed_frames
from edgecell.edge.find.finder import FinderRecord, levels_by_glass, write_finder
from edgecell.errors import InputError
from edgecell.image.preprocess import Bgr
from edgecell.image.red_cells import glass_colour
from edgecell.image.resizing import shrink
from edgecell.optional import require
from edgecell.train.job.files import SUMMARY, read_weights
from edgecell.train.networks.finder import HEADS, FinderSpec, build_finder
from edgecell.train.networks.keras_weights import set_keras_weights

INT8 = QuantScheme("int8", "int8")
_HEIGHT, _WIDTH = 192, 256
"""A frame of 640x480 at working size: what the graph's tensors are planned for; the
runtime takes other shapes, too."""

_CALIBRATION = 160


def convert_finder(run: Path, packs: Sequence[Path], out: Path) -> FinderRecord:
    """Quantises a finder and writes it with its record.

    Args:
        run: folder of a finished job.
        packs: what it was trained on; frames of its training split set the ranges.
        out: the ``.tflite`` to write.

    Raises:
        InputError: the job is not finished, or is not a finder's; or the packs hold no
            frames to train on.
        ModelError: what came out is not int8 throughout.
        OutputError: ``out`` can't be written.
    """
    summary = _summary(run)
    config = summary["config"]
    record = FinderRecord(
        network={"name": "finder"} | config["spec"],
        least_scores=tuple(summary["val"]["least_scores"]),
        side=config["side"],
        glass=config["glass"],
        middle=config["middle"],
        spread=config["spread"],
        training={
            key: summary[key]
            for key in ("trained_on", "images", "seconds", "step", "device", "config")
        },
        metrics={"val": summary["val"]},
        calibration_set={"frames": _CALIBRATION},
    )
    frames = [
        frame
        for frame in read_packed_frames(packs)
        if frame.whole and frame.split == "train"
    ]
    if not frames:
        raise InputError("the packs hold no frames that a finder was trained on")
    spec = FinderSpec(tuple(config["spec"]["widths"]), config["spec"]["blocks"])
    flatbuffer = quantised(
        spec, read_weights(run / "result.npz"), calibration(frames, record)
    )
    write_finder(out, flatbuffer, record)
    return record


def is_finder(run: Path) -> bool:
    """Whether a folder holds a finder's finished job."""
    try:
        _summary(run)
    except InputError:
        return False
    return True


def _summary(run: Path) -> dict[str, Any]:
    path = run / SUMMARY
    try:
        summary = json.loads(path.read_text())
        if "least_scores" not in summary["val"]:
            raise ValueError("it is a classifier's")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{run} holds no finished job of a finder ({e})") from e
    return dict(summary)


def calibration(
    frames: Sequence[PackedFrame], record: FinderRecord
) -> npt.NDArray[np.float32]:
    """Standardised frames, some of the given ones, and the range that inputs can have.

    Returns:
        float32 (N, 192, 256, 3).
    """
    drawn = np.random.default_rng(0).permutation(len(frames))[:_CALIBRATION]
    images = np.full((len(drawn), _HEIGHT, _WIDTH, 3), record.glass, np.float32)
    for place, index in enumerate(drawn):
        image = frames[index].decoded()
        small = Bgr(shrink(image, min(1.0, record.side / max(image.shape[:2]))))
        table = levels_by_glass(glass_colour(small), record.glass)
        channels = np.arange(3)
        levels = table[small, channels][:_HEIGHT, :_WIDTH, ::-1]
        images[place, : levels.shape[0], : levels.shape[1]] = levels
    images[0, 0, :2] = [[0.0], [255.0]]
    return (images - np.float32(record.middle)) / np.float32(record.spread)


def quantised(
    spec: FinderSpec,
    weights: dict[str, npt.NDArray[Any]],
    images: npt.NDArray[np.float32],
) -> bytes:
    """The int8 graph of a finder.

    Args:
        spec: the network.
        weights: see `edgecell.train.find.network.finder_weights`.
        images: float32 (N, H, W, 3), standardised, that set the ranges.

    Raises:
        InputError: the weights are another network's.
        ModelError: it is not int8 throughout.
    """
    keras = require("keras", "train")
    network = build_finder(spec, *images.shape[1:3])
    set_keras_weights(network, weights, dict(zip(HEADS, HEADS, strict=True)))
    image = keras.Input(images.shape[1:], batch_size=1, name="image")
    with exported(keras.Model(image, network(image))) as saved:
        flatbuffer = to_tflite(saved, INT8, images)
    prove(flatbuffer, INT8)
    return flatbuffer
