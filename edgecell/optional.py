"""Packages that only some commands need."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from edgecell.errors import InputError, MissingPackageError
from edgecell.quiet import quiet_stderr
from edgecell.signals import held_back

DEVICE = ("cv2", "numpy", "PIL", "simplejpeg", "systemd_watchdog", "tflite", "tqdm")
"""Modules of the device install (``edge``), without which little but help works."""


def missing(module: str, extra: str, error: ImportError) -> MissingPackageError:
    """Returns the error that says how to install what a command needs.

    Args:
        module: name of the module.
        extra: the extra of ours that installs it.
        error: what its import raised.
    """
    return MissingPackageError(
        f"this command needs {module}, which cannot be imported here ({error}); "
        f'install it with: pip install ".[{extra}]"'
    )


def require(module: str, extra: str) -> ModuleType:
    """Imports a package of an optional install.

    Args:
        module: name of the module.
        extra: the extra of ours that installs it.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        if module.partition(".")[0] not in ("tensorflow", "keras"):
            with held_back():
                return importlib.import_module(module)
        # TensorFlow's C++ side notes missing GPU drivers on stderr, at its import
        # and when it first looks for devices.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with held_back(), quiet_stderr():
            importlib.import_module("tensorflow").config.list_physical_devices()
            return importlib.import_module(module)
    except ImportError as e:
        raise missing(module, extra, e) from e


_CONNECT_S = 5


@contextmanager
def connected(scheduler: str, kept: str) -> Iterator[Any]:
    """A client of a Dask cluster, for work that is too much for one machine.

    Args:
        scheduler: its address, such as tcp://server:8786.
        kept: what to tell the user about their work if it doesn't answer.

    Raises:
        InputError: it doesn't answer.
        MissingPackageError: Dask's distributed is not installed.
    """
    distributed: Any = require("distributed", "cluster")
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT_S)
    except (OSError, ValueError) as e:
        why = f"{type(e).__name__}: {' '.join(str(e).split())}"
        raise InputError(
            f"no Dask scheduler answers at {scheduler} ({why}); start one with "
            f"'dask scheduler', or leave out --scheduler. {kept[:1].upper()}{kept[1:]}"
        ) from e
    with client:
        yield client
