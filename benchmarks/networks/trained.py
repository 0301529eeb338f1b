"""How much a network was trained: what its figures must not be read without."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Trained:
    """How a network was trained.

    Attributes:
        sources: images in training, by source.
        views: random views of them that the network saw, all steps together.
        seconds: wall time of the training.
        device: the machine, in words.
        start: first weights, in words.
    """

    sources: Mapping[str, int]
    views: int
    seconds: float
    device: str
    start: str

    def to_dict(self) -> dict[str, Any]:
        """Returns a JSON-ready copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "Trained":
        """Inverse of `to_dict`; other keys than its own are a TypeError."""
        return cls(**d)

    @property
    def time(self) -> str:
        """The time in words: '3 min 47 s'."""
        minutes, seconds = divmod(round(self.seconds), 60)
        hours, minutes = divmod(minutes, 60)
        if hours:
            return f"{hours} h {minutes} min"
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
