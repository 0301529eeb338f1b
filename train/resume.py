"""Resumes a run from its last intact checkpoint."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from edgecell.errors import InputError
from edgecell.files import write_atomically

if TYPE_CHECKING:
    import tensorflow as tf

logger = logging.getLogger(__name__)


def checkpoints(folder: Path) -> list[str]:
    """The checkpoints in a folder, the last one first, whole or not.

    TensorFlow's own list of them is a file that a power cut can empty.

    Args:
        folder: the run's ``checkpoints/``.

    Returns:
        Paths as TensorFlow takes them: without a suffix.
    """
    found = [p.with_suffix("") for p in folder.glob("ckpt-*.index")]
    numbered = {int(p.name[5:]): str(p) for p in found if p.name[5:].isdecimal()}
    return [path for _, path in sorted(numbered.items(), reverse=True)]


def list_again(folder: Path) -> None:
    """Rewrites TensorFlow's list of checkpoints: it refuses one that was emptied.

    Args:
        folder: the run's ``checkpoints/``, with at least one.
    """
    found = [Path(path) for path in reversed(checkpoints(folder))]
    lines = [f'model_checkpoint_path: "{found[-1].name}"']
    for path in found:
        saved = path.with_suffix(".index").stat().st_mtime
        lines += [
            f'all_model_checkpoint_paths: "{path.name}"',
            f"all_model_checkpoint_timestamps: {saved}",
        ]
    write_atomically(folder / "checkpoint", "\n".join(lines) + "\n")


def restore_last(checkpoint: "tf.train.Checkpoint", folder: Path) -> None:
    """Restores a run's state from the last checkpoint that can be read.

    Args:
        checkpoint: what is to be restored.
        folder: the run's ``checkpoints/``.

    Raises:
        InputError: there is none, or all are damaged or of another network.
    """
    for path in checkpoints(folder):
        try:
            checkpoint.restore(path).assert_existing_objects_matched()
        except Exception as e:  # TensorFlow's readers raise an IndexError, too
            why = (str(e).strip() or type(e).__name__).splitlines()[0]
            logger.warning("%s cannot be read (%s); trying the previous one", path, why)
            continue
        logger.info("continuing from %s", path)
        return
    raise InputError(f"{folder} has no checkpoint that can be read; start a new run")
