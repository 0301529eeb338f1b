"""Where the time of a frame goes: processor time of each stage of the loop."""

import functools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgecell.benchmarks.latency import Machine, this_machine
from edgecell.benchmarks.speed.scene import PacedFrames
from edgecell.edge.analyse import pipeline
from edgecell.edge.analyse.scale import ScaleEstimator
from edgecell.edge.count.microscopes import MicroscopeGate
from edgecell.edge.count.tracking import Tracker
from edgecell.edge.find.localise import Localiser
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import open_run
from edgecell.edge.record import recorder
from edgecell.edge.record.recorder import Recorder
from edgecell.edge.record.store import Store
from edgecell.model.classifier import Classifier

INFERENCE, FINDING = "inference", "finding"
OTHER = "other"
_REST = "threads, queues and the rest"
_KEEP_BYTES = 500 << 20

STAGES: tuple[tuple[str, str, object, str], ...] = (
    ("the source makes the frame", "source", PacedFrames, "image_at"),
    ("black surrounds and bands", FINDING, pipeline, "field_of"),
    ("is the frame fit", FINDING, pipeline, "frame_gate"),
    ("cells and scale found", FINDING, Localiser, "look"),
    ("red cell's size", FINDING, ScaleEstimator, "update"),
    ("white balance", OTHER, pipeline, "white_gains"),
    ("cells brought to the network's size", OTHER, pipeline, "view_in"),
    ("are the cells in focus", OTHER, pipeline, "cell_gate"),
    ("the rest of finding and cutting out", OTHER, pipeline.FrameAnalyser, "find"),
    ("the network", INFERENCE, None, "invoke"),
    ("its input and outputs", OTHER, Classifier, "classify_all"),
    ("maps, checks, records", OTHER, pipeline.FrameAnalyser, "classify"),
    ("cells followed and decided on", OTHER, Tracker, "update"),
    ("which microscope", OTHER, MicroscopeGate, "admit"),
    ("handed to the recorder", OTHER, Recorder, "put"),
    ("recorded", OTHER, Store, "write"),
    ("pictures drawn", OTHER, recorder, "annotate"),
    ("pictures written", OTHER, Store, "write_picture"),
)
"""What is timed: name, kind, and where the function is found by those who call it; the
network's is the interpreter's own. A stage's time is its own, without that of stages
that it calls."""


@dataclass(frozen=True)
class StageCost:
    """Processor time of one stage.

    Attributes:
        name: what it does.
        kind: 'inference', 'finding', 'source' or 'other'.
        ms: a frame's, mean.
        calls: how often a frame calls it, mean.
    """

    name: str
    kind: str
    ms: float
    calls: float


@dataclass(frozen=True)
class FrameCost:
    """Where the time of a frame goes.

    Attributes:
        machine: what it ran on.
        runtime: what ran the network.
        width: of the frames, pixels.
        height: likewise.
        frames: how many.
        cells_per_frame: cells classified in a frame, mean.
        fps: frames a second, as fast as the loop could.
        cpu_ms: processor time of a frame over all threads, without the source's.
        stages: the parts of it.
    """

    machine: Machine
    runtime: str
    width: int
    height: int
    frames: int
    cells_per_frame: float
    fps: float
    cpu_ms: float
    stages: tuple[StageCost, ...]

    def ms(self, *kinds: str) -> float:
        """Time of all stages of some kinds."""
        return sum(stage.ms for stage in self.stages if stage.kind in kinds)

    @property
    def other_share(self) -> float:
        """What is neither inference nor finding, 0..1."""
        return self.ms(OTHER) / self.cpu_ms

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {
            "inference_ms": round(self.ms(INFERENCE), 3),
            "finding_ms": round(self.ms(FINDING), 3),
            "other_ms": round(self.ms(OTHER), 3),
            "other_share": round(self.other_share, 4),
        }


