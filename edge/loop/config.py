"""What a run is to do, in one record."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecell.edge.analyse.pipeline import check_red_cell_px
from edgecell.edge.count.sequential import Goal, parse_goal
from edgecell.edge.record.policy import Policy, parse_policy
from edgecell.errors import InputError
from edgecell.explainers import DEFERRED
from edgecell.model import BUNDLED

MAX_THREADS = 64


@dataclass(frozen=True)
class LoopConfig:
    """The settings of a run; they are checked when it is made.

    Attributes:
        source: address of the frames: a file, folder, glob, camera or stream, or
            'demo'; see `open_source`.
        model: a ``.tflite`` or ``.onnx`` that `edgecell convert` wrote, or 'bundled'.
        scope: file of `edgecell trust`, which says what the model was shown to do on
            this microscope; None for none.
        out: new or empty folder for the results; None names one in edgecell-out/
            after the source and the time.
        watch: wait for more images in a folder or glob.
        red_cell_px: diameter of a red cell in the frames, pixels; None measures it.
        threads: threads of the network and of OpenCV, 1..64; None takes half the
            machine's cores.
        runtime: 'litert', 'onnxruntime' or 'openvino', as the model is a ``.tflite`` or
            an ``.onnx``; None takes the first that works.
        max_frames: end after so many frames; None for never.
        target: end once so many white cells are counted; None for never.
        until: end once all of these are decided, such as 'MYE<5%'; see `parse_goal`.
        keep_bytes: bound on the disk use of this session and those beside it; None
            for no bound.
        maps: draw where the network looked into the pictures.
        video: .avi file that the annotated frames are drawn into; None for none.
        explain: cells to put on the queue of explanations: 'none', 'flagged', 'all',
            or 'sample:N' for N of each class.
        explain_by: methods of these explanations, from `DEFERRED`.
        health_file: JSON file that is written every second; None for none.

    Raises:
        InputError: a setting is out of range, or two don't go together.
    """

    source: str
    model: str = BUNDLED
    scope: Path | None = None
    out: Path | None = None
    watch: bool = False
    red_cell_px: float | None = None
    threads: int | None = None
    runtime: str | None = None
    max_frames: int | None = None
    target: int | None = None
    until: tuple[str, ...] = ()
    keep_bytes: int | None = None
    maps: bool = True
    video: Path | None = None
    explain: str = "none"
    explain_by: tuple[str, ...] = DEFERRED[:1]
    health_file: Path | None = None

    def __post_init__(self) -> None:
        for name in ("scope", "out", "video", "health_file"):
            value = getattr(self, name)
            if isinstance(value, str):
                object.__setattr__(self, name, Path(value))
        check_red_cell_px(self.red_cell_px)
        if self.threads is not None and not 1 <= self.threads <= MAX_THREADS:
            raise InputError(f"threads must be 1 to {MAX_THREADS}, not {self.threads}")
        for name in ("max_frames", "target", "keep_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if self.video is not None and self.keep_bytes is not None:
            raise InputError(
                "the --video file grows without limit, which --keep is meant to "
                "prevent; leave out one of the two"
            )
        unknown = [method for method in self.explain_by if method not in DEFERRED]
        if unknown:
            raise InputError(
                f"'{unknown[0]}' is not a method that can be queued; choose from "
                f"{', '.join(DEFERRED)}"
            )
        parse_policy(self.explain, self.explain_by)
        _ = self.goals

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The questions that the run has to decide before it ends."""
        return tuple(parse_goal(text) for text in self.until)

    @property
    def policy(self) -> Policy:
        """Which cells are explained later."""
        return parse_policy(self.explain, self.explain_by)

    @property
    def network_threads(self) -> int:
        """Threads of the network."""
        # With all cores, tflite-runtime took 5 times as long beside another busy
        # program.
        cores = os.cpu_count() or 1
        return self.threads or max(1, min(cores // 2, MAX_THREADS))

    def recorded(self) -> dict[str, Any]:
        """The settings that the figures of a session depend on, ready for JSON."""
        return {
            "red_cell_px": self.red_cell_px,
            "threads": self.network_threads,
            "target": self.target,
            "until": list(self.until),
            "explain": self.explain,
        }
