"""How training is spread over devices and machines, with tf.distribute."""

import json
import os
from typing import TYPE_CHECKING

from edgecell.errors import InputError
from edgecell.optional import require

if TYPE_CHECKING:
    import tensorflow as tf


def open_strategy(name: str) -> tuple["tf.distribute.Strategy", bool]:
    """Opens a strategy; 'multiworker' waits for the other workers.

    Args:
        name: 'single' for one device, 'mirrored' for all of this machine, or
            'multiworker' for the machines that the environment variable TF_CONFIG
            names.

    Returns:
        The strategy, and whether this process writes the run's files: the first
        worker does.

    Raises:
        InputError: TF_CONFIG is missing or is not what TensorFlow expects.
    """
    tf = require("tensorflow", "train")
    if name == "single":
        return tf.distribute.get_strategy(), True
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(), True
    try:
        config = json.loads(os.environ["TF_CONFIG"])
        workers, index = config["cluster"]["worker"], int(config["task"]["index"])
        if config["task"]["type"] != "worker" or not 0 <= index < len(workers):
            raise ValueError("the task is not one of the workers")
    except (KeyError, TypeError, ValueError) as e:
        raise InputError(
            f"multiworker needs TF_CONFIG ({e!r}), such as TF_CONFIG='"
            '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}\', with another index on each '
            "machine"
        ) from e
    return tf.distribute.MultiWorkerMirroredStrategy(), index == 0
