"""Weights of a Keras network by the order of building: for training elsewhere."""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from edgecell.errors import InputError
from edgecell.model.kerasfile import HEAD_LAYER

if TYPE_CHECKING:
    import keras

_PARAMETERS = ("gamma", "beta", "mean", "variance")


def building_order(name: str) -> tuple[int, ...] | None:
    """Sorts batch normalisations: Keras numbers them in the order of building."""
    found = re.search(r"batch_normalization((?:_\d+)*)", name)
    return tuple(int(n) for n in found[1].split("_")[1:]) if found else None


def _layers(
    model: "keras.Model",
) -> Iterator[tuple[str, "keras.Layer", "keras.Layer"]]:
    """Names, convolutions and batch normalisations in the order of building."""
    import keras

    made_by = {id(layer.output): layer for layer in model.layers}
    norms = sorted(
        (x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)),
        key=lambda layer: building_order(layer.name) or (),
    )
    for i, norm in enumerate(norms):
        yield f"{i:03d}", made_by[id(norm.input)], norm


HEAD = {"head": HEAD_LAYER}
"""A GRsNet's layer without normalisation, by the name of its weights."""


def get_keras_weights(
    model: "keras.Model", heads: Mapping[str, str] = HEAD
) -> dict[str, npt.NDArray[Any]]:
    """A network's weights.

    Args:
        model: a functional model from `build` or `build_finder`.
        heads: names of its layers without normalisation.

    Returns:
        float32 arrays in Keras' layouts, by the names of
        `edgecell.train.job.networks.network`.
    """
    weights: dict[str, npt.NDArray[Any]] = {}
    for name, convolution, norm in _layers(model):
        weights[f"{name}.kernel"] = convolution.get_weights()[0]
        values = zip(_PARAMETERS, norm.get_weights(), strict=True)
        weights |= {f"{name}.{parameter}": value for parameter, value in values}
    for head, name in heads.items():
        kernel, bias = model.get_layer(name).get_weights()
        weights |= {f"{head}.kernel": kernel, f"{head}.bias": bias}
    return weights


def set_keras_weights(
    model: "keras.Model",
    weights: Mapping[str, npt.NDArray[Any]],
    heads: Mapping[str, str] = HEAD,
) -> None:
    """Inverse of `get_keras_weights`.

    Raises:
        InputError: the weights are another network's.
    """
    own = get_keras_weights(model, heads)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in weights.items()}:
        raise InputError(f"the weights are not those of a {model.name}")
    for name, convolution, norm in _layers(model):
        convolution.set_weights([weights[f"{name}.kernel"]])
        norm.set_weights([weights[f"{name}.{p}"] for p in _PARAMETERS])
    for head, name in heads.items():
        model.get_layer(name).set_weights(
            [weights[f"{head}.kernel"], weights[f"{head}.bias"]]
        )
