"""The Raspberry Pi's CSI camera, through picamera2."""

from collections.abc import Iterator
from concurrent.futures import TimeoutError as PollTimeout
from typing import Any

import numpy as np

from edgecell.edge.sources.base import (
    STALL_S,
    LiveSource,
    Read,
    Skipped,
    now_s,
)
from edgecell.errors import MissingPackageError, SourceError
from edgecell.image.preprocess import Bgr

_SIZE = (1280, 960)
"""Enough for a cell to fill the network's 112 pixels under a 40x objective."""

_LONGEST_WAIT_S = 3600.0
"""A time of exposure before that is by another clock."""


class CsiCamera(LiveSource):
    """A CSI camera by its number."""

    def __init__(self, number: int) -> None:
        """Prepares to read; entering it opens the camera. Number 0 is the first one."""
        self.name = f"csi-{number}"
        self.skipped = Skipped()
        self._number = number
        self._camera: Any = None

    def __enter__(self) -> "CsiCamera":
        """Opens and starts the camera.

        Raises:
            MissingPackageError: picamera2 is not installed.
            SourceError: there is no camera of that number, or it is in use.
        """
        try:
            from picamera2 import Picamera2
        except ImportError as e:
            raise MissingPackageError(
                "csi:// needs picamera2 (on Raspberry Pi OS: sudo apt install "
                "python3-picamera2, and a virtual environment made with "
                "--system-site-packages); on a Jetson use gst:// with nvarguscamerasrc"
            ) from e
        try:
            self._camera = Picamera2(self._number)
            # picamera2's RGB888 is B, G, R in memory.
            main = {"size": _SIZE, "format": "RGB888"}
            # One buffer ahead at most: a queue would show the past.
            self._camera.configure(
                self._camera.create_video_configuration(
                    main=main, buffer_count=3, queue=False
                )
            )
            self._camera.start()
        except (RuntimeError, IndexError) as e:
            self.__exit__()
            raise SourceError(
                f"{self.name} does not answer ({e}); run 'rpicam-hello --list-cameras' "
                "to see which cameras do"
            ) from e
        return self

    def __exit__(self, *_: object) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def _reads(self) -> Iterator[Read]:
        while True:
            try:
                job = self._camera.capture_arrays(["main"], wait=False)
                (image,), metadata = job.get_result(timeout=STALL_S)
            except (PollTimeout, TimeoutError, RuntimeError) as e:
                raise SourceError(f"{self.name} stopped sending frames") from e
            # libcamera stamps with CLOCK_BOOTTIME, which is `now_s`. What waited while
            # this program was stopped is as old as it is.
            exposed_s, came_s = metadata.get("SensorTimestamp", 0) / 1e9, now_s()
            known = came_s - _LONGEST_WAIT_S < exposed_s <= came_s
            picture = Bgr(np.asarray(image, np.uint8))
            yield Read(exposed_s if known else came_s, picture)
