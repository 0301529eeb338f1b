"""Times and memory: what they mean, never how large they are."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecell.benchmarks import latency
from edgecell.benchmarks.latency import (
    Timing,
    machine_model,
    measure_latency,
    measure_memory,
    this_machine,
)
from edgecell.errors import EdgecellError
from edgecell.model.runtime import installed

CPUINFO = "processor\t: 0\nmodel name\t: AMD EPYC\ncache size\t: 512 KB\n"
ON_LINUX = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc"
)


@pytest.mark.parametrize(
    ("milliseconds", "median", "p95", "mean"),
    [
        ([4], 4.0, 4.0, 4.0),
        ([1, 2, 9], 2.0, 9.0, 4.0),
        # 19 of 20 runs are within 19 ms.
        (list(range(20, 0, -1)), 10.5, 19.0, 10.5),
        # 95 % of 21 is 19.95, so 20 runs have to be within.
        (list(range(1, 22)), 11.0, 20.0, 11.0),
    ],
)
def test_timing(
    milliseconds: list[int], median: float, p95: float, mean: float
) -> None:
    timing = Timing.from_ns([ms * 1_000_000 for ms in milliseconds])
    assert timing == Timing(median, p95, mean)


def test_latency_of_a_model(tiny_path: Path) -> None:
    measured, runtime = measure_latency(tiny_path, threads=2, runs=5)
    assert (measured.threads, measured.runs) == (2, 5)
    assert runtime in installed()
    for timing in (measured.invoke, measured.classify):
        assert 0 < timing.median_ms <= timing.p95_ms


@pytest.mark.parametrize(
    ("board", "cpuinfo", "expected"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0\0", "BogoMIPS\t: 108.00\n", "Raspberry Pi 5"),
        (None, CPUINFO, "AMD EPYC"),
        (None, "BogoMIPS\t: 108.00\n", "riscv64"),
        (None, None, "riscv64"),
    ],
)
def test_machine_model(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    board: str | None,
    cpuinfo: str | None,
    expected: str,
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    for name, text in (("model", board), ("cpuinfo", cpuinfo)):
        if text is not None:
            (tmp_path / name).write_text(text)
    found = machine_model(tmp_path / "model", tmp_path / "cpuinfo")
    assert found.startswith(expected)
    assert found.isprintable()


def test_this_machine() -> None:
    machine = this_machine()
    assert machine.model
    assert machine.cores >= 1
    assert machine.numpy == np.__version__


@ON_LINUX
def test_memory_is_not_the_parents(tiny_path: Path) -> None:
    # ru_maxrss would show this array in the child, too.
    ballast = np.ones(400_000_000, np.uint8)
    memory = measure_memory(tiny_path)
    assert memory is not None
    assert 0 < memory.growth_bytes < memory.peak_bytes < ballast.nbytes


@ON_LINUX
def test_memory_process_that_fails(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(EdgecellError, match=r"^memory cannot be measured: status 1$"):
        measure_memory(tiny_path)


def test_memory_without_proc(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "peak_resident_bytes", lambda: None)
    assert measure_memory(tiny_path) is None
