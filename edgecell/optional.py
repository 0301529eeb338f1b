"""Packages that only some commands need."""

import importlib
import os
from types import ModuleType

from edgecell.errors import MissingPackageError
from edgecell.quiet import quiet_stderr

DEVICE = ("cv2", "numpy", "PIL", "simplejpeg", "systemd_watchdog", "tflite", "tqdm")
"""Modules of the device install (``edge``), without which little but help works."""


def missing(module: str, extra: str, error: ImportError) -> MissingPackageError:
    """The error that says how to install what a command needs.

    Args:
        module: name of the module.
        extra: the extra of ours that installs it.
        error: what its import raised.
    """
    return MissingPackageError(
        f"this command needs {module}, which does not import here ({error}); "
        f'install it with: pip install "edgecell[{extra}]"'
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
            return importlib.import_module(module)
        # TensorFlow's C++ side notes missing GPU drivers on stderr, at its import
        # and when it first looks for devices.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with quiet_stderr():
            importlib.import_module("tensorflow").config.list_physical_devices()
            return importlib.import_module(module)
    except ImportError as e:
        raise missing(module, extra, e) from e
