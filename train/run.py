"""A training run: takes data, makes a folder with model, history and checkpoints."""

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecell.data.audit import Selection
from edgecell.data.dataset import CellFile, dataset_hash, split_of
from edgecell.data.manifest import manifest_rows, split_hash, write_manifest
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.model.kerasfile import read_keras_record
from edgecell.model.probabilities import softmax
from edgecell.train.config import TrainConfig
from edgecell.train.history import EpochResult, peak_memory_mb, read_history
from edgecell.train.keep import Keeper, best_epoch
from edgecell.train.kept import keep_for_conversion
from edgecell.train.networks.models import FIXED_SIZE, check_name
from edgecell.train.order import set_keys
from edgecell.train.prepare import Prepared, by_split, classes_learned, prepare
from edgecell.train.resume import checkpoints, list_again, restore_last
from edgecell.train.trainer import Trainer
from edgecell.train.weights import first_record

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)


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
        raise InputError(
            f"{path} is from another version of edgecell ({e}); start a new run"
        ) from e


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
        resume: continue from the last checkpoint in ``out``.
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

    check_settings(cfg)
    files = selection.kept
    parts = by_split(files)
    if resume:
        _check_resumable(out, files)
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
        keep_for_conversion(out, files)
    data = prepare(
        parts["train"], parts["val"], cfg, first.preprocessing if first else None
    )
    trainer = Trainer(
        cfg, data.prep, data.sets, strategy or tf.distribute.get_strategy()
    )
    history: list[EpochResult] = []
    if resume and writes:
        list_again(out / "checkpoints")
    with tempfile.TemporaryDirectory() as elsewhere:
        # All workers take part in saving, as some variables live on each; what
        # the others write is of no use.
        manager = tf.train.CheckpointManager(
            trainer.checkpoint,
            str(out / "checkpoints") if writes else elsewhere,
            max_to_keep=2,
        )
        if resume:
            restore_last(trainer.checkpoint, out / "checkpoints")
            history = read_history(out / "history.csv")[: int(trainer.epoch)]
        else:
            trainer.set_first_weights(data.images, data.sets)
        origin = _origin(selection, parts, cfg)
        keeper = Keeper(out, history, origin) if writes else None
        while int(trainer.epoch) < cfg.epochs:
            trainer.set_rate([h.val_loss for h in history])
            result, logits = run_epoch(trainer, data)
            history.append(result)
            if keeper:
                keeper.keep(trainer, history, logits, data.val_sets)
            manager.save()
    return best_epoch(history)


def check_settings(cfg: TrainConfig) -> None:
    """Checks that the networks exist and take the views of the settings.

    Raises:
        InputError: they don't.
        ModelError: the teacher is not a model of ours.
    """
    check_name(cfg.model)
    networks = [cfg.model]
    if cfg.teacher:
        networks.append(read_keras_record(Path(cfg.teacher)).network["name"])
    for name in networks:
        if name in FIXED_SIZE and cfg.small_epochs:
            raise InputError(f"{name} takes views of one size; give --small-epochs 0")


def _check_resumable(out: Path, files: Sequence[CellFile]) -> None:
    if not checkpoints(out / "checkpoints"):
        raise InputError(f"{out} has no checkpoint to resume from")
    if manifest_rows(out / "split.csv") != {(f.sha256, f.code, f.split) for f in files}:
        raise InputError(
            f"the data is not the data that the run in {out} started with (its "
            "split.csv lists it); give the same data, or start a new run"
        )


def _origin(
    selection: Selection, parts: dict[str, list[CellFile]], cfg: TrainConfig
) -> dict[str, Any]:
    """Where the weights come from, for the model's record."""
    files = selection.kept
    return {
        "data_sha256": dataset_hash(files),
        "split_sha256": split_hash(files),
        "own_split": has_own_split(selection),
        "sources": sorted({f.source for f in files}),
        "images": {k: len(v) for k, v in parts.items()},
        "learned": classes_learned(parts["train"]),
        "config": cfg.to_dict(),
    }


def has_own_split(selection: Selection) -> bool:
    """Whether a manifest is needed to know the split of an image.

    It does where a manifest gave the splits, and where an image was left out that
    would be validated or tested on by its content: a copy of a training image, say.
    """
    used = {f.sha256 for f in selection.kept}
    return any(f.split != split_of(f.sha256) for f in selection.kept) or any(
        x.file.split != "train" and x.file.sha256 not in used
        for x in selection.left_out
    )


def run_epoch(
    trainer: Trainer, data: Prepared
) -> tuple[EpochResult, npt.NDArray[np.float32]]:
    """Trains for an epoch and validates it.

    Returns:
        The figures, and the logits of the validation split, float32 (V, C).
    """
    epoch, began = int(trainer.epoch), time.monotonic()
    loss, accuracy = trainer.run_epoch(data.images, data.sets)
    logits, sets = trainer.logits(data.val_images), data.val_sets
    right = sets[np.arange(len(sets)), logits.argmax(1)]
    keys = set_keys(sets)
    recall = np.mean([right[keys == k].mean() for k in np.unique(keys)])
    result = EpochResult(
        epoch=epoch + 1,
        view_size=trainer.view_size(epoch),
        learning_rate=float(trainer.optimizer.learning_rate),
        loss=loss,
        accuracy=accuracy,
        val_loss=float(_losses(logits, sets).mean()),
        val_accuracy=float(right.mean()),
        val_macro_recall=float(recall),
        seconds=time.monotonic() - began,
        peak_memory_mb=peak_memory_mb(),
    )
    logger.info(
        "epoch %d/%d: loss %.3f, validation accuracy %.1f %%, macro recall %.1f %%",
        result.epoch,
        trainer.cfg.epochs,
        loss,
        100 * result.val_accuracy,
        100 * result.val_macro_recall,
    )
    return result, logits


def _losses(
    logits: npt.NDArray[np.float32], sets: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """-log of the probability that each cell is of one of its classes: float64 (N,)."""
    probabilities = (softmax(logits, 1.0) * sets).sum(1)
    return np.asarray(-np.log(np.maximum(probabilities, 1e-12)))
