"""Budgets: reading them, and which of their limits apply."""

from pathlib import Path

import pytest

from edgecell.benchmarks.budgets import (
    Budget,
    BudgetBreach,
    MachineBudget,
    breaches,
    bundled_budgets,
    measure,
    read_budgets,
)
from edgecell.benchmarks.cost import model_cost
from edgecell.edge.find.finder import read_finder
from edgecell.errors import InputError
from edgecell.model.modelfile import bundled_finder, bundled_model, read_tflite
from edgecell.train.networks.network import PRESETS

PI_5 = "Raspberry Pi 5 Model B Rev 1.0"
BUDGET = Budget(
    parameters=300,
    flops=9000,
    file_bytes={"int8": 5000},
    machines={
        "Raspberry Pi": MachineBudget(latency_ms=30, peak_bytes=200_000_000),
        "raspberry pi 5": MachineBudget(latency_ms=10),
        "Jetson": MachineBudget(latency_ms=5),
    },
)


@pytest.mark.parametrize(
    ("scheme", "machine", "expected"),
    [
        ("float32", "AMD EPYC", {}),
        ("int8", "AMD EPYC", {"file_bytes": 5000}),
        ("int8, prune 0.5", "AMD EPYC", {"file_bytes": 5000}),
        (
            "float32",
            "Raspberry Pi 4 Model B Rev 1.2",
            {"latency_ms": 30, "peak_bytes": 200_000_000},
        ),
        # Both Raspberry Pi tables fit: the stricter latency holds.
        ("float32", PI_5, {"latency_ms": 10, "peak_bytes": 200_000_000}),
    ],
)
def test_limits_that_apply(
    scheme: str, machine: str, expected: dict[str, float]
) -> None:
    always = {"parameters": 300, "flops": 9000}
    assert BUDGET.limits(scheme, machine) == always | expected


def test_breaches() -> None:
    figures = {"parameters": 301, "flops": 9000, "latency_ms": 4.5, "file_bytes": 9}
    limits = {"parameters": 300, "flops": 9000, "latency_ms": 4.4, "peak_bytes": 1}
    assert breaches(figures, limits) == (
        BudgetBreach("parameters", 301, 300),
        BudgetBreach("latency_ms", 4.5, 4.4),
    )


def test_figures_have_the_names_of_the_limits(tiny_path: Path) -> None:
    row = measure(tiny_path, threads=(1, 2), runs=2)
    figures = row.figures()
    assert set(BUDGET.limits("int8", PI_5)) <= {*figures, "peak_bytes"}
    assert figures["parameters"] == 312
    assert figures["flops"] == 9024
    assert figures["file_bytes"] == tiny_path.stat().st_size
    assert [latency.threads for latency in row.latencies] == [1, 2]
    medians = [latency.classify.median_ms for latency in row.latencies]
    assert figures["latency_ms"] == min(medians)
    assert (row.network, row.scheme) == ("tiny", "float32")


def test_reads_every_kind_of_limit(tmp_path: Path) -> None:
    path = tmp_path / "budgets.toml"
    path.write_text(
        "[tiny]\n"
        "parameters = 300\n"
        "file_bytes.int8 = 5000\n"
        '[tiny.machines."Raspberry Pi 5"]\n'
        "latency_ms = 1.5\n"
        "[open]\n"
    )
    assert read_budgets(path) == {
        "tiny": Budget(
            parameters=300,
            file_bytes={"int8": 5000},
            machines={"Raspberry Pi 5": MachineBudget(latency_ms=1.5)},
        ),
        "open": Budget(),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[tiny", "is not a TOML file"),
        (b"\xff\xfe", "is not a TOML file"),
        (b"tiny = 3", "'tiny' must be a table"),
        (
            b"[tiny]\nflop = 3",
            "unknown key 'flop'; the known keys are parameters",
        ),
        (b"[tiny]\nflops = '3'", "'tiny.flops' must be a positive number, not 3"),
        (b"[tiny]\nflops = true", "'tiny.flops' must be a positive number, not True"),
        (b"[tiny]\nflops = 0", "'tiny.flops' must be a positive number, not 0"),
        (b"[tiny]\nflops = nan", "'tiny.flops' must be a positive number, not nan"),
        (b"[tiny]\nflops = inf", "'tiny.flops' must be a positive number, not inf"),
        (b"[tiny]\nfile_bytes = 3", "'tiny.file_bytes' must be a table"),
        (b"[tiny]\nfile_bytes.int8 = -1", "'tiny.file_bytes.int8' must be a positive"),
        (b"[tiny]\nmachines.Pi = 3", "'tiny.machines.Pi' must be a table"),
        (b"[tiny]\nmachines.Pi.ms = 3", "'tiny.machines.Pi' has an unknown key 'ms'"),
    ],
)
def test_bad_files(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "budgets.toml"
    path.write_bytes(text)
    with pytest.raises(InputError) as caught:
        read_budgets(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_budgets(tmp_path / "none.toml")


def figures_of(path: Path, flatbuffer: bytes) -> dict[str, float]:
    cost = model_cost(flatbuffer)
    return {
        "parameters": cost.parameters,
        "flops": cost.flops,
        "file_bytes": path.stat().st_size,
    }


def test_budgets_are_named_as_the_networks() -> None:
    budgets = set(read_budgets(bundled_budgets()))
    assert budgets == {"grsnet", "grsnet-lite", "finder", "frame"}
    assert budgets - {"finder", "frame"} <= set(PRESETS)


def test_the_bundled_networks_and_a_frame_keep_their_budgets() -> None:
    budgets = read_budgets(bundled_budgets())
    classifier, record = read_tflite(bundled_model())
    finder, of_finder = read_finder(bundled_finder())
    of_one = figures_of(bundled_model(), classifier)
    of_other = figures_of(bundled_finder(), finder)
    frame = {"flops": of_other["flops"] + 5 * of_one["flops"]}
    for name, scheme, figures in (
        (record.network["name"], record.scheme, of_one),
        (of_finder.network["name"], of_finder.scheme, of_other),
        ("frame", "", frame),
    ):
        limits = budgets[name].limits(scheme, machine="")
        assert set(limits) == set(figures)
        assert breaches(figures, limits) == ()
