"""Where a run's weights start, and the teacher it learns from."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edgecell.classes import CODES
from edgecell.errors import InputError
from edgecell.image.preprocess import Preprocessing
from edgecell.model.kerasfile import load_keras, read_keras_record
from edgecell.model.modelfile import (
    ModelRecord,
    read_tflite,
    resolve,
)
from edgecell.train.networks.imagenet import imagenet_weights, load_imagenet
from edgecell.train.networks.models import FIXED_SIZE, build_model
from edgecell.train.networks.network import PRESETS
from edgecell.train.networks.readback import load_tflite

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

KERAS = ".keras"
IMAGENET = "imagenet"
RANDOM = "random"
IMAGENET_MODEL = "efficientnet-lite0"


def first_record(name: str, init: str) -> ModelRecord | None:
    """The record of the file that gives the first weights; None if none does.

    Args:
        name: which network they are for.
        init: see `TrainConfig`.

    Raises:
        InputError: the weights are another network's, or can't be read back.
        ModelError: there is no such file, or it is none of ours.
    """
    if init == IMAGENET and name != IMAGENET_MODEL:
        raise InputError(
            f"ImageNet weights exist only for {IMAGENET_MODEL}, not for {name}"
        )
    if init in (RANDOM, IMAGENET):
        return None
    path = resolve(init)
    trained = path.suffix == KERAS
    record = read_keras_record(path) if trained else read_tflite(path)[1]
    if record.network["name"] != name or record.codes != CODES:
        raise InputError(
            f"{init} holds {record.network['name']} with {len(record.classes)} "
            f"classes, not {name} with {len(CODES)}; --init needs the same network"
        )
    if not trained and name not in PRESETS:
        raise InputError(
            f"weights of {name} cannot be read back from {init}; give the .keras file "
            "that it was converted from"
        )
    return record


def set_first_weights(
    model: "keras.Model",
    init: str,
    prep: Preprocessing,
    views: Iterable["tf.Tensor"],
) -> None:
    """Puts the first weights into a network.

    Args:
        model: the network, from `build_model`.
        init: see `TrainConfig`; `first_record` found nothing against it.
        prep: what the network's inputs are standardised with.
        views: see `load_tflite`.

    Raises:
        InputError: they can't be read back.
        ModelError: the file is none of ours.
        MissingPackageError: the ImageNet weights are not installed.
    """
    if init == IMAGENET:
        load_imagenet(model, imagenet_weights(), prep)
    elif init != RANDOM:
        path = resolve(init)
        if path.suffix == KERAS:
            model.set_weights(load_keras(path)[0].get_weights())
        else:
            load_tflite(model, path, views)


def load_teacher(
    path: Path, prep: Preprocessing
) -> tuple["keras.Model", Preprocessing]:
    """Loads a network to learn from.

    Args:
        path: a ``.keras`` file.
        prep: the student's preprocessing.

    Returns:
        The network, for inputs of any size if it can, and what its inputs are
        standardised with.

    Raises:
        InputError: the teacher sees cells in another way than the student.
        ModelError: the file is none of ours.
    """
    model, record = load_keras(path)
    other = record.preprocessing
    seen = (other.input_size, other.crop_fraction)
    if seen != (prep.input_size, prep.crop_fraction) or record.codes != CODES:
        raise InputError(
            f"the teacher {path} was trained with a crop of {other.crop_fraction:g} at "
            f"{other.input_size} pixels and {len(record.classes)} classes, but the "
            f"student has {prep.crop_fraction:g} at {prep.input_size} and "
            f"{len(CODES)}; train one of them again"
        )
    name = record.network["name"]
    size = prep.input_size if name in FIXED_SIZE else None
    teacher = build_model(name, len(CODES), size)
    teacher.set_weights(model.get_weights())
    teacher.trainable = False
    return teacher, other
