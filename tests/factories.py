"""Makes what many tests need: cells, frames, decisions, sessions, drawn images."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.classes import CLASSES, CODES
from edgecell.edge.analyse.pipeline import (
    CellRecord,
    CellResult,
    ClassScore,
    FrameResult,
)
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record.store import Session
from edgecell.edge.sources.base import Frame, now_s
from edgecell.image.preprocess import Bgr, Image, Preprocessing, Rgb, crop_square
from edgecell.image.records import Box
from edgecell.model.decision import Decision
from edgecell.model.modelfile import ModelRecord
from edgecell.train.config import TrainConfig
from edgecell.train.networks.network import NetworkSpec, StageSpec

SAMPLES = Path(__file__).parent.parent / "edge" / "samples"

PREP = Preprocessing(32, 1.0, 3.0, 95.0, 240.0, (0, 0, 0), (1, 1, 1))
MODEL = ModelRecord(CLASSES, PREP, {}, (0.0,) * 12, model_sha256="ab" * 32)
SESSION = Session("clip.avi", MODEL, {"red_cell_px": None})

RAW = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
NOISE = Bgr(np.asarray(cv2.GaussianBlur(RAW, (0, 0), 2), np.uint8))
"""A frame, uint8 BGR (120, 160, 3)."""

CROP = Box(-10, 20, 50, 80)
SQUARE = crop_square(NOISE, CROP.centre, CROP.width)


TINY = NetworkSpec(
    name="tiny",
    stem_width=8,
    stem_kernel=3,
    stem_pool=True,
    stages=(StageSpec(1, 16, 1), StageSpec(1, 24, 2)),
)
"""A network small enough to train in a test."""

TINY_CONFIG = TrainConfig(model=TINY.name, epochs=3, small_epochs=1, batch_size=16)


def cell_record(box: Box, **changes: Any) -> CellRecord:
    """A cell that was found at ``box`` and called SNE, but for the changes."""
    values: dict[str, Any] = {
        "age_ms": 3.0,
        "box": box,
        "kind": "white",
        "cut_by_border": False,
        "gate": None,
        "top": (ClassScore("SNE", 0.97), ClassScore("BNE", 0.02)),
        "classify_ms": 1.0,
        "red_cell_px": 40.0,
        "integrity": 0.0,
    }
    values |= changes
    if values["gate"] is not None:
        values["top"] = ()
    return CellRecord(**values)


def cell_result(
    box: Box,
    crop: Box | None = None,
    pixels: Image | None = None,
    seen: Image | None = None,
    heat: float | None = None,
    logits: npt.ArrayLike | None = None,
    **changes: Any,
) -> CellResult:
    """A cell with its pixels.

    Args:
        box: where it lies.
        crop: what was cut out; its box unless told.
        pixels: of the crop; black unless told.
        seen: what the network saw; black unless told.
        heat: of all its map; None for no map.
        logits: of its classes; all 0 unless told, none where a gate is given.
        changes: of its record.
    """
    record = cell_record(box, **changes)
    black = np.zeros((112, 112, 3), np.uint8)
    scores = np.zeros(12) if logits is None else np.asarray(logits)
    square = crop or box
    whole = Bgr(black if pixels is None else pixels)
    return CellResult(
        record,
        square,
        Bgr(whole[max(0, -square.y0) :, max(0, -square.x0) :]),
        Rgb(black if seen is None else seen),
        None if heat is None else np.full((7, 7), heat, np.float32),
        None if record.gate is not None else scores.astype(np.float32),
    )


def tracked(
    frame: int,
    cell: int | None = None,
    gate: str | None = None,
    reasons: tuple[str, ...] = (),
    age_s: float = 0.0,
) -> TrackedFrame:
    """A frame in which a new cell is seen; its number is the frame's plus 1."""
    cell = cell or frame + 1
    sighting = cell_result(
        Box(0, 30, 40, 70),
        CROP,
        SQUARE,
        np.ascontiguousarray(NOISE[:32, frame % 100 : frame % 100 + 32]),
        heat=0.3,
        logits=np.arange(12) + frame,
        gate=gate,
        red_cell_px=20.0,
    )
    decision = Decision(
        cell,
        None if gate else "SNE",
        None if gate else 0.9,
        (gate,) if gate else reasons,
        0 if gate else 1,
        sighting.logits,
    )
    seen = Frame(frame, frame / 10, NOISE, "clip.avi", now_s() - age_s)
    result = FrameResult(seen, (sighting,))
    return TrackedFrame(result, (cell,), (gate is None,), (decision,))


def rows(folder: Path, query: str) -> list[tuple[Any, ...]]:
    """What a session's record holds; it has to be sound."""
    with closing(sqlite3.connect(folder / "session.sqlite")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return database.execute(query).fetchall()


def draw_cell(rng: np.random.Generator, code: str, side: int = 96) -> np.ndarray:
    """A stand-in for a cell: BGR (side, side, 3), disc and colour by class.

    Red cells lie around it, so that its scale can be measured.
    """
    k = CODES.index(code)
    image = np.full((side, side, 3), (205, 230, 250), np.uint8)
    for x, y in ((10, 12), (side - 12, 14), (14, side - 12), (side - 14, side - 14)):
        cv2.circle(image, (x, y), 9, (150, 150, 200), -1, cv2.LINE_AA)
    colour = (200 - 8 * k, 40 + 6 * k, 90 + 12 * (k % 5))
    at = side // 2 + rng.integers(-3, 4, 2)
    cv2.circle(image, (int(at[0]), int(at[1])), 9 + k, colour, -1, cv2.LINE_AA)
    noise = rng.normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
