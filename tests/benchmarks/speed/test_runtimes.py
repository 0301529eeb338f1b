"""Runtimes side by side: what is counted, not how fast it is."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecell.benchmarks.speed.runtimes import float_rate, int8_rate
from edgecell.cli import cli
from edgecell.model.modelfile import bundled_model, read_tflite
from edgecell.model.onnx.file import write_onnx
from tests.model.onnx_graphs import linear_graph


def test_files_take_turns_on_what_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    record = read_tflite(bundled_model())[1]
    path = tmp_path / "small.onnx"
    write_onnx(path, linear_graph(record), record)
    result = CliRunner().invoke(
        cli, ["bench", "--peers", str(path), "--runs", "5", "--json", "-"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    by_runtime = {peer["runtime"].split()[0]: peer for peer in found["peers"]}
    assert by_runtime["onnxruntime"]["model"] == "small.onnx"
    assert any(peer["model"] == bundled_model().name for peer in found["peers"])
    assert all(peer["timing"]["median_ms"] > 0 for peer in found["peers"])
    ran = {*by_runtime, *(name.split()[-1] for name in found["left_out"])}
    assert {"onnxruntime", "openvino"} <= ran, "each is timed, or named with a reason"
    assert 0.3e9 < found["flops"] < 0.5e9


def test_the_limit_is_a_rate() -> None:
    assert 1e8 < float_rate() < 1e14
    rate = int8_rate()
    assert rate is None or 1e8 < rate < 1e15
