"""``.keras`` files that carry our record: what training hands to conversion."""

import hashlib
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgecell.archive import open_archive, read_member
from edgecell.errors import InputError, ModelError
from edgecell.files import write_atomically
from edgecell.model.modelfile import (
    FEATURES,
    LARGEST_RECORD,
    LOGITS,
    MAPS,
    METADATA_KERAS,
    ModelRecord,
    checked_record,
    sealed_record,
)
from edgecell.optional import require

if TYPE_CHECKING:
    import keras

# Two layers that every network of ours has: the last feature map, and the one
# linear layer after global average pooling. Class activation maps rest on them.
FEATURES_LAYER = "features"
HEAD_LAYER = "logits"


def save_keras(model: "keras.Model", path: Path, record: ModelRecord) -> None:
    """Saves a Keras model and its record in one file, atomically.

    Raises:
        OutputError: the file can't be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        partial = Path(folder) / "model.keras"
        model.save(partial)
        record = sealed_record(record, read_keras_parts(partial)[1])
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(METADATA_KERAS, record.to_json())
        write_atomically(path, partial.read_bytes())


def read_keras_parts(path: Path) -> tuple[bytes | None, str]:
    """Reads a ``.keras`` file whole, so that damage is found before Keras meets it.

    Returns:
        The JSON text of the record, None if there is none; and the hash of all else.

    Raises:
        InputError: it is damaged or no ZIP archive.
    """
    text = None
    network = hashlib.sha256()
    with open_archive(path, str(path)) as archive:
        # Keras stores weights as they are, so that no file in it is larger than it.
        limit = path.stat().st_size + LARGEST_RECORD
        for member in sorted(archive.infolist(), key=lambda i: i.filename):
            content = read_member(archive, member, str(path), limit)
            if member.filename == METADATA_KERAS:
                text = content
            else:
                digest = hashlib.sha256(content).hexdigest()
                network.update(f"{digest} {member.filename}\n".encode())
    return text, network.hexdigest()


def read_keras_record(path: Path) -> ModelRecord:
    """Reads the record inside a ``.keras`` file and checks that nothing was changed.

    Raises:
        ModelError: not a Keras file of ours, or one that was changed or damaged.
    """
    try:
        text, model_sha256 = read_keras_parts(path)
    except InputError as e:
        raise ModelError(
            f"{path} is not a model that 'edgecell train' wrote, or was damaged ({e})"
        ) from e
    if text is None:
        raise ModelError(f"{path} is not a model that 'edgecell train' wrote")
    return checked_record(text, model_sha256, str(path))


def load_keras(path: Path) -> tuple["keras.Model", ModelRecord]:
    """Loads what `save_keras` saved.

    Raises:
        ModelError: the file is missing, damaged, not ours, or of another Keras.
    """
    record = read_keras_record(path)
    keras = require("keras", "train")

    try:
        return keras.models.load_model(path, compile=False), record
    except Exception as e:  # Keras may raise anything
        why = " ".join(str(e).split())[:200] or type(e).__name__
        raise ModelError(
            f"{path} cannot be loaded by Keras {keras.__version__}; load it with the "
            f"version that wrote it, or train again ({why})"
        ) from e


def deployed(model: "keras.Model", batch: int | None = 1) -> "keras.Model":
    """The network as it is shipped: three outputs, and no fully connected layer.

    The class activation maps are a 1x1 convolution of the last feature map with
    the classifier's weights. The logits are the same convolution, with its bias,
    of the pooled map: tflite-runtime 2.14 refuses newer FULLY_CONNECTED operators.
    The feature map itself is put out for explanations that weigh its channels.

    Args:
        model: a trained network.
        batch: fixed batch size, for which TFLite plans its memory; None for any.

    Returns:
        A model from float32 (batch, S, S, 3) to a dictionary of ``logits``
        (batch, C), ``maps`` (batch, h, w, C) and ``features`` (batch, h, w, K).
    """
    keras = require("keras", "train")
    kernel, bias = model.get_layer(HEAD_LAYER).get_weights()
    # Named, so that two conversions name their tensors alike (layers.py matches them).
    last = model.get_layer(FEATURES_LAYER).output
    backbone = keras.Model(model.input, last, name="backbone")
    image = keras.Input(model.input_shape[1:], batch_size=batch, name="image")
    feature_map = backbone(image)
    classes = len(bias)
    maps = keras.layers.Conv2D(classes, 1, use_bias=False, name=MAPS)
    logits = keras.layers.Conv2D(classes, 1, name=LOGITS)
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pooled")(
        feature_map
    )
    outputs = {
        LOGITS: keras.layers.Reshape((classes,), name="flat")(logits(pooled)),
        MAPS: maps(feature_map),
        FEATURES: feature_map,
    }
    maps.set_weights([kernel[None, None]])
    logits.set_weights([kernel[None, None], bias])
    return keras.Model(image, outputs, name="deployed")
