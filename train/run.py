"""A training run: data in, a folder with model, history and checkpoints out."""

import csv
import io
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.classes import CLASSES, CODES
from edgecell.dataset import (
    CellFile,
    dataset_hash,
    labels,
    load_images,
)
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.modelfile import ModelRecord
from edgecell.preprocess import Preprocessing, standardise
from edgecell.train.augment import augment
from edgecell.train.config import TrainConfig
from edgecell.train.kerasfile import save_keras
from edgecell.train.network import HEAD_LAYER, PRESETS, build
from edgecell.train.order import epoch_order

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

logger = logging.getLogger(__name__)

INPUT_SIZE = 112
WHITE_PERCENTILE = 95.0
WHITE_LEVEL = 240.0


@dataclass(frozen=True)
class EpochResult:
    """One row of history.csv."""

    epoch: int
    view_size: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float
    val_macro_recall: float
    seconds: float


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


class Trainer:
    """Trains one network; `train` is the way in.

    Attributes:
        model: the network being trained.
        averaged: exponential moving average of its weights (batch-normalisation
            statistics included), evaluated and kept.
    """

    def __init__(
        self, cfg: TrainConfig, prep: Preprocessing, steps_per_epoch: int
    ) -> None:
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(cfg.seed)
        self.cfg, self.prep, self.steps = cfg, prep, steps_per_epoch
        self.model = build(PRESETS[cfg.model], len(CODES), None)
        self.averaged = build(PRESETS[cfg.model], len(CODES), None)
        self.averaged.set_weights(self.model.get_weights())
        total = cfg.epochs * steps_per_epoch
        warmup = max(1, round(cfg.warmup_epochs * steps_per_epoch))
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, total - warmup),
            warmup_target=cfg.learning_rate,
            warmup_steps=warmup,
        )
        self.optimizer = keras.optimizers.AdamW(
            schedule, weight_decay=cfg.weight_decay, clipnorm=5.0
        )
        # Decay shrinks kernels; biases and batch-normalisation parameters are
        # few and have no reason to be small.
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(self.model.trainable_variables)
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self.checkpoint = tf.train.Checkpoint(
            model=self.model,
            averaged=self.averaged,
            optimizer=self.optimizer,
            epoch=self.epoch,
        )
        self._step = tf.function(self._train_step, reduce_retracing=True)
        self._forward = tf.function(
            lambda x: self.averaged(x, training=False), reduce_retracing=True
        )

    def _train_step(
        self, x: "tf.Tensor", y: "tf.Tensor"
    ) -> tuple["tf.Tensor", "tf.Tensor"]:
        import tensorflow as tf

        smooth = self.cfg.label_smoothing
        target = tf.one_hot(y, len(CODES)) * (1 - smooth) + smooth / len(CODES)
        with tf.GradientTape() as tape:
            logits = self.model(x, training=True)
            loss = tf.reduce_mean(
                tf.nn.softmax_cross_entropy_with_logits(target, logits)
            )
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        # A short memory at the start: early weights are worth forgetting.
        step = tf.cast(self.optimizer.iterations, tf.float32)
        keep = tf.minimum(self.cfg.ema, (1 + step) / (10 + step))
        for average, value in zip(
            self.averaged.variables, self.model.variables, strict=True
        ):
            if average.dtype == "float32":
                average.assign(keep * average + (1 - keep) * value)
        right = tf.equal(tf.argmax(logits, 1, tf.int32), y)
        return loss, tf.reduce_mean(tf.cast(right, tf.float32))

    def view_size(self, epoch: int) -> int:
        """Side of the views in an epoch, pixels."""
        small = epoch < self.cfg.small_epochs
        return self.cfg.small_size if small else self.prep.input_size

    def batches(
        self, images: npt.NDArray[np.uint8], y: npt.NDArray[np.int32], epoch: int
    ) -> "tf.data.Dataset":
        """Augmented, standardised batches of one epoch.

        Args:
            images: uint8 (N, M, M, 3).
            y: int32 (N,).
            epoch: number of the epoch.

        Returns:
            A dataset of (float32 (B, S, S, 3), int32 (B,)).
        """
        import tensorflow as tf

        cfg, size = self.cfg, self.view_size(epoch)
        order = epoch_order(y, cfg.balance, cfg.seed, epoch)

        def gather() -> Any:
            for step in range(self.steps):
                chosen = order[step * cfg.batch_size : (step + 1) * cfg.batch_size]
                yield images[chosen], y[chosen], np.int32(step)

        mean, std = (np.array(v, np.float32) for v in (self.prep.mean, self.prep.std))

        def view(x: tf.Tensor, label: tf.Tensor, step: tf.Tensor) -> Any:
            seed = tf.stack([cfg.seed, epoch * self.steps + step])
            scale = self.prep.input_size / size
            return (augment(x, size, scale, seed, cfg.augment) - mean) / std, label

        side = images.shape[1]
        return (
            tf.data.Dataset.from_generator(
                gather,
                output_signature=(
                    tf.TensorSpec((None, side, side, 3), tf.uint8),
                    tf.TensorSpec((None,), tf.int32),
                    tf.TensorSpec((), tf.int32),
                ),
            )
            .map(view)
            .prefetch(2)
        )

    def run_epoch(
        self, images: npt.NDArray[np.uint8], y: npt.NDArray[np.int32]
    ) -> tuple[float, float]:
        """Trains one epoch.

        Returns:
            Mean loss and training accuracy (on augmented views, weights moving).
        """
        epoch = int(self.epoch)
        name = f"epoch {epoch + 1}/{self.cfg.epochs}"
        batches = self.batches(images, y, epoch)
        loss_sum = right_sum = 0.0
        with tqdm(batches, name, self.steps, disable=None, leave=False) as progress:
            for i, (x, label) in enumerate(progress):
                loss, right = self._step(x, label)
                loss_sum += float(loss)
                right_sum += float(right)
                progress.set_postfix(loss=f"{loss_sum / (i + 1):.3f}")
        self.epoch.assign_add(1)
        return loss_sum / self.steps, right_sum / self.steps

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of the averaged weights.

        Args:
            images: uint8 (N, S, S, 3), cropped to the input size.

        Returns:
            float32 (N, C).
        """
        parts = [
            self._forward(standardise(images[i : i + 64], self.prep)).numpy()
            for i in range(0, len(images), 64)
        ]
        return np.concatenate(parts)


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


def _final_model(trainer: Trainer) -> "keras.Model":
    """The averaged network with its input size fixed, as converters want it."""
    spec = PRESETS[trainer.cfg.model]
    model = build(spec, len(CODES), trainer.prep.input_size)
    model.set_weights(trainer.averaged.get_weights())
    return model


def train(
    files: Sequence[CellFile],
    cfg: TrainConfig,
    out: Path,
    crop_red_cells: float,
    resume: bool = False,
) -> Path:
    """Trains a network and keeps the averaged weights of the best epoch.

    Args:
        files: labelled images; their content decides their split.
        cfg: the settings.
        out: folder for ``model.keras``, ``history.csv``, ``split.csv``,
            ``config.json`` and ``checkpoints/``.
        crop_red_cells: side of the crop in red-cell diameters.
        resume: go on from the last checkpoint in ``out``.

    Returns:
        Path of ``model.keras``: the epoch with the highest macro recall on the
        validation split.

    Raises:
        InputError: too few images, or nothing to resume.
    """
    import tensorflow as tf

    if cfg.model not in PRESETS:
        raise InputError(f"no network '{cfg.model}'; there are {', '.join(PRESETS)}")
    parts = by_split(files)
    write_manifest(out / "split.csv", files)
    write_atomically(out / "config.json", json.dumps(cfg.to_dict(), indent=1))
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
    best = max((h.val_macro_recall for h in history), default=-1.0)
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
        if val_recall >= best:
            best = val_recall
            model = _final_model(trainer)
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
    return out / "model.keras"


def write_history(path: Path, history: Sequence[EpochResult]) -> None:
    """Writes one CSV row an epoch."""
    text = io.StringIO()
    names = list(EpochResult.__dataclass_fields__)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(h) for h in history)
    write_atomically(path, text.getvalue())


def read_history(path: Path) -> list[EpochResult]:
    """Reads what `write_history` wrote."""
    with path.open() as f:
        rows = list(csv.DictReader(f))
    types = {k: f.type for k, f in EpochResult.__dataclass_fields__.items()}
    return [
        EpochResult(**{k: types[k](v) for k, v in row.items()})  # type: ignore[operator]
        for row in rows
    ]
