"""One network in training: its steps, its averaged weights, its checkpoint."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.classes import CODES
from edgecell.image.preprocess import Preprocessing, standardise
from edgecell.train.augment import augment
from edgecell.train.config import TrainConfig
from edgecell.train.networks.models import FIXED_SIZE, build_model
from edgecell.train.order import epoch_order, set_keys
from edgecell.train.weights import load_teacher, set_first_weights

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

# Views that give a converted network its statistics back: some 500.
STATISTICS_BATCHES = 16
# Keras' defaults.
PLATEAU_FACTOR, PLATEAU_EPOCHS, PLATEAU_LEAST = 0.1, 10, 1e-4


def _standardised(x: "tf.Tensor", prep: Preprocessing) -> "tf.Tensor":
    """`standardise` for views inside the graph: uint8 to float32."""
    import tensorflow as tf

    mean, std = (np.array(v, np.float32) for v in (prep.mean, prep.std))
    return (tf.cast(x, tf.float32) - mean) / std


def partial_label_loss(
    logits: "tf.Tensor", sets: "tf.Tensor", smoothing: float
) -> "tf.Tensor":
    """-log of the probability that a cell is of one of its classes, smoothed.

    For sets of one class this is cross-entropy with label smoothing.

    Args:
        logits: float32 (N, C).
        sets: bool (N, C), at least one class in each row.
        smoothing: share of the label that is spread over all classes, in [0, 1).

    Returns:
        float32 (N,).
    """
    import tensorflow as tf

    log_p = tf.nn.log_softmax(logits)
    # The lowest float stands for a probability of 0: infinity has no gradient.
    inside = tf.reduce_logsumexp(tf.where(sets, log_p, log_p.dtype.min), 1)
    return -(1 - smoothing) * inside - smoothing * tf.reduce_mean(log_p, 1)


def plateau_rate(rate: float, val_losses: Sequence[float]) -> float:
    """The learning rate after some epochs, as Keras' ReduceLROnPlateau sets it.

    Args:
        rate: the first.
        val_losses: validation loss of each epoch so far.
    """
    best, waited = np.inf, 0
    for loss in val_losses:
        waited += 1
        if loss < best - PLATEAU_LEAST:
            best, waited = loss, 0
        elif waited == PLATEAU_EPOCHS:
            rate, waited = rate * PLATEAU_FACTOR, 0
    return rate


class Trainer:
    """Trains one network, an epoch at a time.

    Attributes:
        strategy: how the work is spread over devices and machines.
        model: the network being trained.
        averaged: exponential moving average of its weights (batch-normalisation
            statistics included), evaluated and kept.
        steps: batches an epoch.
    """

    def __init__(
        self,
        cfg: TrainConfig,
        prep: Preprocessing,
        sets: npt.NDArray[np.bool_],
        strategy: "tf.distribute.Strategy",
    ) -> None:
        """Makes the network.

        Args:
            cfg: the settings.
            prep: how an image becomes an input.
            sets: bool (N, C), the classes that each training image may belong to.
            strategy: how to spread the work; `tf.distribute.get_strategy()` for
                one device.
        """
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(cfg.seed)
        self.cfg, self.prep, self.strategy = cfg, prep, strategy
        present = len(np.unique(set_keys(sets)))
        self.epoch_images = cfg.images_per_class * present or len(sets)
        self.steps = max(1, self.epoch_images // cfg.batch_size)
        size = prep.input_size if cfg.model in FIXED_SIZE else None
        with strategy.scope():
            self.teacher = (
                load_teacher(Path(cfg.teacher), prep) if cfg.teacher else None
            )
            self.model = build_model(cfg.model, len(CODES), size)
            self.averaged = build_model(cfg.model, len(CODES), size)
            if strategy.num_replicas_in_sync > 1:
                # Statistics over the whole batch, as on one device.
                for layer in self.model.layers:
                    if isinstance(layer, keras.layers.BatchNormalization):
                        layer.synchronized = True
            # Each replica clips its share of a gradient, before they are summed: where
            # clipping sets in, several replicas are not bit for bit one device.
            self.optimizer = keras.optimizers.AdamW(
                self._rate(), weight_decay=cfg.weight_decay, clipnorm=5.0
            )
            # Decay shrinks kernels; biases and batch-normalisation parameters are
            # few and have no reason to be small.
            self.optimizer.exclude_from_weight_decay(
                var_names=["bias", "gamma", "beta"]
            )
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
        self.step = tf.function(self._train_step, reduce_retracing=True)
        self._forward = tf.function(
            lambda x: self.averaged(x, training=False), reduce_retracing=True
        )

    def set_first_weights(
        self, images: npt.NDArray[np.uint8], sets: npt.NDArray[np.bool_]
    ) -> None:
        """Sets the weights that ``init`` names; without it they are random.

        A run begins with this, or with the checkpoint of another.

        Args:
            images: uint8 (N, M, M, 3).
            sets: bool (N, C).

        Raises: see `edgecell.train.weights.set_first_weights`.
        """
        batches = islice(self.batches(images, sets, 0), STATISTICS_BATCHES)
        views = (_standardised(x, self.prep) for x, _ in batches)
        with self.strategy.scope():
            set_first_weights(self.model, self.cfg.init, self.prep, views)
            self.averaged.set_weights(self.model.get_weights())

    def _rate(self) -> Any:
        import keras

        cfg = self.cfg
        if cfg.schedule == "plateau":
            return cfg.learning_rate
        warmup = max(1, round(cfg.warmup_epochs * self.steps))
        return keras.optimizers.schedules.CosineDecay(
            0.0,
            max(1, cfg.epochs * self.steps - warmup),
            warmup_target=cfg.learning_rate,
            warmup_steps=warmup,
        )

    def _replica_step(
        self, x: "tf.Tensor", sets: "tf.Tensor"
    ) -> tuple["tf.Tensor", "tf.Tensor"]:
        """One replica's share of a batch: sums of loss and right answers."""
        import tensorflow as tf

        cfg = self.cfg
        with tf.GradientTape() as tape:
            logits = self.model(_standardised(x, self.prep), training=True)
            loss = partial_label_loss(logits, sets, cfg.label_smoothing)
            if self.teacher:
                network, prep = self.teacher
                t = cfg.distillation_temperature
                soft = tf.nn.softmax(
                    network(_standardised(x, prep), training=False) / t
                )
                taught = tf.nn.softmax_cross_entropy_with_logits(soft, logits / t)
                # t^2 keeps the gradients' size whatever the temperature.
                loss += cfg.distillation * (t**2 * taught - loss)
            # Replicas' gradients are summed by the optimizer.
            mean = tf.reduce_sum(loss) / cfg.batch_size
        variables = self.model.trainable_variables
        self.optimizer.apply(tape.gradient(mean, variables), variables)
        right = tf.gather(sets, tf.argmax(logits, 1), axis=1, batch_dims=1)
        return tf.reduce_sum(loss), tf.reduce_sum(tf.cast(right, tf.float32))

    def _train_step(
        self, x: "tf.Tensor", sets: "tf.Tensor"
    ) -> tuple["tf.Tensor", "tf.Tensor"]:
        """One batch on all replicas: sums of loss and right answers."""
        import tensorflow as tf

        loss, right = (
            self.strategy.reduce("SUM", sums, axis=None)
            for sums in self.strategy.run(self._replica_step, (x, sets))
        )
        # A short memory at the start: early weights are worth forgetting.
        step = tf.cast(self.optimizer.iterations, tf.float32)
        keep = tf.minimum(self.cfg.ema, (1 + step) / (10 + step))
        for average, value in zip(
            self.averaged.variables, self.model.variables, strict=True
        ):
            if average.dtype == "float32":
                average.assign(keep * average + (1 - keep) * value)
        return loss, right

    def set_rate(self, val_losses: Sequence[float]) -> None:
        """Sets an epoch's learning rate where the past decides it.

        Args:
            val_losses: validation loss of each epoch so far.
        """
        if self.cfg.schedule == "plateau":
            self.optimizer.learning_rate = plateau_rate(
                self.cfg.learning_rate, val_losses
            )

    def view_size(self, epoch: int) -> int:
        """Side of the views in an epoch, pixels."""
        small = epoch < self.cfg.small_epochs
        return self.cfg.small_size if small else self.prep.input_size

    def batches(
        self, images: npt.NDArray[np.uint8], sets: npt.NDArray[np.bool_], epoch: int
    ) -> "tf.data.Dataset":
        """Augmented batches of one epoch.

        Args:
            images: uint8 (N, M, M, 3).
            sets: bool (N, C).
            epoch: number of the epoch.

        Returns:
            A dataset of (uint8 (B, S, S, 3), bool (B, C)).
        """
        import tensorflow as tf

        cfg, size = self.cfg, self.view_size(epoch)
        keys = set_keys(sets)
        order = epoch_order(keys, cfg.balance, self.epoch_images, cfg.seed, epoch)

        def views() -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]:
            scale = self.prep.input_size / size
            for step in range(self.steps):
                chosen = order[step * cfg.batch_size : (step + 1) * cfg.batch_size]
                seed = (cfg.seed, epoch, step)
                drawn = augment(images[chosen], size, scale, seed, cfg.augment)
                yield drawn, sets[chosen]

        return tf.data.Dataset.from_generator(
            views,
            output_signature=(
                tf.TensorSpec((None, size, size, 3), tf.uint8),
                tf.TensorSpec((None, len(CODES)), tf.bool),
            ),
        ).prefetch(2)

    def run_epoch(
        self, images: npt.NDArray[np.uint8], sets: npt.NDArray[np.bool_]
    ) -> tuple[float, float]:
        """Trains one epoch.

        Returns:
            Mean loss and training accuracy (on augmented views, weights moving).
        """
        epoch = int(self.epoch)
        name = f"epoch {epoch + 1}/{self.cfg.epochs}"
        batches = self.batches(images, sets, epoch)
        loss_sum = right_sum = 0.0
        seen = 0
        with tqdm(batches, name, self.steps, disable=None, leave=False) as progress:
            for x, label in progress:
                loss, right = self.step(*self._shares(x, label))
                loss_sum += float(loss)
                right_sum += float(right)
                seen += len(label)
                progress.set_postfix(loss=f"{loss_sum / seen:.3f}")
        self.epoch.assign_add(1)
        return loss_sum / seen, right_sum / seen

    def _shares(self, *batch: "tf.Tensor") -> tuple[Any, ...]:
        """A batch dealt out to the replicas."""
        if self.strategy.num_replicas_in_sync == 1:
            return batch
        return tuple(
            self.strategy.experimental_distribute_values_from_function(
                lambda replica, x=x: x[
                    replica.replica_id_in_sync_group :: replica.num_replicas_in_sync
                ]
            )
            for x in batch
        )

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
        model = build_model(self.cfg.model, len(CODES), self.prep.input_size)
        model.set_weights(self.averaged.get_weights())
        return model
