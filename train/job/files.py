"""Files of a job's folder, and of first weights; read without PyTorch."""

import io
import json
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edgecell.errors import InputError
from edgecell.files import write_atomically

CHECKPOINT = "checkpoint.pt"
RESULT = "result.npz"
SUMMARY = "result.json"
HISTORY = "history.csv"
SETTINGS = "config.json"
_OTHERS = ("head", "attributes", "heat", "size", "backbone")
"""Layers without normalisation, and networks that are not ours."""

_UNREADABLE = (OSError, ValueError, EOFError, BadZipFile)

Triple = tuple[float, float, float]


def read_weights(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Reads weights that a job or `first_weights` wrote.

    Raises:
        InputError: there is no such file, or it is not of this kind.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {
                name: archive[name]
                for name in archive.files
                if name[:3].isdigit() or name.split(".")[0] in _OTHERS
            }
    except _UNREADABLE as e:
        raise InputError(f"{path} is not a file of weights ({e})") from e


def write_first(
    path: Path, weights: dict[str, npt.NDArray[Any]], mean: Triple, std: Triple
) -> None:
    """Writes first weights as an ``.npz`` file, atomically."""
    meta = json.dumps({"mean": mean, "std": std}).encode()
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **weights, meta=np.frombuffer(meta, np.uint8))
    write_atomically(path, buffer.getvalue())


def read_first(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Triple, Triple]:
    """Inverse of `write_first`; or the weights that a run ended with.

    Args:
        path: a file, or the folder of a finished run.

    Raises:
        InputError: there is no such file, or it is not of this kind.
    """
    try:
        if path.is_dir():
            meta = json.loads((path / SUMMARY).read_text())
            weights = read_weights(path / RESULT)
            if not weights:
                raise ValueError("the network was too large to keep")
        else:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                weights = {name: archive[name] for name in archive.files}
            meta = json.loads(weights.pop("meta").tobytes())
        return weights, tuple(meta["mean"]), tuple(meta["std"])
    except (*_UNREADABLE, InputError, KeyError, TypeError) as e:
        raise InputError(f"{path} holds no weights of a classifier ({e})") from e
