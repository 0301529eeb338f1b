"""A model file as a classifier: cell image in, probabilities and maps out."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.errors import ModelError
from edgecell.image.preprocess import Preprocessing, Rgb, standardise
from edgecell.model.modelfile import (
    FEATURES,
    LOGITS,
    MAPS,
    ModelRecord,
    is_tflite,
    read_tflite,
    resolve,
)
from edgecell.model.onnx.file import is_onnx, read_onnx
from edgecell.model.probabilities import softmax
from edgecell.model.runtime import Interpreter, open_interpreter


@dataclass(frozen=True)
class Prediction:
    """The network's output for one cell.

    Attributes:
        codes: class codes, in the order of the arrays.
        logits: float32 (C,).
        probabilities: float64 (C,), summing to 1: softmax(logits / temperature).
        maps: float32 (h, w, C), class activation maps: mean over (h, w) plus the
            class's bias is its logit.
        features: float32 (h, w, K), the last feature map; None if it wasn't asked for.
    """

    codes: tuple[str, ...]
    logits: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float64]
    maps: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32] | None = None

    @property
    def index(self) -> int:
        """Index of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def pooled(self) -> npt.NDArray[np.float32]:
        """The features' mean over the map, float32 (K,), of which the head is made.

        Raises:
            ValueError: the features weren't asked for.
        """
        if self.features is None:
            raise ValueError("classify with features=True")
        return np.asarray(self.features.mean((0, 1)), np.float32)

    def only(self, possible: npt.NDArray[np.bool_]) -> "Prediction":
        """The same with a probability of 0 for each class that is not possible.

        Logits and maps stay the network's: mean(map) + bias = logit.

        Args:
            possible: bool (C,), see `possible_classes`.
        """
        left = np.where(possible, self.probabilities, 0.0)
        return replace(self, probabilities=left / left.sum())

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k most probable classes: (code, probability), best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.codes[i], float(self.probabilities[i])) for i in order]


def input_table(prep: Preprocessing, details: dict[str, Any]) -> npt.NDArray[Any]:
    """Standardisation and input quantisation as one look-up table.

    Args:
        prep: the model's preprocessing.
        details: the input tensor's, from the interpreter.

    Returns:
        (1, 256, 3) of the input's dtype: pixel value and channel to tensor value,
        round(x / scale) + zero point for integer inputs.
    """
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    x = standardise(ramp, prep)
    dtype = np.dtype(details["dtype"])
    if dtype == np.float32:
        return x
    scale, zero_point = details["quantization"]
    info = np.iinfo(dtype)
    q = np.rint(x.astype(np.float64) / scale) + zero_point
    return np.asarray(np.clip(q, info.min, info.max), dtype)


def dequantise(
    tensor: npt.NDArray[Any], details: dict[str, Any]
) -> npt.NDArray[np.float32]:
    """(q - zero point) * scale for integer tensors; float32 passes through."""
    if tensor.dtype == np.float32:
        return np.asarray(tensor, np.float32)
    scale, zero_point = details["quantization"]
    return np.asarray((tensor.astype(np.float32) - zero_point) * scale, np.float32)


def pooled_logits(
    maps: npt.NDArray[np.float32], head_bias: Sequence[float]
) -> npt.NDArray[np.float64]:
    """mean(map) + bias of each class, float64 (C,): the logits but for rounding."""
    return np.asarray(maps.mean((0, 1), dtype=np.float64) + np.asarray(head_bias))


def map_residuals(
    prediction: Prediction, head_bias: Sequence[float]
) -> npt.NDArray[np.float64]:
    """mean(map) + bias - logit of each class, float64 (C,); 0 but for rounding."""
    return pooled_logits(prediction.maps, head_bias) - prediction.logits


def map_residual(prediction: Prediction, head_bias: Sequence[float]) -> float:
    """Largest |mean(map) + bias - logit| over the classes; infinite if one isn't."""
    residual = float(np.abs(map_residuals(prediction, head_bias)).max())
    return residual if math.isfinite(residual) else math.inf


