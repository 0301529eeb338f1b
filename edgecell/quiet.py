"""Silence for C++ libraries that write to standard error whatever Python says."""

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

_lock = threading.Lock()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discards what is written to file descriptor 2 while the context is open.

    Only one thread at a time may use it: two that overlap would restore each other's
    silence. Errors are not lost, since libraries raise them as exceptions.
    """
    with _lock, open(os.devnull, "wb") as null:
        saved = os.dup(2)
        os.dup2(null.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def quiet_opencv() -> None:
    """Keeps OpenCV's and FFmpeg's own messages off stderr: ours say more."""
    import cv2

    # FFmpeg's level is read once, when OpenCV first opens a video.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # OpenCV 4 has this function in a module of its own, OpenCV 5 at its top.
    opencv_log: Any = getattr(cv2.utils, "logging", cv2)
    opencv_log.setLogLevel(0)
