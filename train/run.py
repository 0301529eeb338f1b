"""A training run: data in, a folder with model, history and checkpoints out."""

import json
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.classes import CLASSES, CODES
from edgecell.data.audit import Selection
from edgecell.data.dataset import (
    CellFile,
    dataset_hash,
    decode,
    labels,
    load_images,
    split_of,
)
from edgecell.data.manifest import manifest_rows, split_hash, write_manifest
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.image.preprocess import Preprocessing
from edgecell.image.red_cells import red_cell_diameter
from edgecell.model.kerasfile import HEAD_LAYER, save_keras
from edgecell.model.modelfile import ModelRecord, read_keras_record
from edgecell.model.probabilities import softmax
from edgecell.optional import require
from edgecell.plots import confusion_matrix, learning_curves, roc_curves
from edgecell.train.config import TrainConfig
from edgecell.train.history import (
    EpochResult,
    TensorBoardLog,
    peak_memory_mb,
    read_history,
    write_history,
)
from edgecell.train.networks.models import FIXED_SIZE, description, model_names
from edgecell.train.trainer import Trainer
from edgecell.train.weights import first_record

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)

INPUT_SIZE = 112
WHITE_PERCENTILE = 95.0
WHITE_LEVEL = 240.0
SCALE_SAMPLE = 300
SCALE_TOLERANCE = 1.15


def by_split(files: Sequence[CellFile]) -> dict[str, list[CellFile]]:
    """Sorts images into train, val and test.

    Raises:
        InputError: train or val would be empty.
    """
    parts: dict[str, list[CellFile]] = {"train": [], "val": [], "test": []}
    for file in files:
        parts[file.split].append(file)
    if not parts["train"] or not parts["val"]:
        raise InputError(
            f"{len(files)} images are too few to train on: one in ten is kept for "
            "validation and two for testing"
        )
    return parts


