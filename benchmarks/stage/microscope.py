"""A simulated microscope: a LabThings server over a slide, with a stage's faults."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import labthings_fastapi as lt
import numpy as np
import uvicorn
from labthings_fastapi.outputs.mjpeg_stream import MJPEGStreamDescriptor

from edgecell.image.preprocess import Bgr


@dataclass
class Mechanics:
    """The slide under the objective and what is wrong with the stage.

    Attributes:
        slide: uint8 BGR (H, W, 3).
        view: width and height of the camera's picture.
        steps_per_px: how far the motors turn for a pixel.
        backlash: steps lost when the direction along an axis changes.
        tilt: steps of z that the focus drifts for each pixel to the right.
        stuck: whether the motors turn and nothing moves.
    """

    slide: Bgr
    view: tuple[int, int]
    steps_per_px: float = 4.0
    backlash: int = 0
    tilt: float = 0.0
    stuck: bool = False

    def __post_init__(self) -> None:
        height, width = self.slide.shape[:2]
        self.position = {"x": 0, "y": 0, "z": 0}
        self.true = {"x": 0.0, "y": 0.0}
        self.directions = {"x": 1, "y": 1}
        self.limits = {
            "x": round((width - self.view[0]) * self.steps_per_px),
            "y": round((height - self.view[1]) * self.steps_per_px),
        }
        self.visited: list[tuple[int, int]] = []
        self.focused = 0

    def move(self, x: int, y: int, z: int) -> None:
        for axis, steps in (("x", x), ("y", y)):
            at = self.position[axis] + steps
            if not 0 <= at <= self.limits[axis]:
                raise ValueError(f"{axis} = {at} is beyond the stage's limit")
        for axis, steps in (("x", x), ("y", y)):
            self.position[axis] += steps
            direction = 1 if steps > 0 else -1
            if steps and direction != self.directions[axis]:
                self.directions[axis] = direction
                steps -= direction * min(self.backlash, abs(steps))
            if not self.stuck:
                self.true[axis] += steps
        self.position["z"] += z
        self.visited.append((self.position["x"], self.position["y"]))

    @property
    def best_z(self) -> float:
        return self.tilt * self.true["x"] / self.steps_per_px

    def picture(self) -> Bgr:
        width, height = self.view
        x, y = (round(self.true[a] / self.steps_per_px) for a in ("x", "y"))
        x = min(max(x, 0), self.slide.shape[1] - width)
        y = min(max(y, 0), self.slide.shape[0] - height)
        image = self.slide[y : y + height, x : x + width]
        blur = abs(self.position["z"] - self.best_z) / 100
        if blur > 0.3:
            return Bgr(np.asarray(cv2.GaussianBlur(image, (0, 0), blur), np.uint8))
        return Bgr(image.copy())


def things(mechanics: Mechanics) -> dict[str, Any]:
    """The server's things, as OpenFlexure names them."""

    class Stage(lt.Thing):
        """The stage."""

        @lt.property
        def position(self) -> dict[str, int]:
            """The stage's position, in steps."""
            return dict(mechanics.position)

        @lt.action
        def move_relative(self, x: int = 0, y: int = 0, z: int = 0) -> None:
            """Moves."""
            mechanics.move(x, y, z)

    class Camera(lt.Thing):
        """The camera."""

        mjpeg_stream = MJPEGStreamDescriptor()

        def __enter__(self) -> Any:
            self._going = True
            self._thread = threading.Thread(target=self._send, daemon=True)
            self._thread.start()
            return self

        def __exit__(self, *_: object) -> None:
            self._going = False
            self._thread.join()

        def _send(self) -> None:
            while self._going:
                data = cv2.imencode(".jpg", mechanics.picture())[1]
                self.mjpeg_stream.add_frame(data.tobytes())
                time.sleep(0.02)

    class Autofocus(lt.Thing):
        """The autofocus."""

        @lt.action
        def fast_autofocus(self, dz: int = 2000) -> None:
            """Finds the best z."""
            mechanics.focused += 1
            mechanics.position["z"] = round(mechanics.best_z)

    return {"stage": Stage, "camera": Camera, "autofocus": Autofocus}


@contextmanager
def microscope(mechanics: Mechanics) -> Iterator[str]:
    """Serves the microscope on the loopback interface; yields its address."""
    # A move beyond a limit is an answer to whoever asked, and no fault of the server's.
    logging.getLogger("labthings_fastapi.things").propagate = False
    app = lt.ThingServer.from_things(things(mechanics)).app
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"openflexure://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
