"""ONNX files of ours: their record, and every runtime that is installed."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecell.edge.sources import SAMPLES
from edgecell.edge.sources.still import read_image
from edgecell.errors import InputError, MissingPackageError, ModelError
from edgecell.image.preprocess import Rgb, cell_image, to_rgb
from edgecell.model import runtime
from edgecell.model.classifier import Classifier, map_residual
from edgecell.model.graph import head_weights, output_tensors, read_graph
from edgecell.model.modelfile import ModelRecord, bundled_model, read_tflite
from edgecell.model.onnx.file import read_onnx, write_onnx
from edgecell.model.predict import read_record
from edgecell.model.runtime import Runtime, installed_for_onnx
from tests.model.onnx_graphs import linear_graph

RUNTIMES = ("litert", "onnxruntime", "openvino")


@pytest.fixture
def record() -> ModelRecord:
    # The small network has other features than microscopes and words were learned by.
    return replace(read_tflite(bundled_model())[1], microscopes=(), attributes=None)


@pytest.fixture
def small(tmp_path: Path, record: ModelRecord) -> Path:
    """A network of one layer with the bundled model's record."""
    path = tmp_path / "small.onnx"
    write_onnx(path, linear_graph(record), record)
    return path


def test_any_reader_of_onnx_finds_the_record(small: Path, record: ModelRecord) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(small))
    onnx.checker.check_model(model, full_check=True)
    ((key, text),) = ((p.key, p.value) for p in model.metadata_props)
    assert key == "edgecell.json"
    assert ModelRecord.from_json(text, "x").codes == record.codes


def test_graph_and_record_come_back(small: Path, record: ModelRecord) -> None:
    graph, found = read_onnx(small)
    assert graph == linear_graph(record)
    assert found.codes == record.codes
    assert found.review == record.review
    assert found.sealed
    assert read_record(small) == found


def test_every_changed_byte_is_found(small: Path, tmp_path: Path) -> None:
    content = small.read_bytes()
    bad = tmp_path / "bad.onnx"
    for at in np.linspace(0, len(content) - 1, 150).astype(int):
        changed = bytearray(content)
        changed[at] ^= 0x55
        bad.write_bytes(changed)
        with pytest.raises(ModelError):
            read_onnx(bad)
    for size in (0, 1, 100, len(content) - 1):
        bad.write_bytes(content[:size])
        with pytest.raises(ModelError):
            read_onnx(bad)


def test_what_is_no_onnx_of_ours_is_refused(
    tmp_path: Path, record: ModelRecord
) -> None:
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(linear_graph(record))
    with pytest.raises(ModelError, match="no readable edgecell record"):
        read_onnx(plain)
    with pytest.raises(ModelError, match="is not an ONNX model"):
        read_onnx(bundled_model())
    with pytest.raises(ModelError, match="cannot be read"):
        read_onnx(tmp_path / "none.onnx")


def test_its_layers_are_not_looked_into(small: Path) -> None:
    for look in (read_graph, output_tensors, head_weights):
        with pytest.raises(ModelError, match=r"this needs a \.tflite file"):
            look(read_onnx(small)[0])


@pytest.fixture(params=RUNTIMES)
def opened(request: pytest.FixtureRequest, small: Path) -> Callable[[], Classifier]:
    """Opens a model on a runtime; skipped by name where it is not installed."""
    name = request.param
    if name != "litert":
        pytest.importorskip(name)
    model = bundled_model() if name == "litert" else small
    return lambda: Classifier(model, 1, name)


def cells(classifier: Classifier) -> list[Rgb]:
    paths = sorted((SAMPLES / "cells").glob("*_1.jpg"))
    images = (to_rgb(read_image(path)) for path in paths)
    return [cell_image(image, classifier.record.preprocessing) for image in images]