class Stopwatch:
    """Adds up the processor time of functions, without that of the ones they call."""

    def __init__(self) -> None:
        """Starts at zero."""
        self.ns: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._open = threading.local()
        self._adding = threading.Lock()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose time is added to a name."""

        @functools.wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            inner: list[int] = self._open.__dict__.setdefault("inner", [])
            inner.append(0)
            start = time.thread_time_ns()
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.thread_time_ns() - start
                own = whole - inner.pop()
                if inner:
                    inner[-1] += whole
                with self._adding:
                    self.ns[name] += own
                    self.calls[name] += 1

        return measured


class _TimedInterpreter:
    """An interpreter whose inferences are timed."""

    def __init__(self, interpreter: Any, watch: Stopwatch, name: str) -> None:
        self._interpreter = interpreter
        self.invoke = watch.timed(name, interpreter.invoke)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._interpreter, name)


@contextmanager
def _watched(classifier: Classifier) -> Iterator[Stopwatch]:
    """Times every stage for as long as it is open."""
    watch = Stopwatch()
    before: list[tuple[object, str, Any]] = []
    for name, _, owner, attribute in STAGES:
        place: object = classifier if owner is None else owner
        attribute = "_interpreter" if owner is None else attribute
        found = getattr(place, attribute)
        before.append((place, attribute, found))
        made: object
        if owner is None:
            made = _TimedInterpreter(found, watch, name)
        else:
            made = watch.timed(name, found)
        setattr(place, attribute, made)
    try:
        yield watch
    finally:
        for place, attribute, found in before:
            setattr(place, attribute, found)


def measure_stages(model: Path, frames: int, size: tuple[int, int]) -> FrameCost:
    """Runs the loop as fast as it goes, with one thread for the network.

    Everything is on as in 'edgecell run': all is recorded, and one frame of a second
    of film is drawn.

    Args:
        model: a ``.tflite`` that `edgecell convert` wrote.
        frames: how many, at least 30.
        size: (width, height) of a frame.

    Raises:
        ModelError: not a model of ours, or damaged.
        OutputError: the temporary folder's disk is full.
    """
    classifier = Classifier(model, threads=1)
    source = PacedFrames(frames, size, live=False)
    with tempfile.TemporaryDirectory(prefix="edgecell-bench-") as folder:
        config = LoopConfig(
            source.name,
            out=Path(folder) / "session",
            threads=1,
            keep_bytes=_KEEP_BYTES,
        )
        run = open_run(config, source, classifier)
        with _watched(classifier) as watch:
            before_s = time.process_time()
            (session,) = run.go()
            cpu_ms = 1e3 * (time.process_time() - before_s) / frames
    if session.error is not None:
        raise session.error
    stages = [
        StageCost(
            name,
            kind,
            round(watch.ns[name] / 1e6 / frames, 4),
            round(watch.calls[name] / frames, 3),
        )
        for name, kind, _, _ in STAGES
    ]
    rest = cpu_ms - sum(stage.ms for stage in stages)
    stages.append(StageCost(_REST, OTHER, round(max(0.0, rest), 4), 1.0))
    source_ms = sum(stage.ms for stage in stages if stage.kind == "source")
    return FrameCost(
        machine=this_machine(),
        runtime=str(classifier.runtime),
        width=size[0],
        height=size[1],
        frames=session.tally.frames,
        cells_per_frame=round(session.tally.classified / frames, 2),
        fps=round(session.tally.frames / session.tally.seconds, 2),
        cpu_ms=round(cpu_ms - source_ms, 3),
        stages=tuple(stages),
    )


def stages_text(cost: FrameCost) -> str:
    """The table for people."""
    lines = [
        f"{cost.frames} frames of {cost.width}x{cost.height} with "
        f"{cost.cells_per_frame:.1f} cells each, as fast as the loop can process them",
        "",
        f"{'':<38}{'ms a frame':>10}{'share':>8}{'calls':>8}",
    ]
    kinds = (FINDING, INFERENCE, OTHER)
    for kind in kinds:
        for stage in cost.stages:
            if stage.kind == kind:
                share = stage.ms / cost.cpu_ms
                lines.append(
                    f"{stage.name:<38}{stage.ms:>10.2f}{share:>8.1%}{stage.calls:>8.2f}"
                )
    lines.append("")
    for kind in kinds:
        ms = cost.ms(kind)
        lines.append(f"{kind:<38}{ms:>10.2f}{ms / cost.cpu_ms:>8.1%}")
    m = cost.machine
    return "\n".join(
        [
            *lines,
            f"{'processor time, all threads':<38}{cost.cpu_ms:>10.2f}",
            f"{'frames a second':<38}{cost.fps:>10.1f}",
            "",
            "neither finding nor inference: the target is at most 25 %",
            f"runtime: {cost.runtime}, threads: 1",
            f"machine: {m.model}, {m.architecture}, {m.cores} cores",
        ]
    )
