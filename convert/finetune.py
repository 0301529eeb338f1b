"""Fine-tuning for what comes after: quantisation, pruning, clustering.

tensorflow-model-optimization knows legacy Keras alone, which a process has to choose
before it imports TensorFlow. So the work is done in a process of its own
(finetune_worker.py), which returns weights.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecell.data.dataset import CellFile, load_images
from edgecell.errors import InputError
from edgecell.model.modelfile import ModelRecord
from edgecell.optional import require
from edgecell.train.config import TrainConfig

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class FineTuning:
    """What a network is prepared for.

    Attributes:
        qat: simulate int8 while training (quantisation-aware training; Jacob et al.,
            CVPR 2018, section 3).
        prune: share of each kernel's weights that becomes zero, the smallest ones
            (Zhu, Gupta, To prune or not to prune, 2017); 0 for none.
        cluster: number of different values in each kernel (Han et al., Deep
            Compression, ICLR 2016, section 3); 0 for any.
        steps: training steps.
        batch_size: images a step.
        learning_rate: the highest; brought to zero along a cosine.
        seed: of order and views.
    """

    qat: bool = False
    prune: float = 0.0
    cluster: int = 0
    steps: int = 350
    batch_size: int = 32
    learning_rate: float = 1e-4
    seed: int = 1

    def __post_init__(self) -> None:
        if self.qat + (self.prune > 0) + (self.cluster > 0) != 1:
            raise ValueError("choose one of qat, prune and cluster")
        if not 0 <= self.prune < 1 or self.cluster < 0 or self.cluster == 1:
            raise ValueError("prune must be in [0, 1), cluster at least 2")

    @property
    def name(self) -> str:
        """Such as 'prune 0.5'."""
        if self.qat:
            return "qat"
        return f"prune {self.prune:g}" if self.prune else f"cluster {self.cluster}"


def fine_tune(
    model: "keras.Model",
    record: ModelRecord,
    files: Sequence[CellFile],
    tuning: FineTuning,
) -> None:
    """Fine-tunes a network in place, towards its own answers before.

    Args:
        model: a GRsNet.
        record: its record.
        files: images; those of the training split are used.
        tuning: for what, and how long.

    Raises:
        InputError: not a GRsNet, or no training images.
        MissingPackageError: tensorflow-model-optimization is not installed.
    """
    name = record.network["name"]
    if "stages" not in record.network:  # no `NetworkSpec`
        raise InputError(f"fine-tuning is for GRsNet; {name} can't be rebuilt for it")
    chosen = [f for f in files if f.split == "train"]
    if not chosen:
        raise InputError("the data has no training image to fine-tune on")
    _require_tools()
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        np.save(
            job / "images.npy",
            load_images(
                chosen, record.preprocessing, TrainConfig.margin, crops=record.crops
            ),
        )
        np.savez(job / "weights.npz", *model.get_weights())
        settings = {
            "network": record.network,
            "classes": len(record.classes),
            "preprocessing": asdict(record.preprocessing),
            "tuning": asdict(tuning),
        }
        (job / "job.json").write_text(json.dumps(settings))
        done = subprocess.run(
            [sys.executable, "-m", "edgecell.convert.finetune_worker", folder],
            env=os.environ | {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"fine-tuning ended with status {done.returncode}")
        with np.load(job / "tuned.npz") as tuned:
            model.set_weights([tuned[k] for k in tuned.files])


def _require_tools() -> None:
    # Not imported here: that would fix this process on legacy Keras.
    for module in ("tensorflow_model_optimization", "tf_keras"):
        if find_spec(module) is None:
            require(module, "qat")
