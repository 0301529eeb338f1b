"""What a run writes after each epoch: history, pictures, and the best model so far."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.classes import CLASSES, CODES
from edgecell.image.preprocess import Preprocessing
from edgecell.model.kerasfile import HEAD_LAYER, save_keras
from edgecell.model.modelfile import ModelRecord
from edgecell.model.probabilities import softmax
from edgecell.optional import require
from edgecell.plots import confusion_matrix, learning_curves, roc_curves
from edgecell.train.history import EpochResult, TensorBoardLog, write_history
from edgecell.train.networks.models import description
from edgecell.train.trainer import Trainer


def best_epoch(history: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the highest macro recall on the validation split."""
    # The later of equals: its weights were averaged for longer.
    return max(history, key=lambda h: (h.val_macro_recall, h.epoch))


class Keeper:
    """Writes the results of a run's epochs into its folder."""

    def __init__(
        self, out: Path, history: Sequence[EpochResult], training: dict[str, Any]
    ) -> None:
        """Begins or continues the TensorBoard log.

        Args:
            out: the run's folder.
            history: epochs of a run that is resumed.
            training: what the model's record says of its training, see `ModelRecord`.
        """
        self._out, self._training = out, training
        self._log = TensorBoardLog(out / "tensorboard", history)

    def keep(
        self,
        trainer: Trainer,
        history: Sequence[EpochResult],
        logits: npt.NDArray[np.float32],
        sets: npt.NDArray[np.bool_],
    ) -> None:
        """Writes the last epoch's results, and its model if it is the best so far.

        Args:
            trainer: with the weights of this epoch.
            history: all epochs up to this one.
            logits: float32 (V, C), of the validation split.
            sets: bool (V, C), the classes that its cells may belong to.
        """
        out, last = self._out, history[-1]
        if best_epoch(history) is last:
            model = trainer.final_model()
            record = self._record(trainer.prep, trainer.cfg.model, last, model)
            save_keras(model, out / "model.keras", record)
            draw_validation(logits, sets, out)
        # The model first: a run that ends between the two repeats an epoch.
        write_history(out / "history.csv", history)
        learning_curves([asdict(h) for h in history], out / "learning-curves.png")
        self._log.add(last)

    def _record(
        self, prep: Preprocessing, network: str, epoch: EpochResult, model: Any
    ) -> ModelRecord:
        bias = model.get_layer(HEAD_LAYER).get_weights()[1]
        metrics = {
            "accuracy": epoch.val_accuracy,
            "macro_recall": epoch.val_macro_recall,
        }
        return ModelRecord(
            classes=CLASSES,
            preprocessing=prep,
            network=description(network),
            head_bias=tuple(float(b) for b in bias),
            training=self._training | {"epoch": epoch.epoch},
            metrics={"val": metrics},
        )


def draw_validation(
    logits: npt.NDArray[np.float32], sets: npt.NDArray[np.bool_], out: Path
) -> None:
    """Draws confusion matrix and ROC curves of the validation split into a folder.

    Args:
        logits: float32 (V, C).
        sets: bool (V, C); cells that may belong to several classes are left out.
        out: the folder.
    """
    one = sets.sum(1) == 1
    if not one.any():
        return
    logits, y = logits[one], sets[one].argmax(1)
    metrics = require("sklearn.metrics", "train")
    every = list(range(len(CODES)))
    confusion = metrics.confusion_matrix(y, logits.argmax(1), labels=every)
    confusion_matrix(confusion, CODES, out / "confusion.png")
    roc_curves(y, softmax(logits, 1.0), CODES, out / "roc.png")