def channel_statistics(
    images: npt.NDArray[np.uint8],
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation per channel over a set of images.

    Args:
        images: uint8 (N, H, W, 3), N >= 1.

    Returns:
        mean (3,) and std (3,), pixel units; std at least 1.
    """
    # Image by image: a float copy of the whole set would be eight times its size.
    sums = np.array([im.sum((0, 1), dtype=np.int64) for im in images]).sum(0)
    squares = np.array(
        [np.square(im, dtype=np.int64).sum((0, 1)) for im in images]
    ).sum(0)
    n = images.size // 3
    mean = sums / n
    std = np.maximum(np.sqrt(squares / n - mean**2), 1.0)
    r, g, b = (float(x) for x in mean)
    sr, sg, sb = (float(x) for x in std)
    return (r, g, b), (sr, sg, sb)


def crop_in_red_cells(files: Sequence[CellFile], crop_fraction: float) -> float:
    """Side of the training crop in red-cell diameters: the scale a camera must match.

    Args:
        files: training images: small fields around a cell.
        crop_fraction: side of the crop over an image's shorter side.

    Returns:
        Median over a sample of images in which red cells can be measured.

    Raises:
        InputError: in none of them, so a device could not know the scale.
    """
    sample = sorted(files, key=lambda f: f.sha256)[:SCALE_SAMPLE]
    ratios = []
    for file in sample:
        image = cv2.cvtColor(decode(file.data, file.name), cv2.COLOR_RGB2BGR)
        diameter = red_cell_diameter(np.asarray(image, np.uint8))
        if diameter:
            ratios.append(crop_fraction * min(image.shape[:2]) / diameter)
    if not ratios:
        raise InputError(
            "no red cells were found around the training cells, so the crop's scale "
            "is unknown; give images that show some of the field around each cell"
        )
    return float(np.median(ratios))


def _check_scale(crop_fraction: float, red_cells: float, first: Preprocessing) -> None:
    """Warns where cells would appear larger or smaller than to the first weights."""
    ratio = first.crop_red_cells / red_cells
    if abs(np.log(ratio)) > np.log(SCALE_TOLERANCE):
        crop = crop_fraction * ratio
        logger.warning(
            "cells fill %.2f times as much of a crop as where the first weights were "
            "trained; %s",
            ratio,
            f"--crop {crop:.2f} gives the same scale"
            if crop <= 1
            else "cut the images out wider around them",
        )


def _losses(
    logits: npt.NDArray[np.float32], y: npt.NDArray[np.int32]
) -> npt.NDArray[np.float64]:
    probabilities = softmax(logits, 1.0)[np.arange(len(y)), y]
    return -np.log(np.maximum(probabilities, 1e-12))


def best_epoch(history: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the highest macro recall on the validation split."""
    # The later of equals: its weights were averaged for longer.
    return max(history, key=lambda h: (h.val_macro_recall, h.epoch))


def has_own_split(selection: Selection) -> bool:
    """Whether it takes a manifest to know the split of an image.

    It does where a manifest gave the splits, and where an image was left out that
    would be validated or tested on by its content: a copy of a training image, say.
    """
    used = {f.sha256 for f in selection.kept}
    return any(f.split != split_of(f.sha256) for f in selection.kept) or any(
        x.file.split != "train" and x.file.sha256 not in used
        for x in selection.left_out
    )


def read_config(out: Path) -> TrainConfig:
    """The settings of a run.

    Raises:
        InputError: the folder holds no run, or one of another version.
    """
    path = out / "config.json"
    if not path.exists():
        raise InputError(f"{out} holds no run to resume")
    try:
        return TrainConfig.from_dict(json.loads(path.read_text()))
    except (ValueError, TypeError, KeyError) as e:
        raise InputError(f"{path} is not of this version ({e}); train anew") from e


def _same_data(path: Path, files: Sequence[CellFile]) -> bool:
    """Whether a run's manifest is of these images, labels and splits."""
    return manifest_rows(path) == {(f.sha256, f.code, f.split) for f in files}


def train(
    selection: Selection,
    cfg: TrainConfig,
    out: Path,
    resume: bool = False,
    strategy: "tf.distribute.Strategy | None" = None,
    writes: bool = True,
) -> EpochResult:
    """Trains a network and keeps the averaged weights of the best epoch.

    Args:
        selection: labelled images, and those that the audit left out; their content,
            or a manifest, decides their split.
        cfg: the settings.
        out: folder for ``model.keras``, ``history.csv``, ``split.csv``,
            ``config.json``, pictures, ``tensorboard/`` and ``checkpoints/``.
        resume: go on from the last checkpoint in ``out``.
        strategy: see `open_strategy`; None for one device.
        writes: whether this process writes the run's files.

    Returns:
        The epoch that ``model.keras`` holds: the one with the highest macro recall
        on the validation split.

    Raises:
        InputError: too few images, settings that don't go together, nothing to
            resume, or other data than the run began with.
    """
    import tensorflow as tf

    if cfg.model not in model_names():
        raise InputError(
            f"no network '{cfg.model}'; there are {', '.join(model_names())}"
        )
    networks = [cfg.model]
    if cfg.teacher:
        networks.append(read_keras_record(Path(cfg.teacher)).network["name"])
    for name in networks:
        if name in FIXED_SIZE and cfg.small_epochs:
            raise InputError(f"{name} takes views of one size; give --small-epochs 0")
    files = selection.kept
    parts = by_split(files)
    if resume and not (out / "checkpoints" / "checkpoint").exists():
        raise InputError(f"{out} has no checkpoint to resume from")
    if resume and not _same_data(out / "split.csv", files):
        raise InputError(
            f"the data are not those that the run in {out} began with (its split.csv "
            "names them); give the same, or start a new run"
        )
    # What a run began with may have gone, or be another version's, when it goes on.
    first = (
        read_keras_record(out / "model.keras")
        if resume
        else first_record(cfg.model, cfg.init)
    )
    if writes and not resume:
        left_out = [(x.file, x.reason) for x in selection.left_out]
        write_manifest(out / "split.csv", files, left_out)
        write_atomically(out / "config.json", json.dumps(cfg.to_dict(), indent=1))
    learned = Counter(f.code for f in parts["train"])
    if len(learned) < len(CODES):
        absent = ", ".join(code for code in CODES if code not in learned)
        logger.warning("no images of %s to train on: the model won't name them", absent)
    crop_red_cells = crop_in_red_cells(parts["train"], cfg.crop_fraction)
    prep = Preprocessing(
        INPUT_SIZE,
        cfg.crop_fraction,
        crop_red_cells,
        WHITE_PERCENTILE,
        WHITE_LEVEL,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
    images = load_images(parts["train"], prep, cfg.margin)
    y = labels(parts["train"])
    if first:
        # What the weights expect.
        mean, std = first.preprocessing.mean, first.preprocessing.std
        _check_scale(cfg.crop_fraction, crop_red_cells, first.preprocessing)
    else:
        mean, std = channel_statistics(images)
    prep = replace(prep, mean=mean, std=std)
    val_images, val_y = load_images(parts["val"], prep), labels(parts["val"])

    trainer = Trainer(cfg, prep, y, strategy or tf.distribute.get_strategy())
    history: list[EpochResult] = []
    with tempfile.TemporaryDirectory() as elsewhere:
        # All workers take part in saving, as some variables live on each; what
        # the others write is of no use.
        manager = tf.train.CheckpointManager(
            trainer.checkpoint,
            str(out / "checkpoints") if writes else elsewhere,
            max_to_keep=2,
        )
        if resume:
            path = tf.train.latest_checkpoint(str(out / "checkpoints"))
            trainer.checkpoint.restore(path).assert_existing_objects_matched()
            history = read_history(out / "history.csv")[: int(trainer.epoch)]
        else:
            trainer.set_first_weights(images, y)
        log = TensorBoardLog(out / "tensorboard", history) if writes else None
        data = {
            "data_sha256": dataset_hash(files),
            "split_sha256": split_hash(files),
            "own_split": has_own_split(selection),
            "sources": sorted({f.source for f in files}),
            "images": {k: len(v) for k, v in parts.items()},
            "learned": dict(sorted(learned.items())),
            "config": cfg.to_dict(),
        }
        while int(trainer.epoch) < cfg.epochs:
            epoch, began = int(trainer.epoch), time.monotonic()
            trainer.set_rate([h.val_loss for h in history])
            loss, accuracy = trainer.run_epoch(images, y)
            logits = trainer.logits(val_images)
            right = logits.argmax(1) == val_y
            recall = np.mean([right[val_y == c].mean() for c in np.unique(val_y)])
            result = EpochResult(
                epoch=epoch + 1,
                view_size=trainer.view_size(epoch),
                learning_rate=float(trainer.optimizer.learning_rate),
                loss=loss,
                accuracy=accuracy,
                val_loss=float(_losses(logits, val_y).mean()),
                val_accuracy=float(right.mean()),
                val_macro_recall=float(recall),
                seconds=time.monotonic() - began,
                peak_memory_mb=peak_memory_mb(),
            )
            history.append(result)
            logger.info(
                "epoch %d/%d: loss %.3f, validation accuracy %.1f %%, "
                "macro recall %.1f %%",
                epoch + 1,
                cfg.epochs,
                loss,
                100 * result.val_accuracy,
                100 * result.val_macro_recall,
            )
            if log:
                if best_epoch(history) is result:
                    model = trainer.final_model()
                    metrics = {
                        "accuracy": result.val_accuracy,
                        "macro_recall": result.val_macro_recall,
                    }
                    record = ModelRecord(
                        classes=CLASSES,
                        preprocessing=prep,
                        network=description(cfg.model),
                        head_bias=tuple(
                            float(b)
                            for b in model.get_layer(HEAD_LAYER).get_weights()[1]
                        ),
                        training=data | {"epoch": epoch + 1},
                        metrics={"val": metrics},
                    )
                    save_keras(model, out / "model.keras", record)
                    draw_validation(logits, val_y, out)
                # The model first: a run that ends between the two repeats an epoch.
                write_history(out / "history.csv", history)
                learning_curves(
                    [asdict(h) for h in history], out / "learning-curves.png"
                )
                log.add(result)
            manager.save()
    return best_epoch(history)


def draw_validation(
    logits: npt.NDArray[np.float32], y: npt.NDArray[np.int32], out: Path
) -> None:
    """Draws confusion matrix and ROC curves of the validation split into a folder."""
    metrics = require("sklearn.metrics", "train")
    every = list(range(len(CODES)))
    confusion = metrics.confusion_matrix(y, logits.argmax(1), labels=every)
    confusion_matrix(confusion, CODES, out / "confusion.png")
    roc_curves(y, softmax(logits, 1.0), CODES, out / "roc.png")
