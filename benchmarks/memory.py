"""Peak memory of `edgecell run` on large frames: what a unit's memory limit rests on.

    python -m edgecell.benchmarks memory benchmarks/results/memory.json

The frames are the sample `bccd_1.jpg` laid side by side, as JPEG: six stills in a
folder, or a Motion JPEG stream for some seconds. Each run has a process of its own.
Cells are many, up to 13 a megapixel, and every still is drawn.
"""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import cv2
import numpy as np

import edgecell
from edgecell.benchmarks.latency import peak_resident_bytes, this_machine
from edgecell.benchmarks.tables import aligned
from edgecell.cli import OutputFile, PoliteCommand, cli
from edgecell.edge.commands.service import memory_mb
from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.still import read_image
from edgecell.errors import EdgecellError
from edgecell.files import write_atomically

SIZES = ((640, 480), (2592, 1944), (3840, 2160), (4056, 3040), (6016, 4016))
"""Width and height: VGA, the Pi's cameras with 5 and 12 megapixels and 4K between them,
24 megapixels."""

STILLS = 6
STREAM_S = 20.0
_PERIOD_S = 0.1
_BOUNDARY = "frame"


@dataclass(frozen=True)
class MemoryRow:
    """Peak memory of one run.

    Attributes:
        source: 'stills' or 'stream'.
        width: of the frames, pixels.
        height: likewise.
        peak_mb: peak resident memory, 10^6 bytes.
        limit_mb: what a unit allows for frames of that size, 10^6 bytes.
    """

    source: str
    width: int
    height: int
    peak_mb: float
    limit_mb: int


def picture(width: int, height: int) -> bytes:
    """JPEG of the sample laid side by side until it fills a frame."""
    tile = read_image(SAMPLES / "frames" / "bccd_1.jpg")
    times = (math.ceil(height / tile.shape[0]), math.ceil(width / tile.shape[1]), 1)
    whole = np.tile(tile, times)[:height, :width]
    return cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


@contextmanager
def served(jpeg: bytes) -> Iterator[str]:
    """A Motion JPEG camera on this machine; yields its address."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
            self.send_header("Content-Type", kind)
            self.end_headers()
            part = f"--{_BOUNDARY}\r\nContent-Length: {len(jpeg)}\r\n\r\n".encode()
            with suppress(OSError):
                while not ended.wait(_PERIOD_S):
                    self.wfile.write(part + jpeg + b"\r\n")

        def log_message(self, *_: object) -> None:
            pass

    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


def peak_of_run(arguments: Sequence[str], seconds: float | None = None) -> float:
    """Peak resident memory of `edgecell run` in a process of its own, 10^6 bytes.

    Args:
        arguments: of the command.
        seconds: end it after this time; None to end with its source.

    Raises:
        EdgecellError: it failed.
    """
    run = subprocess.Popen(
        [sys.executable, "-m", "edgecell.benchmarks.memory", "run", *arguments],
        # -m looks in the working directory first: there lies this very package.
        cwd=Path(edgecell.__file__).parents[1],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    timer = threading.Timer(seconds or 0.0, run.send_signal, [signal.SIGTERM])
    if seconds is not None:
        timer.start()
    said = run.communicate()[0].splitlines()
    timer.cancel()
    if run.returncode or not said:
        raise EdgecellError(f"edgecell run failed: {said[-1] if said else ''}")
    return float(said[-1])


def measure(source: str, width: int, height: int) -> MemoryRow:
    """Measures one kind of source with frames of one size."""
    jpeg = picture(width, height)
    with tempfile.TemporaryDirectory(prefix="edgecell-memory-") as folder:
        out = os.path.join(folder, "out")
        if source == "stream":
            with served(jpeg) as address:
                peak = peak_of_run((address, "--out", out), STREAM_S)
        else:
            stills = Path(folder) / "stills"
            stills.mkdir()
            for number in range(STILLS):
                (stills / f"{number}.jpg").write_bytes(jpeg)
            peak = peak_of_run((str(stills), "--out", out))
    limit = memory_mb(width * height / 1e6)
    return MemoryRow(source, width, height, round(peak, 1), limit)


@click.command("memory", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
def command(out: Path) -> None:
    """Measure the peak memory of 'edgecell run' on frames of 0.3 to 24 megapixels.

    Writes OUT, a JSON file, and prints the figures beside the unit's limit.
    """
    if peak_resident_bytes() is None:
        raise EdgecellError("this system does not report the peak memory of a process")
    rows = [measure(source, *size) for source in ("stills", "stream") for size in SIZES]
    machine = asdict(this_machine())
    result = {"machine": machine, "rows": [asdict(row) for row in rows]}
    write_atomically(out, json.dumps(result, indent=1) + "\n")
    table = [("source", "frames", "peak, MB", "limit, MB")]
    for row in rows:
        size = f"{row.width}x{row.height}"
        table.append((row.source, size, f"{row.peak_mb:.0f}", f"{row.limit_mb}"))
    click.echo(aligned(table))


def _run_alone(arguments: Sequence[str]) -> None:
    """Runs the command line, then prints the peak; see `peak_of_run`."""
    cli(list(arguments), standalone_mode=False)
    click.echo((peak_resident_bytes() or 0) / 1e6)


if __name__ == "__main__":
    _run_alone(sys.argv[1:])
