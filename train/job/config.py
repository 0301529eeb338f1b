"""Settings of jobs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from edgecell.train.job.fold import Fold
from edgecell.train.job.views import FAR, ViewConfig

UNSEEN: Mapping[str, Any] = {"views": FAR, "style": 0.5}
"""Settings for microscopes that are not among the sources."""


@dataclass(frozen=True)
class RunConfig:
    """Limits and rates of any job.

    Attributes:
        seconds: time that training may take, over all sittings; 0 for no limit.
        steps: batches after which it ends; 0 for no limit. One limit must be set, and
            the learning rate reaches 0 with the one that is reached first.
        batch_size: images a step.
        learning_rate: the highest.
        warmup: share of the run in which the rate rises from 0, along a line; then it
            falls to 0 along a cosine.
        weight_decay: of AdamW, on kernels alone.
        clip: largest norm of the gradient.
        ema: decay of the averaged weights, which are kept.
        seed: of weights, order and views.
        bf16: whether to compute in bfloat16 where PyTorch's autocast does.
        checkpoint_s: seconds between checkpoints.
        validate_s: seconds between validations.
    """

    seconds: float = 480.0
    steps: int = 0
    batch_size: int = 40
    learning_rate: float = 6e-4
    warmup: float = 0.04
    weight_decay: float = 0.01
    clip: float = 5.0
    ema: float = 0.998
    seed: int = 1
    bf16: bool = True
    checkpoint_s: float = 60.0
    validate_s: float = 120.0

    def __post_init__(self) -> None:
        if self.seconds < 0 or self.steps < 0 or not (self.seconds or self.steps):
            raise ValueError("a number of seconds or steps is needed")
        if self.batch_size < 1 or self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError("batch size, learning rate and clip must be positive")
        if not (0 <= self.warmup < 1 and 0 <= self.ema < 1):
            raise ValueError("warmup and ema must be in [0, 1)")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)


@dataclass(frozen=True)
class JobConfig(RunConfig):
    """Settings of the classifier's job.

    Attributes:
        model: name of a network; see `edgecell.train.networks.models.model_names`.
        first: what its first weights are, in words or a file's name.
        teacher: name of another network, which learns the same views beside it from
            the labels, and which it follows; '' for none.
        finished: folders of finished runs, whose networks it follows, too.
        teacher_weight: share of the teachers' probabilities in the loss.
        style: share of the images whose feature maps take on, in part, the style of
            another image's; see `StyleMix`.
        frozen: whether batch normalisation keeps the statistics of the first weights.
        smoothing: share of a label that is spread over all classes.
        attribute_weight: weight of the attributes' loss beside the classes'.
        balance: see `draw_weights`.
        shares: see `draw_weights`.
        exclude: sources that are neither trained nor validated on.
        fold: the part of a source to test by, in cross-validation; all its other cells
            are trained on. None without.
        views: strengths of the augmentations.
    """

    model: str = "grsnet-lite"
    first: str = "random"
    teacher: str = ""
    finished: tuple[str, ...] = ()
    teacher_weight: float = 0.5
    style: float = 0.0
    frozen: bool = False
    smoothing: float = 0.05
    attribute_weight: float = 1.0
    balance: float = 0.5
    shares: Mapping[str, float] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    fold: Fold | None = None
    views: ViewConfig = field(default_factory=ViewConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.smoothing < 1 and 0 <= self.balance <= 1):
            raise ValueError("smoothing must be in [0, 1), balance in [0, 1]")
        if not all(0 <= x <= 1 for x in (self.teacher_weight, self.style)):
            raise ValueError("the teachers' weight and style must be in [0, 1]")
        if self.frozen and self.first == JobConfig.first:
            raise ValueError("frozen statistics are those of first weights: name these")
        if self.fold and self.fold.source in self.exclude:
            raise ValueError(f"{self.fold.source} has a fold, but is left out")
        if self.attribute_weight < 0:
            raise ValueError("the attributes' weight must not be negative")

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        fold = str(self.fold) if self.fold else None
        return asdict(self) | {"shares": dict(self.shares), "fold": fold}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "JobConfig":
        """Inverse of `to_dict`; unknown keys are a TypeError."""
        read: dict[str, Any] = {
            "views": ViewConfig(**d["views"]),
            "exclude": tuple(d["exclude"]),
            "finished": tuple(d.get("finished", ())),
            "fold": Fold.parse(d["fold"]) if d.get("fold") else None,
        }
        return cls(**(d | read))
