"""Packages that only some commands need."""

import importlib
import os
from types import ModuleType

from edgecell.errors import MissingPackageError


def require(module: str, extra: str) -> ModuleType:
    """Imports a package of an optional install.

    Args:
        module: name of the module.
        extra: the extra of ours that installs it.

    Raises:
        MissingPackageError: it is not installed.
    """
    if module in ("tensorflow", "keras"):
        # TensorFlow writes start-up notes to stderr unless told before its import.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return importlib.import_module(module)
    except ImportError as e:
        raise MissingPackageError(
            f"this command needs {module}, which does not import here ({e}); "
            f'install it with: pip install "edgecell[{extra}]"'
        ) from e
