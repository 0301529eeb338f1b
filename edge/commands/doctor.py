"""``edgecell doctor``."""

import importlib
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecell import __version__
from edgecell.cli import json_option, report
from edgecell.errors import EdgecellError

if TYPE_CHECKING:
    from cv2 import VideoCapture

_SAMPLE_CELL = "SNE_2.jpg"
_RUNS = 5
_INDICES_TRIED = 4
_INSTALL = 'pip install ".[edge]"'


@dataclass(frozen=True)
class Checkup:
    """What `edgecell doctor` found.

    Attributes:
        edgecell: our version.
        python: Python's version.
        machine: the processor's architecture.
        board: the board's name, such as 'Raspberry Pi 5 Model B Rev 1.0'; '' if the
            system doesn't say.
        cpu: the processor's name, '' likewise.
        numpy: version, or '' if it doesn't import.
        opencv: likewise.
        runtime: TFLite runtime in use, with version; '' if none works.
        attempts: runtimes tried: (name, version, '' or what went wrong).
        inference: class, probability and milliseconds for a built-in cell.
        cameras: cameras and what they answer: 'WIDTHxHEIGHT', or ''.
        links: of those cameras, the device file that stays theirs wherever they are
            plugged in, if the system makes one.
        problems: what is wrong and what to do about it.
    """

    edgecell: str
    python: str
    machine: str
    board: str
    cpu: str
    numpy: str
    opencv: str
    runtime: str = ""
    attempts: list[dict[str, str]] = field(default_factory=list)
    inference: dict[str, Any] | None = None
    cameras: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def works(self) -> bool:
        """Whether a network can run here."""
        return self.inference is not None


def examine(
    cameras: Callable[[], dict[str, str]] | None = None,
    links: Callable[[], dict[str, str]] | None = None,
) -> Checkup:
    """Checks this machine.

    Args:
        cameras: asks the cameras; None for `ask_cameras`.
        links: finds their lasting names; None for `lasting_links`.
    """
    problems: list[str] = []
    versions = {name: _version(name, problems) for name in ("numpy", "cv2")}
    found: dict[str, Any] = {}
    if all(versions.values()):
        # Without these two nothing of the device side can even be imported.
        found = _try_model(problems)
        found["cameras"] = (cameras or ask_cameras)()
        found["links"] = (links or lasting_links)()
    problems += numpy_problems(versions["numpy"])
    return Checkup(
        edgecell=__version__,
        python=platform.python_version(),
        machine=platform.machine(),
        board=_first_line(Path("/proc/device-tree/model")),
        cpu=_cpu_name(),
        numpy=versions["numpy"],
        opencv=versions["cv2"],
        problems=problems,
        **found,
    )


def _version(module: str, problems: list[str]) -> str:
    try:
        return str(importlib.import_module(module).__version__)
    except ImportError as e:
        problems.append(f"{module} does not import ({e}); {_INSTALL}")
        return ""


def numpy_problems(numpy: str) -> list[str]:
    """Says so if tflite-runtime can't work with this version of numpy.

    It was built for numpy 1, but lets pip install numpy 2.
    """
    from edgecell.model.runtime import installed

    old = [r for r in installed() if r.name == "tflite-runtime"]
    if not old or not numpy or int(numpy.split(".")[0]) < 2:
        return []
    return [
        f"tflite-runtime {old[0].version} cannot work with numpy {numpy}; to use "
        "it: pip install 'numpy<2' 'opencv-python-headless<4.12'"
    ]


def _try_model(problems: list[str]) -> dict[str, Any]:
    """Runs the built-in model on a built-in cell."""
    from time import perf_counter

    from edgecell.data.dataset import decode
    from edgecell.edge.find.localise import Localiser
    from edgecell.edge.sources import SAMPLES
    from edgecell.image.preprocess import cell_image
    from edgecell.model import BUNDLED
    from edgecell.model.classifier import Classifier
    from edgecell.model.modelfile import bundled_finder

    try:
        classifier = Classifier(BUNDLED)
        Localiser.open(bundled_finder())
    except EdgecellError as e:
        problems.append(str(e))
        return {}
    path = SAMPLES / "cells" / _SAMPLE_CELL
    cell = cell_image(
        decode(path.read_bytes(), path.name), classifier.record.preprocessing
    )
    prediction = classifier.classify(cell)  # the first is slower, and isn't timed
    times = []
    for _ in range(_RUNS):
        start = perf_counter()
        classifier.classify(cell)
        times.append((perf_counter() - start) * 1e3)
    code, probability = prediction.top(1)[0]
    return {
        "runtime": str(classifier.runtime),
        "attempts": [
            {"name": a.runtime.name, "version": a.runtime.version, "error": a.error}
            for a in classifier.attempts
        ],
        "inference": {
            "cell": path.name,
            "class": code,
            "probability": round(probability, 4),
            "ms": round(min(times), 2),
        },
    }


