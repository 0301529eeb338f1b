"""One network in training: its steps, its averaged weights, its checkpoint."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.classes import CODES
from edgecell.preprocess import Preprocessing, standardise
from edgecell.train.augment import augment
from edgecell.train.config import TrainConfig
from edgecell.train.network import PRESETS, build
from edgecell.train.order import epoch_order

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Trainer:
    """Trains one network, an epoch at a time.

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
            # Keras keeps dropout's random state where checkpoints don't look.
            dropout=[v.value for v in self.model.variables if "seed" in v.path],
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

    def final_model(self) -> "keras.Model":
        """The averaged network with its input size fixed, as converters want it."""
        model = build(PRESETS[self.cfg.model], len(CODES), self.prep.input_size)
        model.set_weights(self.averaged.get_weights())
        return model