def test_every_runtime_keeps_the_classifiers_contract(
    opened: Callable[[], Classifier],
) -> None:
    classifier = opened()
    seen = cells(classifier)
    each = [classifier.classify(image, features=True) for image in seen]
    classes = len(classifier.record.classes)
    for said in each:
        assert said.logits.shape == (classes,)
        assert said.logits.dtype == said.maps.dtype == np.float32
        assert said.maps.shape == (7, 7, classes)
        assert said.pooled.shape[0] == said.features.shape[2]  # type: ignore[union-attr]
        assert said.probabilities.sum() == pytest.approx(1)
        step = max(classifier.logit_step, 1e-3)
        assert map_residual(said, classifier.record.head_bias) <= 2 * step
    together = classifier.classify_all(seen)
    of_all_cores = classifier.logits(np.stack(seen))
    for one, other, third in zip(each, together, of_all_cores, strict=True):
        assert np.array_equal(one.logits, other.logits)
        assert np.array_equal(one.logits, third)
    assert len({said.logits.tobytes() for said in each}) > 1, "it looks at the image"


def test_the_answer_is_that_of_the_arithmetic(small: Path) -> None:
    for name in RUNTIMES[1:]:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
        classifier = Classifier(small, 1, name)
        (seen, *_) = cells(classifier)
        prep = classifier.record.preprocessing
        x = (seen.astype(np.float64) - prep.mean) / prep.std
        blocks = x.reshape(7, 16, 7, 16, 3).mean((1, 3))
        assert np.allclose(classifier.classify(seen).maps[..., 0], blocks[..., 0], 1e-3)


DROPPED_ELSEWHERE = """
import signal, sys, threading
from pathlib import Path
from edgecell.model.classifier import Classifier
held = [Classifier(Path(sys.argv[1]), 1, sys.argv[2])]
dropping = threading.Thread(target=held.clear)
dropping.start()
dropping.join()
signal.signal(signal.SIGINT, lambda *_: print("heard"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.parametrize("name", RUNTIMES[1:])
def test_ctrl_c_is_heard_after_another_thread_dropped_the_model(
    small: Path, name: str
) -> None:
    pytest.importorskip(name)
    done = subprocess.run(
        [sys.executable, "-c", DROPPED_ELSEWHERE, str(small), name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_a_runtime_for_the_other_kind_is_refused(small: Path) -> None:
    with pytest.raises(InputError, match=r"litert runs no \.onnx model"):
        Classifier(small, 1, "litert")
    with pytest.raises(InputError, match="edgecell convert bundled --onnx"):
        Classifier(bundled_model(), 1, "onnxruntime")


def test_a_missing_runtime_is_named(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "installed_for_onnx", list)
    with pytest.raises(MissingPackageError, match="openvino is not installed"):
        Classifier(small, 1, "openvino")
    with pytest.raises(MissingPackageError, match=r"\.\[onnx\]"):
        Classifier(small)


def test_a_gpu_is_tried_before_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    ort = pytest.importorskip("onnxruntime")
    every = [f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt", "XNN")]
    monkeypatch.setattr(ort, "get_available_providers", lambda: every)
    found = [r.provider for r in installed_for_onnx() if r.name == "onnxruntime"]
    assert found == [every[2], every[1], every[0]]


def test_a_gpu_that_fails_gives_way(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ort = pytest.importorskip("onnxruntime")
    gpu = Runtime("onnxruntime", "1.0", "CUDAExecutionProvider")
    cpu = Runtime("onnxruntime", ort.__version__, "CPUExecutionProvider")
    monkeypatch.setattr(runtime, "installed_for_onnx", lambda: [gpu, cpu])
    classifier = Classifier(small)
    assert classifier.runtime == cpu
    assert [attempt.error != "" for attempt in classifier.attempts] == [True, False]


def test_info_classify_and_run_take_it(small: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    cell = SAMPLES / "cells" / "EO_1.jpg"
    frame = next((SAMPLES / "frames").glob("bccd*"))
    out = str(tmp_path / "out")
    for command in (
        ["info", str(small)],
        ["classify", str(cell), "--model", str(small)],
        ["run", str(frame), "--model", str(small), "--runtime", "onnxruntime"],
    ):
        words = [*command, "--out", out] if command[0] == "run" else command
        done = subprocess.run(
            [sys.executable, "-m", "edgecell", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "onnxruntime" in done.stdout
