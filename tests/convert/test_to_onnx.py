"""From TFLite to ONNX with the real converter: the same answers, or no file."""

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.cli import cli
from edgecell.convert import to_onnx
from edgecell.convert.to_onnx import OPSET, onnx_graph, sample_cells
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import read_tflite
from edgecell.model.onnx.file import read_onnx, write_onnx
from edgecell.model.predict import predict

pytest.importorskip("tf2onnx")
pytest.importorskip("onnxruntime")


@lru_cache(maxsize=8)
def graph_of(flatbuffer: bytes, floating: bool) -> bytes:
    """`onnx_graph`, each once: it takes half a minute."""
    return onnx_graph(flatbuffer, floating)


@pytest.mark.parametrize(
    ("scheme", "floating", "apart"),
    [("float32", False, 1e-3), ("int8", False, 3), ("int8", True, 3)],
)
def test_onnx_says_what_the_tflite_says(
    converted: dict[str, Path],
    cells: np.ndarray,
    tmp_path: Path,
    scheme: str,
    floating: bool,
    apart: float,
) -> None:
    flatbuffer, record = read_tflite(converted[scheme])
    path = tmp_path / "model.onnx"
    write_onnx(path, graph_of(flatbuffer, floating), record)
    ours, theirs = predict(converted[scheme], cells), predict(path, cells)
    assert ours.agreement(theirs) > 0.9
    # Of a quantised file in steps of its logits: it rounds in every layer.
    step = Classifier(converted["int8"]).logit_step if scheme == "int8" else 1.0
    assert np.abs(ours.logits - theirs.logits).max() <= apart * step
    feature_maps = Classifier(path).classify(cells[0], features=True).features
    assert feature_maps is not None
    assert feature_maps.shape[:2] == ours.maps.shape[1:3]


def test_the_command_proves_it_and_seals_it(
    converted: dict[str, Path],
    drawn_cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(to_onnx, "onnx_graph", graph_of)
    out = tmp_path / "made.onnx"
    words = ["convert", str(converted["int8"]), "--onnx", "--out", str(out)]
    result = CliRunner().invoke(
        cli, [*words, "--calibration", str(drawn_cells), "--max-drop", "5"]
    )
    assert result.exit_code == 0, result.output
    assert f"ONNX opset {OPSET}" in result.output
    assert "same class" in result.output
    _, record = read_onnx(out)
    before = read_tflite(converted["int8"])[1]
    assert record.temperature == before.temperature
    assert record.review == before.review
    assert record.metrics["onnx"]["tflite_sha256"] == before.model_sha256
    assert record.metrics["onnx"]["same_class"] >= 0.99


def test_a_graph_that_answers_otherwise_is_not_written(
    converted: dict[str, Path],
    drawn_cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = graph_of(read_tflite(converted["float32"])[0], False)
    onnx = pytest.importorskip("onnx")
    model = onnx.load_from_string(other)
    for weights in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weights)
        if values.ndim == 4:
            turned = onnx.numpy_helper.from_array(values[::-1].copy(), weights.name)
            weights.CopyFrom(turned)
    broken = model.SerializeToString()
    monkeypatch.setattr(to_onnx, "onnx_graph", lambda *_: broken)
    out = tmp_path / "made.onnx"
    words = ["convert", str(converted["float32"]), "--onnx", "--out", str(out)]
    result = CliRunner().invoke(
        cli, [*words, "--calibration", str(drawn_cells), "--json", "-"]
    )
    assert result.exit_code == 1
    assert "nothing was written" in result.stderr
    assert not out.exists()
    assert json.loads(result.stdout)["written"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--qat"], "--qat is not for --onnx"),
        (["--dynamic"], "--onnx goes with --int8 or --float32"),
        (["--split", "test"], "--split is for --calibration"),
    ],
)
def test_options_that_do_not_go_with_it(words: list[str], message: str) -> None:
    result = CliRunner().invoke(cli, ["convert", "bundled", "--onnx", *words])
    assert result.exit_code == 2
    assert message in result.output


def test_the_samples_show_every_class() -> None:
    codes = [cell.code for cell in sample_cells()]
    assert len(codes) == 24
    assert len(set(codes)) == 12
