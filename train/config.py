"""Settings of training runs."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edgecell.train.augment import AugmentConfig


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run.

    Attributes:
        model: name of a network preset.
        epochs: rounds of training, each followed by a validation.
        batch_size: images a step.
        schedule: 'cosine', from zero in ``warmup_epochs`` to the learning rate and
            back to zero along a cosine; or 'plateau', which divides the rate by ten
            when the validation loss has not improved for ten epochs.
        learning_rate: the highest.
        warmup_epochs: length of the linear rise.
        weight_decay: of AdamW.
        label_smoothing: share of a label that is spread over all classes.
        balance: classes are drawn in proportion to their size to the power of
            1 - balance: 0 as they come, 1 equally often.
        images_per_class: images an epoch, divided by the classes that are present;
            0 for as many as the training split has.
        ema: decay of the averaged weights, which are kept.
        small_epochs: the first epochs see smaller views, ``small_size`` pixels,
            which cost half (progressive resizing).
        small_size: side of those views.
        crop_fraction: side of the crop over the shorter side of a training image.
        margin: side of the stored image over the crop's, room to turn and shift;
            mirrored where the image ends before.
        seed: of weights, order and augmentation.
        init: where the weights start: 'random', 'imagenet' (EfficientNet-Lite0
            alone), a ``.keras`` file of the same network, a converted GRsNet, or
            'bundled'.
        teacher: a ``.keras`` file whose logits are learned beside the labels; '' for
            none. It sees the very views that the student sees (Beyer et al.,
            Knowledge Distillation: A Good Teacher Is Patient and Consistent, CVPR
            2022).
        distillation: share of the teacher in the loss, 0..1.
        distillation_temperature: divides both networks' logits before they are
            compared (Hinton et al., Distilling the Knowledge in a Neural Network,
            2015, section 2).
        augment: strengths of the augmentations.
    """

    model: str = "grsnet-lite"
    epochs: int = 20
    batch_size: int = 32
    schedule: Literal["cosine", "plateau"] = "cosine"
    learning_rate: float = 2e-3
    warmup_epochs: float = 0.5
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    balance: float = 0.5
    images_per_class: int = 0
    ema: float = 0.998
    small_epochs: int = 0
    small_size: int = 80
    crop_fraction: float = 0.66
    margin: float = 1.285
    seed: int = 1
    init: str = "random"
    teacher: str = ""
    distillation: float = 0.7
    distillation_temperature: float = 1.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise ValueError("epochs, batch_size and learning_rate must be positive")
        if self.schedule not in ("cosine", "plateau") or self.images_per_class < 0:
            raise ValueError("schedule must be cosine or plateau, sizes not negative")
        if not 0 <= self.small_epochs <= self.epochs:
            raise ValueError("small_epochs must be between 0 and epochs")
        if not (0 <= self.balance <= 1 and 0 <= self.ema < 1):
            raise ValueError("balance must be in [0, 1] and ema in [0, 1)")
        if not 0 <= self.distillation <= 1 or self.distillation_temperature <= 0:
            raise ValueError("distillation must be in [0, 1], its temperature above 0")
        if not 0 < self.crop_fraction <= 1 <= self.margin:
            raise ValueError("crop_fraction must be in (0, 1], margin at least 1")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "TrainConfig":
        """Inverse of `to_dict`; unknown keys are a TypeError."""
        return cls(**(d | {"augment": AugmentConfig(**d["augment"])}))


# The paper's recipe (its section on training): standardised images, classes balanced
# to 2,897 by augmentation and downsampling, random flips (0.5), rotation (factor
# 0.02), zoom (0.8 to 1.2), cross-entropy, Adam at 1e-4, a rate reduced on plateaus.
# Where it contradicts itself or is silent: a factor of 0.02 is 0.02 x 360 = 7.2
# degrees either way in Keras, not the 1.15 of its text; zoom is drawn from 1/1.2 to
# 1.2; the plateau's factor and patience are Keras' defaults; its dropout rate is not
# given, so a network's own is kept.
PAPER = TrainConfig(
    model="grsnet",
    schedule="plateau",
    learning_rate=1e-4,
    warmup_epochs=0.0,
    weight_decay=0.0,
    label_smoothing=0.0,
    balance=1.0,
    images_per_class=2897,
    ema=0.0,
    crop_fraction=1.0,
    margin=1.0,
    augment=AugmentConfig(
        rotation=0.02,
        zoom=0.2,
        shift=0.0,
        density=0.0,
        gain=0.0,
        offset=0.0,
        saturation=0.0,
        blur=0.0,
    ),
)

RECIPES = {"default": TrainConfig(), "paper": PAPER}
