"""What the page costs: time to its first page, and what viewers take from the loop."""

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgecell.benchmarks.latency import this_machine
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.files import write_atomically
from edgecell.model.modelfile import bundled_model

STARTS = 5
ROUNDS = 3
FRAMES = 300
VIEWERS = (0, 1, 4)
"""Without viewers there is no page either."""


def first_page(root: Path, environment: Mapping[str, str]) -> dict[str, float]:
    """From the start of 'edgecell page' to the whole list of sessions.

    Args:
        root: folder of sessions.
        environment: of the process.

    Returns:
        ``seconds`` by the clock, and ``cpu_s``, the process's own time until its end.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = _seconds_to_first_page(root, environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(seconds, 3), "cpu_s": round(cpu_s, 3)}


def _seconds_to_first_page(root: Path, environment: Mapping[str, str]) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "edgecell", "page", str(root), "--no-sign-in"]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--port", str(port)], stderr=subprocess.DEVNULL, env=environment
    ) as process:
        try:
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port)) as browser:
                        browser.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
                        answer = b"".join(iter(lambda: browser.recv(65536), b""))
                        assert b"200 OK" in answer[:20]
                        return time.perf_counter() - start
                except ConnectionRefusedError:
                    time.sleep(0.005)
        finally:
            process.terminate()


def first_pages(folder: Path) -> list[dict[str, float]]:
    """Starts of the page over one recorded session, as after an installation by pip.

    pip compiles what it installs. A checkout may lack bytecode, so that one start,
    which isn't counted, writes it.

    Args:
        folder: empty.
    """
    root = folder / "results"
    demo = [
        sys.executable,
        "-m",
        "edgecell",
        "run",
        "demo",
        "--out",
        str(root / "demo"),
    ]
    subprocess.run(demo, capture_output=True, check=True)
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    first_page(root, environment)
    return [first_page(root, environment) for _ in range(STARTS)]


def measure() -> dict[str, Any]:
    """Runs the loop with and without viewers in turn, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        first = first_pages(Path(folder))
    rows: dict[int, list[dict[str, Any]]] = {n: [] for n in VIEWERS}
    for _ in range(ROUNDS):
        for viewers in VIEWERS:
            command = [sys.executable, "-m", "edgecell", "bench", str(bundled_model())]
            command += ["--loop", "--threads", "1", "--frames", str(FRAMES)]
            command += ["--viewers", str(viewers)] if viewers else []
            command += ["--json", "-"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows[viewers].append(json.loads(done.stdout))
    bare = rows[0]
    return {
        "machine": asdict(this_machine()),
        "load_average": round(os.getloadavg()[0], 1),
        "first_page": first,
        "rounds": ROUNDS,
        "frames": FRAMES,
        "viewers": [
            {
                "viewers": n,
                "fps": [row["fps"] for row in rows[n]],
                "frame_ms": [row["frame_ms"] for row in rows[n]],
                "rss_peak_bytes": [row["rss_peak_bytes"] for row in rows[n]],
                "fps_lost": _lost(bare, rows[n]),
                "page_cpu_share": _page_share(bare, rows[n]),
                "rss_more_bytes": _median(rows[n], "rss_peak_bytes")
                - _median(bare, "rss_peak_bytes"),
            }
            for n in VIEWERS
        ],
    }


def _median(rows: list[dict[str, Any]], figure: str) -> float:
    return float(statistics.median(row[figure] for row in rows))


def _lost(bare: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """Share of the frames a second that is lost, median over the rounds."""
    pairs = zip(bare, rows, strict=True)
    lost = statistics.median(1 - b["fps"] / a["fps"] for a, b in pairs)
    return float(round(lost, 4))


def _page_share(bare: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """Processor time that the page takes, as a share of one core, median.

    It is what the process used in excess of its time a frame without a page. It hardly
    depends on what else the machine does.
    """
    shares = []
    for a, b in zip(bare, rows, strict=True):
        more_s = b["cpu_s"] - a["cpu_s"] / a["frames"] * b["frames"]
        shares.append(more_s / b["seconds"])
    return float(round(statistics.median(shares), 4))


@click.command("page", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
def command(out: Path) -> None:
    """Time the first page, and the loop with 0, 1 and 4 live viewers.

    The viewers are processes on this machine and take some of its time themselves.
    Writes OUT, a JSON file.
    """
    result = measure()
    write_atomically(out, json.dumps(result, indent=1) + "\n")
    first = result["first_page"]
    seconds, cpu_s = (
        statistics.median(row[key] for row in first) for key in ("seconds", "cpu_s")
    )
    click.echo(f"first page after {seconds:.2f} s, {cpu_s:.2f} s of processor time")
    for row in result["viewers"]:
        click.echo(
            f"{row['viewers']} viewers: {statistics.median(row['fps']):.1f} frames/s "
            f"({-row['fps_lost']:+.1%}), "
            f"page {row['page_cpu_share']:.1%} of a core, "
            f"{row['rss_more_bytes'] / 1e6:+.0f} MB"
        )


if __name__ == "__main__":
    command()
