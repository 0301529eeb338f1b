"""Cameras that no machine of ours has, as the libraries that read them show them."""

import time
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np

from tests.edge.sources.servers import Picture, milliseconds, stamp


class Device:
    """A camera that can be plugged out and in again.

    Attributes:
        plugged: whether it is there.
        broken: how many of the next pictures are.
        shape: of a picture.
        taken_ms: when the last picture was taken, as its driver tells.
    """

    def __init__(self, picture: Picture, period_s: float = 0.01) -> None:
        self.plugged = True
        self.broken = 0
        self.shape = picture.shape
        self.taken_ms = 0.0
        self._picture = picture
        self._period_s = period_s

    def start(self) -> None:
        self.plugged = True

    def stop(self) -> None:
        self.plugged = False

    def wait(self) -> bool:
        """Waits for the next picture; whether there is one."""
        time.sleep(self._period_s)
        self.taken_ms = float(milliseconds())
        return self.plugged

    def look(self) -> Picture | None:
        """The picture of this moment, stamped with it; None if it is broken."""
        if self.broken:
            self.broken -= 1
            return None
        return stamp(self._picture, milliseconds())


def video_capture(device: Device) -> type:
    """The class `cv2.VideoCapture` with a device behind every address.

    Its frames are in OpenCV 4.11's flat form.
    """

    class VideoCapture:
        def __init__(self, *_: Any) -> None: ...

        def isOpened(self) -> bool:
            return device.plugged

        def set(self, *_: Any) -> bool:
            return True

        def get(self, key: int) -> float:
            return {
                cv2.CAP_PROP_FRAME_WIDTH: float(device.shape[1]),
                cv2.CAP_PROP_FRAME_HEIGHT: float(device.shape[0]),
                cv2.CAP_PROP_POS_MSEC: device.taken_ms,
            }[key]

        def grab(self) -> bool:
            return device.wait()

        def retrieve(self) -> tuple[bool, np.ndarray | None]:
            image = device.look()
            return image is not None, None if image is None else image.reshape(1, -1)

        def release(self) -> None: ...

    return VideoCapture


def picamera2(device: Device) -> SimpleNamespace:
    """The module picamera2 with a device as its only camera."""

    class Picamera2:
        opened = 0

        def __init__(self, number: int) -> None:
            if number > 0 or not device.plugged:
                raise IndexError("list index out of range")
            assert Picamera2.opened == 0, "a camera can be opened once"
            Picamera2.opened += 1

        def create_video_configuration(self, **settings: Any) -> dict[str, Any]:
            return settings

        def configure(self, settings: dict[str, Any]) -> None:
            assert settings["main"]["format"] == "RGB888"

        def start(self) -> None: ...

        def close(self) -> None:
            Picamera2.opened -= 1

        def capture_arrays(self, names: list[str], wait: bool) -> SimpleNamespace:
            assert (names, wait) == (["main"], False)

            def get_result(timeout: float) -> tuple[list[np.ndarray], dict[str, int]]:
                if not device.wait():
                    raise TimeoutError
                image = device.look()
                assert image is not None
                return [image], {"SensorTimestamp": round(device.taken_ms * 1e6)}

            return SimpleNamespace(get_result=get_result)

    return SimpleNamespace(Picamera2=Picamera2)