def ask_cameras(
    devices: Path = Path("/dev"),
    open_one: Callable[[str], "VideoCapture | None"] | None = None,
    linux: bool = sys.platform == "linux",
) -> dict[str, str]:
    """Asks each camera for a frame.

    Args:
        devices: where Linux lists them.
        open_one: opens a camera by its number; None for `open_camera`.
        linux: whether the system lists them; elsewhere the first numbers are tried.

    Returns:
        Camera number -> 'WIDTHxHEIGHT', or '' if it doesn't answer.
    """
    from edgecell.edge.sources.camera import open_camera, retrieve

    if linux:
        names = [path.name for path in devices.glob("video*")]
        numbers = sorted(int(n[5:]) for n in names if n[5:].isdecimal())
    else:
        numbers = list(range(_INDICES_TRIED))
    answers: dict[str, str] = {}
    for number in numbers:
        capture = (open_one or partial(open_camera, wait_s=1))(str(number))
        image = retrieve(capture) if capture and capture.grab() else ""
        if capture:
            capture.release()
        # A board's video nodes are codecs, too; elsewhere most numbers are nothing.
        if not isinstance(image, str):
            answers[str(number)] = f"{image.shape[1]}x{image.shape[0]}"
        elif linux:
            answers[str(number)] = ""
    return answers


def lasting_links(folder: Path = Path("/dev/v4l/by-id")) -> dict[str, str]:
    """Camera number -> the link to it that udev names by make and serial number."""
    links = {}
    for link in sorted(folder.glob("*")):
        number = link.resolve().name.removeprefix("video")
        links[number] = str(link)
    return links


def _first_line(path: Path) -> str:
    try:
        return path.read_text(errors="replace").split("\n")[0].strip("\0 ")
    except OSError:
        return ""


def _cpu_name() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor()
    match = re.search(r"^(?:model name|Hardware)\s*:\s*(.+)$", info, re.MULTILINE)
    return match.group(1).strip() if match else platform.processor()


def text(checkup: Checkup) -> str:
    """The findings for people."""
    lines = [
        f"edgecell   {checkup.edgecell}",
        f"python     {checkup.python} on {checkup.machine}",
        f"board      {checkup.board or 'unknown'}",
        f"processor  {checkup.cpu or 'unknown'}",
        f"numpy      {checkup.numpy or 'missing'}",
        f"opencv     {checkup.opencv or 'missing'}",
        f"runtime    {checkup.runtime or 'none works'}",
    ]
    for attempt in checkup.attempts:
        outcome = attempt["error"] or "runs the built-in model, so it is used"
        lines.append(f"           {attempt['name']} {attempt['version']}: {outcome}")
    if checkup.inference:
        i = checkup.inference
        lines.append(
            f"inference  {i['cell']} is classified as {i['class']} "
            f"({i['probability']:.0%}), {i['ms']:.1f} ms on one thread"
        )
    for number, size in checkup.cameras.items():
        link = checkup.links.get(number, "")
        answer = size or "does not answer"
        lines.append(f"camera {number:<4}{answer:<17}{link}".rstrip())
    if not checkup.cameras:
        lines.append("cameras    none found")
    lines += [f"problem    {problem}" for problem in checkup.problems]
    works = "edgecell can run here." if checkup.works else "edgecell cannot run here."
    return "\n".join([*lines, works])


@click.command("doctor", short_help="Check whether edgecell works on this machine.")
@json_option
@click.pass_context
def command(ctx: click.Context, json_file: str | None) -> None:
    """Check this machine: runtime, packages, cameras, and one inference.

    The exit status is 1 if no network can run here.
    """
    checkup = examine()
    report(text(checkup), asdict(checkup) | {"works": checkup.works}, json_file)
    ctx.exit(0 if checkup.works else 1)
