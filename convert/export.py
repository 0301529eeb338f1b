"""From a Keras network to the TFLite graph that devices run."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from edgecell.quiet import quiet_stderr

if TYPE_CHECKING:
    import keras

Scheme = Literal["float32", "float16", "dynamic", "int8", "int16x8"]
IoType = Literal["int8", "uint8", "float32"]
CALIBRATED: tuple[Scheme, ...] = ("int8", "int16x8")
"""Schemes whose activations are integers, with ranges that a calibration set gives."""


@dataclass(frozen=True)
class QuantScheme:
    """How numbers are stored in the TFLite file.

    Attributes:
        name: 'float32'; 'float16' for half-precision weights; 'dynamic' for int8
            weights whose activations are quantised on the fly; 'int8' for full
            integer quantisation (Jacob et al., CVPR 2018): int8 activations per
            tensor, weights per channel; 'int16x8' for int16 activations with int8
            weights.
        io: type of the input tensor; of an int8 model alone it can be an integer.
    """

    name: Scheme
    io: IoType = "float32"

    def __post_init__(self) -> None:
        if self.io != "float32" and self.name != "int8":
            raise ValueError(f"{self.name} takes float32 inputs, not {self.io}")


@contextmanager
def exported(model: "keras.Model") -> Iterator[Path]:
    """Exports a deployed network once for any number of conversions.

    Args:
        model: what `deployed` made.

    Yields:
        The folder of its SavedModel, removed at the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        with quiet_stderr():
            model.export(folder, format="tf_saved_model", verbose=False)
        yield Path(folder)


def to_tflite(
    saved: Path,
    scheme: QuantScheme,
    calibration: npt.NDArray[np.float32] | None = None,
) -> bytes:
    """Converts a deployed network.

    Args:
        saved: what `exported` made of it.
        scheme: the number format.
        calibration: float32 (N, S, S, 3), standardised; for `CALIBRATED` schemes.

    Returns:
        The TFLite flatbuffer, outputs named in the signature 'serving_default'.

    Raises:
        ValueError: a `CALIBRATED` scheme without a calibration set.
    """
    import tensorflow as tf

    # The converter prints statistics and warns of an interpreter that it uses itself.
    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
        if scheme.name != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if scheme.name == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if scheme.name in CALIBRATED:
            if calibration is None or not len(calibration):
                raise ValueError(f"{scheme.name} needs a calibration set")
            images = calibration

            def batches() -> Iterator[dict[str, Any]]:
                for image in images:
                    yield {"image": image[None]}

            converter.representative_dataset = batches
            sets = tf.lite.OpsSet
            converter.target_spec.supported_ops = [
                sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                if scheme.name == "int16x8"
                else sets.TFLITE_BUILTINS_INT8
            ]
        if scheme.io != "float32":
            converter.inference_input_type = getattr(tf, scheme.io)
            converter.inference_output_type = tf.int8
        flatbuffer: bytes = converter.convert()
    return flatbuffer
