"""A network small enough to train in a test."""

from edgecell.train.config import TrainConfig
from edgecell.train.networks.network import NetworkSpec, StageSpec

TINY = NetworkSpec(
    name="tiny",
    stem_width=8,
    stem_kernel=3,
    stem_pool=True,
    stages=(StageSpec(1, 16, 1), StageSpec(1, 24, 2)),
)

TINY_CONFIG = TrainConfig(model=TINY.name, epochs=3, small_epochs=1, batch_size=16)
