from dataclasses import replace
from pathlib import Path

import pytest

from edgecell.errors import EdgecellError, MissingPackageError, ModelError
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model, read_tflite, write_tflite
from edgecell.model.probe import probe
from edgecell.model.runtime import installed
from edgecell.optional import require

RUNTIME = installed()[0].name


@pytest.fixture(autouse=True)
def _no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device: TensorFlow is not tried after the runtime, which takes long."""
    monkeypatch.setattr("edgecell.model.runtime.installed", lambda: installed()[:1])


def without_weights(flatbuffer: bytes) -> bytes:
    """The first convolution's weights are absent: the runtime reads from nowhere."""
    model = require("tflite", "edge").Model.GetRootAs(flatbuffer, 0)
    table = model.Subgraphs(0).Operators(0)._tab
    inputs = table.Vector(table.Offset(6))
    return flatbuffer[: inputs + 4] + b"\xff" * 4 + flatbuffer[inputs + 8 :]


def test_what_runs_is_let_through() -> None:
    assert probe(read_tflite(bundled_model())[0], RUNTIME) == ""


def test_what_the_runtime_refuses_is_told() -> None:
    assert "Flatbuffer" in probe(read_tflite(bundled_model())[0][:5000], RUNTIME)


def test_what_crashes_does_so_elsewhere(tmp_path: Path) -> None:
    flatbuffer, record = read_tflite(bundled_model())
    crafted = tmp_path / "crafted.tflite"
    write_tflite(crafted, without_weights(flatbuffer), record)
    # Where the runtime reads from decides whether it dies or refuses: not this process.
    with pytest.raises(EdgecellError, match=rf"crashes {RUNTIME} \(SIG|to prepare"):
        Classifier(crafted)


def test_what_never_ends_is_ended() -> None:
    with pytest.raises(ModelError, match="did not finish one inference within 0"):
        probe(read_tflite(bundled_model())[0], RUNTIME, seconds=0.01)


def test_a_graph_that_does_not_fit_its_record_is_refused(tmp_path: Path) -> None:
    flatbuffer, record = read_tflite(bundled_model())
    fewer = replace(
        record, classes=record.classes[:2], head_bias=(0.0, 0.0), review=None
    )
    smaller = replace(
        record, preprocessing=replace(record.preprocessing, input_size=96)
    )
    for wrong in (fewer, smaller):
        write_tflite(tmp_path / "m.tflite", flatbuffer, wrong)
        with pytest.raises(ModelError, match="does not fit its record"):
            Classifier(tmp_path / "m.tflite")


def test_a_model_that_no_runtime_takes_names_them(tmp_path: Path) -> None:
    flatbuffer, record = read_tflite(bundled_model())
    write_tflite(tmp_path / "m.tflite", flatbuffer[:5000], record)
    with pytest.raises(MissingPackageError, match=rf"{RUNTIME} [\d.]+: .*Flatbuffer"):
        Classifier(tmp_path / "m.tflite")


@pytest.mark.parametrize("at", range(300, 2_100_000, 300_000))
def test_rubbish_in_the_graph_harms_nobody(tmp_path: Path, at: int) -> None:
    flatbuffer, record = read_tflite(bundled_model())
    changed = flatbuffer[:at] + bytes(range(64)) + flatbuffer[at + 64 :]
    write_tflite(tmp_path / "m.tflite", changed, record)
    try:
        assert Classifier(tmp_path / "m.tflite").record.codes == record.codes
    except EdgecellError:
        return