def _check_shapes(
    path: Path,
    record: ModelRecord,
    given: dict[str, Any],
    outputs: dict[str, dict[str, Any]],
) -> None:
    """Checks that a graph's inputs and outputs are those that its record declares.

    Raises:
        ModelError: it doesn't.
    """
    if {LOGITS, MAPS} - set(outputs):
        raise ModelError(f"{path} has no outputs '{LOGITS}' and '{MAPS}'")
    side, classes = record.preprocessing.input_size, len(record.classes)
    shapes = {name: tuple(details["shape"]) for name, details in outputs.items()}
    maps = shapes[MAPS]
    fits = (
        tuple(given["shape"]) == (1, side, side, 3)
        and shapes[LOGITS] == (1, classes)
        and len(maps) == 4
        and maps[::3] == (1, classes)
        and shapes.get(FEATURES, maps)[:3] == maps[:3]
    )
    for details in (given, *outputs.values()):
        kind, scale = np.dtype(details["dtype"]), details["quantization"][0]
        fits = fits and (
            kind == np.float32 or (kind.kind in "iu" and 0 < scale < math.inf)
        )
    if not fits:
        raise ModelError(
            f"the graph in {path} does not fit its record: inputs or outputs of "
            "another shape or type; convert the model again"
        )


def read_network(path: Path) -> tuple[bytes, ModelRecord]:
    """Reads a model of either kind, with its record.

    Args:
        path: a ``.tflite`` or ``.onnx`` file of ours, whatever its name.

    Returns:
        The TFLite or ONNX graph and the record.

    Raises:
        ModelError: no model, no record of ours, or bytes that were changed.
    """
    head = b""
    with suppress(OSError), path.open("rb") as file:  # the reader says what is wrong
        head = file.read(8)
    if is_onnx(head) or (path.suffix == ".onnx" and not is_tflite(head)):
        return read_onnx(path)
    return read_tflite(path)


