"""``edgecell bench`` as its users meet it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgecell.benchmarks.bench_command import command
from edgecell.benchmarks.latency import Memory
from edgecell.cli import COMMANDS, cli


@pytest.fixture(autouse=True)
def _no_child_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "edgecell.benchmarks.budgets.measure_memory",
        lambda path: Memory(peak_bytes=70_000_000, growth_bytes=1_500_000),
    )


def bench(*arguments: str | Path) -> Result:
    """Runs the command with few runs."""
    return CliRunner().invoke(cli, ["bench", "--runs", "2", *map(str, arguments)])


def rows(report: str) -> dict[str, list[str]]:
    """The report's table of costs: figure -> [measured, limit]."""
    table = report.split("\n\n")[1]
    return {line[:20].strip(): line[20:].split() for line in table.splitlines()[1:]}


@pytest.fixture
def budgets(tmp_path: Path) -> Path:
    """Budgets that the tiny network keeps: two it equals, one is far away."""
    path = tmp_path / "budgets.toml"
    path.write_text(
        "[tiny]\nparameters = 312\nflops = 9024\nfile_bytes.float32 = 1_000_000\n"
    )
    return path


def test_report(tiny_path: Path, budgets: Path) -> None:
    result = bench(tiny_path, "--budgets", budgets, "--threads", "2,1,2")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("tiny.tflite: tiny float32, sha256 ")
    table = rows(result.stdout)
    assert table["parameters"] == ["312", "312"]
    assert table["FLOPs (2 x MACs)"] == ["9,024", "9,024"]
    assert table["file, bytes"] == [f"{tiny_path.stat().st_size:,}", "1,000,000"]
    assert table["peak memory, bytes"] == ["70,000,000", "-"]
    lines = result.stdout.splitlines()
    timed = [line.split("  ")[0] for line in lines if " thread" in line]
    assert timed == [
        "2 threads, network",
        "2 threads, image to prediction",
        "1 thread, network",
        "1 thread, image to prediction",
    ]
    assert "not counted: 1 MEAN" in lines
    assert "memory: the runtime and the model take 1,500,000 bytes of the peak" in lines


def test_layers(tiny_path: Path) -> None:
    result = bench(tiny_path, "--layers")
    table = result.stdout.split("\n\n")[-1]
    assert [line.split() for line in table.splitlines()] == [
        ["layer", "output", "MACs", "parameters"],
        ["0", "CONV_2D", "1x4x4x4", "1,728", "112"],
        ["1", "DEPTHWISE_CONV_2D", "1x4x4x8", "1,152", "80"],
        ["2", "CONV_2D", "1x4x4x12", "1,536", "108"],
        ["3", "FULLY_CONNECTED", "1x12", "96", "12"],
    ]


def test_json_alone_on_standard_output(tiny_path: Path, budgets: Path) -> None:
    result = bench(tiny_path, "--budgets", budgets, "--json", "-", "--layers")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["cost"] == {
        "parameters": 312,
        "macs": 4512,
        "flops": 9024,
        "uncounted": {"MEAN": 1},
    }
    assert data["limits"] == {
        "parameters": 312,
        "flops": 9024,
        "file_bytes": 1_000_000,
    }
    assert data["breaches"] == []
    assert [layer["macs"] for layer in data["layers"]] == [1728, 1152, 1536, 96]
    assert {"name", "version", "provider"} == set(data["runtime"])
    assert {"median_ms", "p95_ms", "mean_ms"} == set(data["latencies"][0]["invoke"])


def test_json_file_beside_the_report(tiny_path: Path, tmp_path: Path) -> None:
    result = bench(tiny_path, "--json", tmp_path / "row.json")
    assert result.exit_code == 0, result.output
    assert "parameters" in rows(result.stdout)
    data = json.loads((tmp_path / "row.json").read_text())
    assert data["network"] == "tiny"
    assert "layers" not in data


def test_no_budget_is_said(tiny_path: Path) -> None:
    result = bench(tiny_path)
    assert result.exit_code == 0, result.output
    assert "no budget applies to 'tiny'" in result.stdout.splitlines()


@pytest.mark.parametrize("json_option", [[], ["--json", "-"]])
def test_breach(tiny_path: Path, tmp_path: Path, json_option: list[str]) -> None:
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[tiny]\nparameters = 312\nflops = 9023\nfile_bytes.float32 = 1")
    result = bench(tiny_path, "--budgets", budgets, *json_option)
    assert result.exit_code == 1
    size = f"{tiny_path.stat().st_size:,}"
    assert result.stderr == (
        f"Error: {tiny_path} exceeds the budget of 'tiny': "
        f"flops 9,024, limit 9,023; file_bytes {size}, limit 1\n"
    )
    if json_option:
        names = [breach["name"] for breach in json.loads(result.stdout)["breaches"]]
        assert names == ["flops", "file_bytes"]
    else:
        assert rows(result.stdout)["FLOPs (2 x MACs)"] == ["9,024", "9,023"]


@pytest.mark.parametrize(
    ("model", "content", "message"),
    [
        ("none.tflite", None, "does not exist"),
        ("text.tflite", b"cells, and more cells", "is not a TFLite model"),
        ("bare.tflite", b"\x1c\0\0\0TFL3\0\0\0\0", "has no readable edgecell record"),
    ],
)
def test_bad_model(
    tmp_path: Path, model: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / model).write_bytes(content)
    one_line(bench(tmp_path / model), message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("[tiny", "is not a TOML file"),
        ("[tiny]\nflop = 3", "unknown key 'flop'"),
        ("[other]\nflops = 3", "has no table for 'tiny'"),
    ],
)
def test_bad_budgets(
    tiny_path: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    budgets = tmp_path / "budgets.toml"
    if text is not None:
        budgets.write_text(text)
    one_line(bench(tiny_path, "--budgets", budgets), message)


def one_line(result: Result, message: str) -> None:
    """Asserts exit status 1, no output, and one line of error."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("threads", ["0", "1,", "two", "-1", "1.5", "65"])
def test_bad_threads(tiny_path: Path, threads: str) -> None:
    result = bench(tiny_path, f"--threads={threads}")
    assert result.exit_code == 2
    assert f"'{threads}' is not a list like 1,2" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loop", "--budgets", "b.toml"], "--budgets is not for --loop"),
        (["--frames", "30"], "--frames is not for a model's cost"),
        (["--stages", "--runs", "3"], "--runs is not for --stages"),
        (["--stages", "--loop"], "--loop and --stages are two different measurements"),
        (["--stages", "--size", "640"], "'640' is not a size like 640x480"),
        (["--stages", "--size", "480x640"], "'480x640' is not a size of camera frames"),
    ],
)
def test_no_option_is_ignored(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["bench", *arguments])
    assert result.exit_code == 2
    assert message in result.output


def test_short_help_is_the_groups() -> None:
    assert command.get_short_help_str() == COMMANDS["bench"][1]
