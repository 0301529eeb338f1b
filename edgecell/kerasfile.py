"""``.keras`` files that carry our record: what training hands to conversion."""

import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgecell.errors import ModelError
from edgecell.files import write_atomically
from edgecell.modelfile import METADATA_KERAS, ModelRecord, read_keras_record
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
        with zipfile.ZipFile(partial, "a") as archive:
            archive.writestr(METADATA_KERAS, record.to_json())
        write_atomically(path, partial.read_bytes())


def load_keras(path: Path) -> tuple["keras.Model", ModelRecord]:
    """Loads what `save_keras` saved.

    Raises:
        ModelError: the file is missing, damaged, or not ours.
    """
    record = read_keras_record(path)
    keras = require("keras", "train")

    try:
        return keras.models.load_model(path, compile=False), record
    except (ValueError, OSError, KeyError) as e:
        raise ModelError(
            f"{path} cannot be loaded by Keras {keras.__version__}: {e}"
        ) from e
