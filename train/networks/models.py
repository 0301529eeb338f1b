"""All networks that can be trained, by name."""

from typing import TYPE_CHECKING, Any

from edgecell.errors import InputError
from edgecell.train.networks.network import PRESETS, build
from edgecell.train.networks.peers import PEERS, build_peer

if TYPE_CHECKING:
    import keras

FIXED_SIZE = ("vit-b16",)
"""Networks that only take inputs of the size that they were built for."""


def model_names() -> tuple[str, ...]:
    """Ours first, then those that it is compared with."""
    return (*PRESETS, *PEERS)


def check_name(name: str) -> None:
    """Refuses a name that no network has.

    Raises:
        InputError: it is none of `model_names`.
    """
    if name not in model_names():
        raise InputError(
            f"there is no network '{name}'; choose from {', '.join(model_names())}"
        )


def build_model(
    name: str, classes: int = 12, input_size: int | None = 112
) -> "keras.Model":
    """Builds a network with random weights.

    Args:
        name: one of `model_names`.
        classes: number of classes C.
        input_size: side of the input in pixels; None for any size, which those in
            `FIXED_SIZE` can't have.

    Returns:
        A functional Keras model from standardised float32 (N, S, S, 3) to logits
        float32 (N, C), with the layers ``FEATURES_LAYER`` and ``HEAD_LAYER``.
    """
    if name in PRESETS:
        return build(PRESETS[name], classes, input_size)
    return build_peer(name, classes, input_size)


def description(name: str) -> dict[str, Any]:
    """What the model record says of a network: at least its ``name``."""
    return PRESETS[name].to_dict() if name in PRESETS else {"name": name}
