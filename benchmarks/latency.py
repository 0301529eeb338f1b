"""Time and memory of one inference on this machine."""

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import edgecell
from edgecell.errors import EdgecellError
from edgecell.image.preprocess import Rgb
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import read_tflite
from edgecell.model.runtime import Runtime, open_interpreter

WARM_UP = 10
"""Runs that aren't timed: caches, lazily packed weights, the clock's governor."""


@dataclass(frozen=True)
class Timing:
    """Times of repeated runs, in milliseconds.

    Attributes:
        median_ms: the middle one.
        p95_ms: 95th percentile: the shortest that 95 % of the runs kept within.
        mean_ms: the mean.
    """

    median_ms: float
    p95_ms: float
    mean_ms: float

    @classmethod
    def from_ns(cls, samples: Sequence[int]) -> "Timing":
        """Sums up durations in nanoseconds; at least one."""
        ordered = sorted(samples)
        return cls(
            median_ms=float(np.median(ordered)) / 1e6,
            p95_ms=ordered[math.ceil(len(ordered) * 95 / 100) - 1] / 1e6,
            mean_ms=math.fsum(ordered) / len(ordered) / 1e6,
        )


@dataclass(frozen=True)
class Latency:
    """Latency of one inference, batch 1.

    Attributes:
        threads: threads of the interpreter.
        runs: timed runs of each kind.
        invoke: the network alone.
        classify: with the look-up of the input and the dequantised, normalised
            outputs: from a cell's image to its prediction.
        attributes: what the attributes add to each inference of the camera loop: their
            logits from the pooled features, which tell the microscope anyway. When a
            cell is shown they become calibrated values. None if the model has none.
    """

    threads: int
    runs: int
    invoke: Timing
    classify: Timing
    attributes: Timing | None = None


@dataclass(frozen=True)
class Machine:
    """What the figures were measured on.

    Attributes:
        architecture: 'x86_64', 'aarch64', ...
        model: name of the board, or else of the processor; never empty.
        cores: logical processors that this process may use.
        ram_bytes: installed memory; None where /proc doesn't say.
        system: operating system with its version.
        python: Python's version.
        numpy: numpy's version.
    """

    architecture: str
    model: str
    cores: int
    ram_bytes: int | None
    system: str
    python: str
    numpy: str


@dataclass(frozen=True)
class Memory:
    """Peak resident memory of a process that does nothing but classify.

    Attributes:
        peak_bytes: of the whole process: Python, numpy, OpenCV, runtime, model.
        growth_bytes: the part that loading the runtime and the model and running
            it added.
    """

    peak_bytes: int
    growth_bytes: int


def _timing(action: Callable[[], object], runs: int) -> Timing:
    for _ in range(WARM_UP):
        action()
    samples = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        action()
        samples.append(time.perf_counter_ns() - start)
    return Timing.from_ns(samples)


def measure_latency(path: Path, threads: int, runs: int) -> tuple[Latency, Runtime]:
    """Times a model.

    The two kinds are timed one after the other and not in turns: two interpreters
    would push each other's weights out of the cache.

    Args:
        path: a ``.tflite`` that `edgecell convert` wrote.
        threads: threads of the interpreter, at least 1.
        runs: timed runs of each kind, at least 1, after a warm-up.

    Returns:
        The times and the runtime that ran the model.

    Raises:
        ModelError: not a model of ours, or damaged.
        MissingPackageError: no runtime takes it.
    """
    flatbuffer, record = read_tflite(path)
    interpreter, runtime, _ = open_interpreter(flatbuffer, threads)
    rng = np.random.default_rng(0)
    details = interpreter.get_input_details()[0]
    # Any values do (kernels take the same time for all), if the type holds them.
    interpreter.set_tensor(
        details["index"],
        rng.integers(0, 128, tuple(details["shape"])).astype(details["dtype"]),
    )
    invoke = _timing(interpreter.invoke, runs)
    del interpreter
    classifier = Classifier(path, threads)
    size = record.preprocessing.input_size
    image = Rgb(rng.integers(0, 256, (size, size, 3), np.uint8))
    classify = _timing(lambda: classifier.classify(image), runs)
    heads = record.attributes
    if heads is None:
        return Latency(threads, runs, invoke, classify), runtime
    pooled = rng.random(heads.width, np.float32)
    told = _timing(lambda: heads.logits(pooled), runs)
    return Latency(threads, runs, invoke, classify, told), runtime


def _proc_field(file: Path, key: str) -> str | None:
    """Value of a 'key: value' line of a file in /proc; None if there is none."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((v.strip() for k, _, v in pairs if k.strip() == key), None)


def _proc_bytes(file: Path, key: str) -> int | None:
    """The same for a value in kB (which in /proc means KiB), in bytes."""
    value = _proc_field(file, key)
    return int(value.split()[0]) * 1024 if value else None


def machine_model(board: Path, cpuinfo: Path) -> str:
    """Name of this machine: its board if it has a device tree, else its processor.

    Args:
        board: /proc/device-tree/model, which x86 machines don't have.
        cpuinfo: /proc/cpuinfo, which names no processor on ARM.
    """
    try:
        return board.read_text(errors="replace").rstrip("\0\n")
    except OSError:
        return _proc_field(cpuinfo, "model name") or platform.machine()


def this_machine() -> Machine:
    """Describes the machine that this process runs on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        architecture=platform.machine(),
        model=machine_model(Path("/proc/device-tree/model"), Path("/proc/cpuinfo")),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        ram_bytes=_proc_bytes(Path("/proc/meminfo"), "MemTotal"),
        system=platform.platform(),
        python=platform.python_version(),
        numpy=np.__version__,
    )


def peak_resident_bytes() -> int | None:
    """Highest resident memory of this process so far; None where /proc is missing.

    Not ``ru_maxrss``: Linux hands that down through fork and exec, so that a child
    of a large process starts with its parent's peak.
    """
    return _proc_bytes(Path("/proc/self/status"), "VmHWM")


def resident_bytes() -> int | None:
    """Resident memory of this process now; None where /proc is missing."""
    return _proc_bytes(Path("/proc/self/status"), "VmRSS")


def measure_memory(path: Path) -> Memory | None:
    """Peak memory of classifying with a model on one thread, in a fresh process.

    Args:
        path: a ``.tflite`` that `edgecell convert` wrote.

    Returns:
        The memory; None where the system doesn't report it (anything but Linux).

    Raises:
        EdgecellError: the process failed.
    """
    if peak_resident_bytes() is None:
        return None
    done = subprocess.run(
        [sys.executable, "-m", "edgecell.benchmarks.latency", str(path.resolve())],
        # -m looks in the working directory first: there lies this very package.
        cwd=Path(edgecell.__file__).parents[1],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.splitlines() or [f"status {done.returncode}"])[-1]
        raise EdgecellError(f"memory cannot be measured: {reason}")
    return Memory(**json.loads(done.stdout))


def _classify_alone(path: Path) -> Memory:
    """Classifies a few images; run by `measure_memory` in a process of its own."""
    before = peak_resident_bytes()
    classifier = Classifier(path)
    size = classifier.record.preprocessing.input_size
    for _ in range(3):
        classifier.classify(Rgb(np.zeros((size, size, 3), np.uint8)))
    after = peak_resident_bytes()
    assert before is not None
    assert after is not None
    return Memory(peak_bytes=after, growth_bytes=after - before)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(_classify_alone(Path(sys.argv[1])))))
