"""Packages that only some commands need."""

import importlib
import os
from types import ModuleType

from edgecell.errors import MissingPackageError
from edgecell.quiet import quiet_stderr


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
        raise MissingPackageError(
            f"this command needs {module}, which does not import here ({e}); "
            f'install it with: pip install "edgecell[{extra}]"'
        ) from e