class Classifier:
    """A TFLite or ONNX model with its record, ready to run.

    Attributes:
        path: the model's file.
        record: the model's record.
        flatbuffer: the TFLite or ONNX model itself.
        runtime: the runtime in use.
        attempts: the runtimes that were tried, for `edgecell doctor`.
        logit_step: quantisation step of the logits; 0 for float outputs.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        threads: int = 1,
        runtime: str | None = None,
    ) -> None:
        """Opens a model file.

        Args:
            model: a ``.tflite`` or ``.onnx`` that `edgecell convert` wrote, or
                'bundled'.
            threads: threads of the interpreter, at least 1.
            runtime: one of `runtime.RUNTIMES`; None for the first that works.

        Raises:
            ModelError: not a model of ours, or damaged.
            InputError: the runtime is for models of the other kind.
            MissingPackageError: no runtime takes it.
        """
        self.path = path = resolve(model)
        self.flatbuffer, self.record = read_network(path)
        self._interpreter, self.runtime, self.attempts = open_interpreter(
            self.flatbuffer, threads, runtime
        )
        self._pool: list[Interpreter] = []
        try:
            runner = self._interpreter.get_signature_runner("serving_default")
            outputs = runner.get_output_details()
        except ValueError as e:
            raise ModelError(f"{path} names no outputs ({e})") from e
        self._input = self._interpreter.get_input_details()[0]
        _check_shapes(path, self.record, self._input, outputs)
        self._logits, self._maps = outputs[LOGITS], outputs[MAPS]
        self._features = outputs.get(FEATURES)
        self._table = input_table(self.record.preprocessing, self._input)
        self.logit_step = float(self._logits["quantization"][0])

    def classify(self, image: Rgb, features: bool = False) -> Prediction:
        """Classifies one cell.

        Args:
            image: uint8 RGB (S, S, 3), S the model's input size, white-balanced.
            features: also fetches the last feature map.

        Returns:
            The prediction.

        Raises:
            ModelError: the model puts out no feature map, as those that were converted
                before it was an output.
        """
        return self.classify_all([image], features)[0]

    def classify_all(
        self, images: Sequence[Rgb], features: bool = False
    ) -> list[Prediction]:
        """Classifies a frame's cells, doing as little as possible between inferences.

        The network empties the processor's caches, so all else is done before or after.
        One inference of many cells takes as long as one of each: 1.32 ms a cell in
        fives, 1.35 ms alone (LiteRT 2.3, int8, one thread of an AMD EPYC with AVX-512).

        Args:
            images: each as for `classify`.
            features: see `classify`.

        Raises:
            ModelError: see `classify`.
        """
        wanted = [self._logits, self._maps]
        if features:
            if self._features is None:
                raise ModelError(
                    f"the model has no output '{FEATURES}'; convert it again with this "
                    "edgecell"
                )
            wanted.append(self._features)
        interpreter, place = self._interpreter, self._input["index"]
        tensors = [self.input_tensor(image)[None] for image in images]
        found = []
        for tensor in tensors:
            interpreter.set_tensor(place, tensor)
            interpreter.invoke()
            found.append([interpreter.get_tensor(d["index"])[0] for d in wanted])
        if not found:
            return []
        each = zip(*found, strict=True)
        logits, *others = (
            dequantise(np.stack(outputs), details)
            for outputs, details in zip(each, wanted, strict=True)
        )
        probabilities = softmax(logits, self.record.temperature)
        return [
            Prediction(self.record.codes, *outputs)
            for outputs in zip(logits, probabilities, *others, strict=True)
        ]

    def logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits of many cells, on all cores.

        A resized interpreter takes them in one go, but no faster than one by one; an
        interpreter of one thread for each core does, since it releases the GIL.

        Args:
            images: uint8 RGB (N, S, S, 3), each as for `classify`.

        Returns:
            float32 (N, C).
        """
        return self._each(images, lambda i: self._output(i, self._logits))

    def fine_logits(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """As `logits`, but without their last rounding; see `pooled_logits`.

        An int8 logit moves in steps of `logit_step`, the mean of a map's 49 rounded
        values in much finer ones. For differences between nearly equal images.
        """
        bias = self.record.head_bias
        return self._each(
            images, lambda i: pooled_logits(self._output(i, self._maps), bias)
        )

    def _each(
        self,
        images: npt.NDArray[np.uint8],
        read: Callable[[Interpreter], npt.NDArray[np.floating]],
    ) -> npt.NDArray[np.float32]:
        """What ``read`` gets from the interpreter after each image, float32 (N, C)."""
        cores = os.cpu_count() or 1
        while len(self._pool) < cores:
            self._pool.append(self.runtime.interpreter(self.flatbuffer, threads=1))
        out = np.empty((len(images), len(self.record.classes)), np.float32)

        def work(first: int) -> None:
            for i in range(first, len(images), cores):
                self._run(self._pool[first], Rgb(images[i]))
                out[i] = read(self._pool[first])

        with ThreadPoolExecutor(cores) as pool:
            list(pool.map(work, range(cores)))
        return out

    def _run(self, interpreter: Interpreter, image: Rgb) -> None:
        interpreter.set_tensor(self._input["index"], self.input_tensor(image)[None])
        interpreter.invoke()

    @staticmethod
    def _output(
        interpreter: Interpreter, details: dict[str, Any]
    ) -> npt.NDArray[np.float32]:
        return dequantise(interpreter.get_tensor(details["index"])[0], details)

    def input_tensor(self, image: Rgb) -> npt.NDArray[Any]:
        """A cell as the network takes it: standardised, and quantised if need be.

        Args:
            image: as for `classify`.

        Returns:
            (S, S, 3) of the input's dtype.
        """
        # cv2.LUT knows no int8 input tables in older releases; a view does.
        if self._table.dtype == np.int8:
            return cv2.LUT(image, self._table.view(np.uint8)).view(np.int8)
        return np.asarray(cv2.LUT(image, self._table))
