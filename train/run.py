"""A training run: data in, a folder with model, history and checkpoints out."""

import csv
import io
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.classes import CLASSES
from edgecell.dataset import CellFile, dataset_hash, decode, labels, load_images
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.kerasfile import HEAD_LAYER, save_keras
from edgecell.modelfile import ModelRecord
from edgecell.preprocess import Preprocessing
from edgecell.red_cells import red_cell_diameter
from edgecell.train.config import TrainConfig
from edgecell.train.history import EpochResult, read_history, write_history
from edgecell.train.network import PRESETS
from edgecell.train.trainer import Trainer

logger = logging.getLogger(__name__)

INPUT_SIZE = 112
WHITE_PERCENTILE = 95.0
WHITE_LEVEL = 240.0
SCALE_SAMPLE = 300


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


def write_manifest(path: Path, files: Sequence[CellFile]) -> None:
    """Writes which image is in which split: CSV with sha256, class, source, split."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("sha256", "class", "source", "split", "name"))
    for f in sorted(files, key=lambda f: f.sha256):
        writer.writerow((f.sha256, f.code, f.source, f.split, f.name))
    write_atomically(path, text.getvalue())


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


def _validate(
    trainer: Trainer, images: npt.NDArray[np.uint8], y: npt.NDArray[np.int32]
) -> tuple[float, float, float]:
    logits = trainer.logits(images).astype(np.float64)
    peak = logits.max(1, keepdims=True)
    log_p = logits - peak - np.log(np.exp(logits - peak).sum(1, keepdims=True))
    loss = -log_p[np.arange(len(y)), y].mean()
    right = logits.argmax(1) == y
    recall = np.mean([right[y == c].mean() for c in np.unique(y)])
    return float(loss), float(right.mean()), float(recall)


def train(
    files: Sequence[CellFile],
    cfg: TrainConfig,
    out: Path,
    resume: bool = False,
) -> EpochResult:
    """Trains a network and keeps the averaged weights of the best epoch.

    Args:
        files: labelled images; their content decides their split.
        cfg: the settings.
        out: folder for ``model.keras``, ``history.csv``, ``split.csv``,
            ``config.json`` and ``checkpoints/``.
        resume: go on from the last checkpoint in ``out``.

    Returns:
        The epoch that ``model.keras`` holds: the one with the highest macro recall
        on the validation split.

    Raises:
        InputError: too few images, or nothing to resume.
    """
    import tensorflow as tf

    if cfg.model not in PRESETS:
        raise InputError(f"no network '{cfg.model}'; there are {', '.join(PRESETS)}")
    parts = by_split(files)
    write_manifest(out / "split.csv", files)
    write_atomically(out / "config.json", json.dumps(cfg.to_dict(), indent=1))
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
    mean, std = channel_statistics(images)
    prep = replace(prep, mean=mean, std=std)
    val_images, val_y = load_images(parts["val"], prep), labels(parts["val"])

    trainer = Trainer(cfg, prep, steps_per_epoch=max(1, len(y) // cfg.batch_size))
    manager = tf.train.CheckpointManager(
        trainer.checkpoint, str(out / "checkpoints"), max_to_keep=2
    )
    history: list[EpochResult] = []
    if resume:
        if manager.latest_checkpoint is None:
            raise InputError(f"{out} has no checkpoint to resume from")
        trainer.checkpoint.restore(manager.latest_checkpoint)
        history = read_history(out / "history.csv")[: int(trainer.epoch)]
    best = max(history, key=lambda h: h.val_macro_recall, default=None)
    data = {
        "data_sha256": dataset_hash(files),
        "sources": sorted({f.source for f in files}),
        "images": {k: len(v) for k, v in parts.items()},
        "config": cfg.to_dict(),
    }
    while int(trainer.epoch) < cfg.epochs:
        epoch, start = int(trainer.epoch), time.monotonic()
        loss, accuracy = trainer.run_epoch(images, y)
        val_loss, val_accuracy, val_recall = _validate(trainer, val_images, val_y)
        history.append(
            EpochResult(
                epoch + 1,
                trainer.view_size(epoch),
                float(trainer.optimizer.learning_rate),
                loss,
                accuracy,
                val_loss,
                val_accuracy,
                val_recall,
                time.monotonic() - start,
            )
        )
        logger.info(
            "epoch %d/%d: loss %.3f, validation accuracy %.1f %%, macro recall %.1f %%",
            epoch + 1,
            cfg.epochs,
            loss,
            100 * val_accuracy,
            100 * val_recall,
        )
        if best is None or val_recall >= best.val_macro_recall:
            best = history[-1]
            model = trainer.final_model()
            record = ModelRecord(
                classes=CLASSES,
                preprocessing=prep,
                network=PRESETS[cfg.model].to_dict(),
                head_bias=tuple(
                    float(b) for b in model.get_layer(HEAD_LAYER).get_weights()[1]
                ),
                training=data | {"epoch": epoch + 1},
                metrics={"val": {"accuracy": val_accuracy, "macro_recall": val_recall}},
            )
            save_keras(model, out / "model.keras", record)
        # The model first: a run that ends between the two repeats an epoch.
        write_history(out / "history.csv", history)
        manager.save()
    assert best is not None  # cfg.epochs >= 1
    return best
