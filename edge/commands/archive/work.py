"""What a worker makes of a chunk: a row for each image, or for each cell of a frame."""

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import cv2

from edgecell.classes import PLATELET
from edgecell.data.dataset import decode
from edgecell.edge.analyse.pipeline import FrameAnalyser
from edgecell.edge.analyse.single import RedCell, classify_single
from edgecell.edge.commands.archive.items import Item
from edgecell.edge.sources.base import Frame
from edgecell.errors import InputError
from edgecell.image.preprocess import to_bgr
from edgecell.model.classifier import Classifier
from edgecell.model.microscopes.microscope import CELLS
from edgecell.model.modelfile import ModelRecord

Row = dict[str, Any]
_TOP = 2


@dataclass(frozen=True)
class Task:
    """How images are to be read.

    Attributes:
        red_cell_px: see `RedCell`; of frames it is measured if it is None.
        frames: whether they are frames with many cells.
    """

    red_cell_px: RedCell = None
    frames: bool = False


@dataclass(frozen=True)
class Part:
    """The result of a chunk.

    Attributes:
        rows: in the order of the images, ready for JSON.
        samples: of some cells for each size of image, 'WIDTHxHEIGHT', the pooled
            features that identify the microscope.
    """

    rows: list[Row]
    samples: dict[str, list[list[float]]]


def part_of(
    classifier: Classifier,
    task: Task,
    images: Sequence[tuple[str, Callable[[], bytes]]],
) -> Part:
    """Works on the images of a chunk; one that can't be read is a row that says why.

    Args:
        classifier: the model.
        task: how they are to be read.
        images: name of each, and what reads it.
    """
    part = Part([], {})
    px = task.red_cell_px if isinstance(task.red_cell_px, float) else None
    analyser = FrameAnalyser(classifier, px) if task.frames else None
    for name, read in images:
        try:
            image = decode(read(), name)
            if analyser is None:
                _cell(classifier, task, name, image, part)
            else:
                _cells(analyser, classifier.record, name, image, part)
        except InputError as e:
            part.rows.append({"image": name, "error": str(e).removeprefix(f"{name} ")})
    return part


def _cell(
    classifier: Classifier, task: Task, name: str, image: Any, part: Part
) -> None:
    """Adds the row of a single-cell image."""
    found = classify_single(classifier, image, task.red_cell_px)
    part.rows.append(
        {
            "image": name,
            "size": "{}x{}".format(*found.size),
            **_class(found.prediction.top(_TOP)),
            "review": list(found.reasons),
        }
    )
    if classifier.record.microscopes and found.code != PLATELET:
        _sample(part, part.rows[-1]["size"], found.prediction.pooled)


def _cells(
    analyser: FrameAnalyser, model: ModelRecord, name: str, image: Any, part: Part
) -> None:
    """Adds a row for each cell of a frame, or one that says why there is none."""
    found = analyser.analyse(Frame(0, None, to_bgr(image), name))
    size = f"{image.shape[1]}x{image.shape[0]}"
    if found.gate is not None:
        part.rows.append({"image": name, "size": size, "error": found.gate})
        return
    for number, cell in enumerate(found.cells, 1):
        box, record = cell.record.box, cell.record
        reasons = [*cell.reasons(model)]
        if record.cut_by_border:
            reasons.append("cut by the border")
        top = [(score.code, score.probability) for score in record.top[:_TOP]]
        part.rows.append(
            {
                "image": name,
                "size": size,
                "cell": number,
                **asdict(box),
                **_class(top),
                "review": reasons,
            }
        )
        if cell.pooled is not None and record.kind != "platelet":
            _sample(part, size, cell.pooled)
    if not found.cells:
        part.rows.append({"image": name, "size": size, "cell": 0})


def _class(top: Sequence[tuple[str, float]]) -> Row:
    if not top:
        return {}
    (code, probability), *others = top
    return {
        "class": code,
        "probability": round(probability, 6),
        "runner_up": others[0][0] if others else None,
    }


def _sample(part: Part, size: str, pooled: Any) -> None:
    kept = part.samples.setdefault(size, [])
    if len(kept) < CELLS:
        kept.append([float(value) for value in pooled])


_ONE_AT_A_TIME = threading.Lock()
"""An interpreter is no place for two threads."""


@lru_cache(maxsize=1)
def _local(model: str) -> Classifier:
    return Classifier(model)


@lru_cache(maxsize=1)
def _sent(model: bytes) -> Classifier:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.write_bytes(model)
        return Classifier(path)


def begin_worker() -> None:
    """Prepares a process: OpenCV on one thread, and it ends when the parent does.

    A process pool's workers would wait for ever if their parent were killed.
    """
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True)
        watch.start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def work_here(model: str, task: Task, items: Sequence[Item]) -> Part:
    """What a process of this machine does with a chunk."""
    return part_of(_local(model), task, [(item.name, item.read) for item in items])


def work_there(
    model: bytes, task: Task, images: Sequence[tuple[str, bytes | str]]
) -> Part:
    """What a cluster's worker does with a chunk.

    Args:
        model: the whole model file, since there need be no common file system.
        task: how the images are to be read.
        images: name and content of each; or, as text, why it can't be read.
    """

    def read(content: bytes | str) -> bytes:
        if isinstance(content, str):
            raise InputError(content)
        return content

    with _ONE_AT_A_TIME:
        given = [(name, lambda c=content: read(c)) for name, content in images]
        return part_of(_sent(model), task, given)
