"""What a training run is made of."""

from dataclasses import asdict, dataclass, field
from typing import Any

from edgecell.train.augment import AugmentConfig


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        model: name of a network preset.
        epochs: passes over as many images as the training split has.
        batch_size: images a step.
        learning_rate: peak of the schedule, reached after ``warmup_epochs`` and
            then brought to zero along a cosine.
        warmup_epochs: length of the linear rise.
        weight_decay: of AdamW.
        label_smoothing: share of a label that is spread over all classes.
        balance: classes are drawn in proportion to their size to the power of
            1 - balance: 0 as they come, 1 equally often.
        ema: decay of the averaged weights, which are the ones that are kept.
        small_epochs: the first epochs see smaller views, ``small_size`` pixels,
            which cost half (progressive resizing).
        small_size: side of those views.
        crop_fraction: side of the crop over the shorter side of a training image.
        margin: side of the stored image over the crop's, room to turn and shift.
        seed: of weights, order and augmentation.
        augment: strengths of the augmentations.
    """

    model: str = "grsnet-lite"
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 2e-3
    warmup_epochs: float = 0.5
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    balance: float = 0.5
    ema: float = 0.998
    small_epochs: int = 0
    small_size: int = 80
    crop_fraction: float = 0.66
    margin: float = 1.285
    seed: int = 1
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise ValueError("epochs, batch_size and learning_rate must be positive")
        if not 0 <= self.small_epochs <= self.epochs:
            raise ValueError("small_epochs must be between 0 and epochs")
        if not (0 <= self.balance <= 1 and 0 <= self.ema < 1):
            raise ValueError("balance must be in [0, 1] and ema in [0, 1)")
        if self.margin < 1 or not 0 < self.crop_fraction * self.margin <= 1:
            raise ValueError("crop_fraction * margin must be in (0, 1], margin >= 1")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "TrainConfig":
        """Inverse of `to_dict`; unknown keys are a TypeError."""
        return cls(**(d | {"augment": AugmentConfig(**d["augment"])}))
