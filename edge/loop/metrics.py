"""The figures of a running loop for Prometheus: on the page, or in a text file.

A text file is for node_exporter's textfile collector, where no page is served.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgecell.classes import CODES
from edgecell.edge.count.differential import Differential
from edgecell.edge.loop.run import Observer, Run
from edgecell.edge.show.health import Health
from edgecell.errors import InputError
from edgecell.files import write_atomically
from edgecell.optional import require

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def gauge(name: str, what: str, value: float) -> "Metric":
    """One figure.

    Args:
        name: without the prefix 'edgecell_'.
        what: its help, a sentence.
        value: in the unit that the name states.
    """
    core = require("prometheus_client.core", "monitor")
    family: Metric = core.GaugeMetricFamily(f"edgecell_{name}", what, float(value))
    return family


def loop_metrics(health: Health, differential: Differential) -> Iterator["Metric"]:
    """The figures of a loop.

    Args:
        health: how it is now.
        differential: the cells of its session so far.
    """
    core = require("prometheus_client.core", "monitor")
    yield gauge("source_lost", "1 if the camera is lost.", health.source != "on")
    yield gauge("frames", "Frames processed in this session.", health.analysed)
    yield gauge(
        "frames_per_second", "Frames processed per second, recently.", health.fps
    )
    yield gauge("frames_dropped", "Camera frames that were dropped.", health.dropped)
    age_s = (health.age_ms or 0.0) / 1e3
    yield gauge(
        "frame_age_seconds", "Age of the last frame when its result was ready.", age_s
    )
    yield gauge("white_cells", "Accepted white cells.", differential.white_cells)
    yield gauge("to_review", "Cells of this session to review.", differential.to_review)
    yield gauge("recording", "1 while the session is recorded.", recording(health))
    if health.board.temperature_c is not None:
        heat = health.board.temperature_c
        yield gauge("temperature_celsius", "Temperature of the hottest sensor.", heat)
    cells = core.GaugeMetricFamily(
        "edgecell_cells", "Accepted cells of this session.", labels=["class"]
    )
    for code in CODES:
        cells.add_metric([code], differential.counted.get(code, 0))
    yield cells


def recording(health: Health) -> bool:
    """Whether the session is being recorded."""
    return health.recording == "on"


class MetricsFile(Observer):
    """Writes the figures of a run into a file, once a second."""

    def __init__(self, file: Path) -> None:
        """Checks that the name ends in .prom.

        Args:
            file: in node_exporter's textfile folder.

        Raises:
            InputError: node_exporter would not read a file of that name.
            MissingPackageError: prometheus-client is not installed.
        """
        if file.suffix != ".prom":
            raise InputError(f"node_exporter reads only .prom files, not {file.name}")
        require("prometheus_client", "monitor")
        self._file = file
        self._run: Run | None = None

    def begun(self, run: Run) -> None:
        """A session begins."""
        self._run = run

    def health(self, health: Health) -> None:
        """Writes the file; once a second."""
        if self._run is None:
            return
        client = require("prometheus_client", "monitor")
        registry = client.CollectorRegistry()
        registry.register(_Once(list(loop_metrics(health, self._run.differential))))
        write_atomically(self._file, client.generate_latest(registry).decode())


class _Once:
    """Hands figures to a registry, as its protocol asks."""

    def __init__(self, metrics: list["Metric"]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator["Metric"]:
        return iter(self._metrics)
