"""The runtime that a file is for: what it accepts, and whether it runs the file."""

import os
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from edgecell.errors import InputError, ModelError
from edgecell.model.classifier import Classifier
from edgecell.model.graph import Graph
from edgecell.model.modelfile import read_tflite

Target = Literal["litert", "tflite-runtime-2.14"]
TARGETS: tuple[Target, ...] = get_args(Target)

_OLD_VERSIONS = {
    "ADD": 5,
    "AVERAGE_POOL_2D": 3,
    "CONCATENATION": 4,
    "CONV_2D": 7,
    "DEPTHWISE_CONV_2D": 7,
    "FULLY_CONNECTED": 10,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
}
"""Highest operator versions that tflite-runtime 2.14 builds an interpreter for, found
by raising the version in a file until it refuses (tests/convert/test_target.py).
Operators that aren't listed are of version 1 in all of our files."""

_OLD_PACKAGES = ("tflite-runtime==2.14.0", "numpy<2")
_IMAGES = 32
ENVIRONMENT = "EDGECELL_TFLITE_RUNTIME"
"""Environment variable: a Python that has tflite-runtime 2.14 and numpy 1."""


@dataclass(frozen=True)
class TargetRun:
    """A file on the runtime that it is for.

    Attributes:
        target: the runtime.
        ran: whether the file was run there.
        reason: why it was not.
        images: images that were run.
        agreement: share on which target and this machine's runtime name the same
            class; None if it was not run, or is that runtime.
        median_ms: median time of one inference on one thread, milliseconds.
        worst_steps: largest difference of a logit, in its quantisation steps (in
            units of 1 for float outputs); likewise.
    """

    target: Target
    ran: bool
    reason: str = ""
    images: int = 0
    agreement: float | None = None
    median_ms: float | None = None
    worst_steps: float | None = None


def check_versions(graph: Graph, target: Target) -> None:
    """Checks that a target knows the version of every operator.

    Raises:
        ModelError: it doesn't; names the operator and what to do.
    """
    if target == "litert":
        return
    for operator in graph.operators:
        known = _OLD_VERSIONS.get(operator.name, 1)
        if operator.version > known:
            raise ModelError(
                f"{target} knows {operator.name} up to version {known}, and {operator} "
                f"is of version {operator.version}; choose another scheme, or "
                "--target litert"
            )


def run_on_target(
    path: Path, images: npt.NDArray[np.uint8], target: Target
) -> TargetRun:
    """Runs a file on its target and compares it with the runtime here.

    Args:
        path: a ``.tflite`` of ours.
        images: uint8 RGB (N, S, S, 3); the first 32 are run.
        target: the runtime.

    Raises:
        ModelError: the target refuses the file.
        InputError: the Python that `ENVIRONMENT` names is not there.
    """
    classifier = Classifier(path)
    if target == "litert":
        if classifier.runtime.name != "ai-edge-litert":
            return TargetRun(target, False, "ai-edge-litert is not installed here")
        seconds = []
        for image in images[:_IMAGES]:
            start = time.perf_counter()
            prediction = classifier.classify(image)
            seconds.append(time.perf_counter() - start)
            if not np.isfinite(prediction.logits).all():
                raise ModelError(f"{path} gives no finite numbers under {target}")
        median_ms = 1000 * float(np.median(seconds))
        return TargetRun(target, True, "", len(seconds), None, median_ms)
    try:
        python = _old_python()
    except (OSError, subprocess.SubprocessError) as e:
        return TargetRun(target, False, str(e))
    here = np.stack([classifier.classify(image).logits for image in images[:_IMAGES]])
    inputs = np.stack([classifier.input_tensor(image) for image in images[:_IMAGES]])
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder)
        (job / "model.tflite").write_bytes(read_tflite(path)[0])
        np.save(job / "inputs.npy", inputs)
        worker = Path(__file__).with_name("target_worker.py")
        done = subprocess.run(
            [python, str(worker), folder], capture_output=True, text=True, check=False
        )
        if done.returncode:
            error = done.stderr.strip().rsplit("Error: ", 1)[-1]
            raise ModelError(f"{target} refuses the file: {' '.join(error.split())}")
        there = np.load(job / "logits.npy")
        median_ms = 1000 * float(np.median(np.load(job / "seconds.npy")))
    steps = np.abs(here - there).max() / (classifier.logit_step or 1.0)
    same = float((here.argmax(1) == there.argmax(1)).mean())
    return TargetRun(target, True, "", len(here), same, median_ms, float(steps))


def _old_python() -> str:
    """A Python with tflite-runtime 2.14, installed once into the user's cache."""
    given = os.environ.get(ENVIRONMENT)
    if given and not Path(given).exists():
        raise InputError(f"{ENVIRONMENT} names {given}, which does not exist")
    if given:
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    home = cache / "edgecell" / f"tflite-runtime-2.14-py{sys.version_info.minor}"
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        venv.create(home, with_pip=True, clear=True)
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", *_OLD_PACKAGES],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
            raise OSError(f"it can't be installed here ({last})")
        (home / "complete").touch()
    return str(python)
