"""Recorded sessions with cells to explain."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record.policy import Policy
from edgecell.edge.record.store import Session, Store
from edgecell.edge.sources.still import read_image
from edgecell.explain.methods import Explanation
from edgecell.image.preprocess import Rgb, cell_image, to_rgb
from edgecell.model.modelfile import bundled_model, read_tflite
from tests.factories import SAMPLES, rows, tracked

ROOT = Path(__file__).parents[2]
MODEL = read_tflite(bundled_model())[1]
SEEN = cell_image(
    to_rgb(read_image(SAMPLES / "cells" / "SNE_1.jpg")),
    MODEL.preprocessing,
)
CAM = Policy("all", 0, ("grad-cam",))


def seen(
    frame: int, code: str | None = "SNE", reasons: tuple[str, ...] = (), cell: int = 0
) -> TrackedFrame:
    """A frame in which a cell is seen and decided on; by default a new one."""
    one = tracked(frame, cell or None)
    (found,), (decision,) = one.result.cells, one.changed
    view = Rgb(np.ascontiguousarray(np.roll(SEEN, frame % 8, axis=1)))
    return replace(
        one,
        result=replace(one.result, cells=(replace(found, seen=view),)),
        changed=(replace(decision, code=code, reasons=reasons),),
    )


def record(folder: Path, policy: Policy, frames: list[TrackedFrame]) -> Path:
    with Store(folder, Session("clip.avi", MODEL, {}), None, policy) as store:
        for frame in frames:
            store.write([frame])
        store.end("end of source")
    return folder


def jobs(folder: Path) -> list[tuple[Any, ...]]:
    return rows(folder, "SELECT cell, method, code, sighting FROM jobs ORDER BY job")


def explanation() -> Explanation:
    heat = np.linspace(-1, 1, 112 * 112, dtype=np.float32).reshape(112, 112)
    return Explanation("grad-cam", 11, heat, {"evaluations": 1.0})
