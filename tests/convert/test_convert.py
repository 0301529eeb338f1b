import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tflite
from click.testing import CliRunner

from edgecell.cli import cli
from edgecell.convert.export import deployed
from edgecell.convert.predict import predict
from edgecell.edge.classifier import Classifier
from edgecell.kerasfile import FEATURES_LAYER, HEAD_LAYER, load_keras
from edgecell.modelfile import read_tflite
from edgecell.preprocess import standardise

ROOT = Path(__file__).parents[2]
OLD_RUNTIME = ROOT / ".venv-tflite-runtime" / "bin" / "python"


def test_float32_equals_keras_to_rounding(
    converted: dict[str, Path], cells: np.ndarray, tiny_run: Path
) -> None:
    keras_logits = predict(tiny_run / "model.keras", cells).logits
    np.testing.assert_allclose(
        predict(converted["float32"], cells).logits, keras_logits, atol=2e-4, rtol=1e-4
    )


def test_maps_equal_the_keras_graphs(
    converted: dict[str, Path], cells: np.ndarray, tiny_run: Path
) -> None:
    model, record = load_keras(tiny_run / "model.keras")
    network = deployed(model, FEATURES_LAYER, HEAD_LAYER)
    x = standardise(cells[:1], record.preprocessing)
    expected = np.asarray(network(x)["maps"])[0]
    got = Classifier(converted["float32"]).classify(cells[0]).maps
    np.testing.assert_allclose(got, expected, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "steps"), [("float32", 0), ("int8", 2), ("uint8-input", 2)]
)
def test_mean_of_map_plus_bias_is_the_logit(
    converted: dict[str, Path], cells: np.ndarray, name: str, steps: int
) -> None:
    classifier = Classifier(converted[name])
    bias = np.array(classifier.record.head_bias, np.float32)
    allowed = steps * classifier.logit_step + 1e-4
    for cell in cells[:20]:
        p = classifier.classify(cell)
        assert np.abs(p.maps.mean((0, 1)) + bias - p.logits).max() <= allowed
        assert p.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "io"),
    [("int8", tflite.TensorType.INT8), ("uint8-input", tflite.TensorType.UINT8)],
)
def test_types_are_what_the_scheme_says(
    converted: dict[str, Path], name: str, io: int
) -> None:
    flatbuffer, record = read_tflite(converted[name])
    graph = tflite.Model.GetRootAsModel(flatbuffer, 0).Subgraphs(0)
    types = [graph.Tensors(i).Type() for i in range(graph.TensorsLength())]
    assert types[graph.Inputs(0)] == io
    assert {types[graph.Outputs(i)] for i in (0, 1)} == {tflite.TensorType.INT8}
    assert tflite.TensorType.FLOAT32 not in types
    assert record.scheme == "int8"
    assert record.calibration_set["images"] == 60


def test_uint8_and_int8_inputs_give_the_same_logits(
    converted: dict[str, Path], cells: np.ndarray
) -> None:
    a, b = (predict(converted[n], cells).logits for n in ("int8", "uint8-input"))
    np.testing.assert_array_equal(a, b)


IN_OLD_RUNTIME = """
import sys
from pathlib import Path
import numpy as np
from edgecell.edge.classifier import Classifier
classifier = Classifier(Path(sys.argv[1]))
assert classifier.runtime.name == "tflite-runtime", classifier.runtime
cells = np.load(sys.argv[2])
np.save(sys.argv[3], np.array([classifier.classify(c).logits for c in cells]))
"""


@pytest.mark.skipif(
    not OLD_RUNTIME.exists()
    or subprocess.run(
        [OLD_RUNTIME, "-c", "import tflite_runtime"], capture_output=True, check=False
    ).returncode
    != 0,
    reason="tflite-runtime 2.14 has no wheel for this Python",
)
@pytest.mark.parametrize("name", ["float32", "int8", "uint8-input", "bundled"])
def test_tflite_runtime_2_14_agrees(
    converted: dict[str, Path], cells: np.ndarray, name: str, tmp_path: Path
) -> None:
    from edgecell.modelfile import bundled_model

    path = (converted | {"bundled": bundled_model()})[name]
    np.save(tmp_path / "cells.npy", cells[:20])
    subprocess.run(
        [
            OLD_RUNTIME,
            "-c",
            IN_OLD_RUNTIME,
            path,
            tmp_path / "cells.npy",
            tmp_path / "out.npy",
        ],
        check=True,
        cwd=ROOT,
    )
    # The runtimes' kernels round differently: up to 4 steps were seen.
    step = Classifier(path).logit_step
    old, new = np.load(tmp_path / "out.npy"), predict(path, cells[:20]).logits
    np.testing.assert_allclose(old, new, atol=4 * step + 1e-3)


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["convert", *map(str, args)])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_the_command(tiny_run: Path, drawn_cells: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "m.tflite"
    code, output = run(
        tiny_run / "model.keras", "--int8", "--calibration",
        drawn_cells / "..", drawn_cells, "--out", out,
        "--calibration-size", 24, "--json", "-",
    )  # fmt: skip
    assert code == 0, output
    assert json.loads(output)["calibration_images"] == 24
    assert json.loads(output)["path"] == str(out)
    shown = CliRunner().invoke(cli, ["info", str(out)])
    assert "tiny" in shown.output
    assert "int8" in shown.output


@pytest.mark.parametrize(
    ("model", "calibration", "out", "message"),
    [
        ("none.keras", "DATA", "m.tflite", "none.keras"),
        ("broken.keras", "DATA", "m.tflite", "is not a model that 'edgecell train'"),
        ("MODEL", "none", "m.tflite", "does not exist"),
        ("MODEL", "DATA/BA", "m.tflite", "no training image of BNE"),
        ("MODEL", "DATA", "broken.keras/m.tflite", "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tiny_run: Path, drawn_cells: Path, tmp_path: Path,
    model: str, calibration: str, out: str, message: str,
) -> None:  # fmt: skip
    (tmp_path / "broken.keras").write_bytes(b"PK")
    before = set(tmp_path.iterdir())
    keras_file = tiny_run / "model.keras" if model == "MODEL" else tmp_path / model
    data = Path(calibration.replace("DATA", str(drawn_cells)))
    code, output = run(
        keras_file, "--int8", "--calibration", data, "--out", tmp_path / out
    )
    assert code == 1
    assert message in output
    assert output.startswith("Error: ")
    assert output.count("\n") == 1
    assert set(tmp_path.iterdir()) == before
