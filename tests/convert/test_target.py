import json
import struct
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tflite

from edgecell.convert.target import (
    _OLD_VERSIONS,
    ENVIRONMENT,
    check_versions,
    run_on_target,
)
from edgecell.errors import InputError, ModelError
from edgecell.model.graph import read_graph
from edgecell.model.modelfile import bundled_model, read_tflite, write_tflite

ROOT = Path(__file__).parents[2]
OLD_RUNTIME = ROOT / ".venv-tflite-runtime" / "bin" / "python"
needs_old_runtime = pytest.mark.skipif(
    not OLD_RUNTIME.exists()
    or subprocess.run(
        [OLD_RUNTIME, "-c", "import tflite_runtime"], capture_output=True, check=False
    ).returncode
    != 0,
    reason="tflite-runtime 2.14 has no wheel for this Python",
)


@pytest.fixture
def cells() -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (4, 112, 112, 3), np.uint8)


def with_version(flatbuffer: bytes, operator: str, version: int) -> bytes:
    """The model with another version number of one kind of operator."""
    changed = bytearray(flatbuffer)
    model = tflite.Model.GetRootAs(changed, 0)
    number = getattr(tflite.BuiltinOperator, operator)
    for i in range(model.OperatorCodesLength()):
        code = model.OperatorCodes(i)
        if max(code.DeprecatedBuiltinCode(), code.BuiltinCode()) == number:
            at = code._tab.Pos + code._tab.Offset(8)
            struct.pack_into("<i", changed, at, version)
    return bytes(changed)


ACCEPTED = """
import json, sys
from pathlib import Path
from tflite_runtime.interpreter import Interpreter
answers = {}
for path in sorted(Path(sys.argv[1]).glob("*.tflite")):
    try:
        Interpreter(str(path)).allocate_tensors()
        answers[path.stem] = True
    except (ValueError, RuntimeError):
        answers[path.stem] = False
print(json.dumps(answers))
"""


@needs_old_runtime
def test_the_older_runtime_accepts_versions_as_listed_and_no_more(
    tmp_path: Path,
) -> None:
    flatbuffer, _ = read_tflite(bundled_model())
    written = {o.name for o in read_graph(flatbuffer).operators if o.version > 1}
    assert {"CONV_2D", "DEPTHWISE_CONV_2D", "ADD"} <= written
    for name in written:
        for more in (0, 1):
            version = _OLD_VERSIONS[name] + more
            path = tmp_path / f"{name}-{more}.tflite"
            path.write_bytes(with_version(flatbuffer, name, version))
    done = subprocess.run(
        [OLD_RUNTIME, "-c", ACCEPTED, tmp_path],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    accepted = json.loads(done.stdout.splitlines()[-1])
    assert accepted == {
        f"{name}-{more}": more == 0 for name in written for more in (0, 1)
    }


def test_newer_operators_are_refused_for_the_older_runtime() -> None:
    graph = read_graph(read_tflite(bundled_model())[0])
    check_versions(graph, "tflite-runtime-2.14")
    first, *rest = graph.operators
    newer = replace(graph, operators=(replace(first, version=99), *rest))
    check_versions(newer, "litert")
    with pytest.raises(ModelError, match=r"CONV_2D up to version 7.*version 99"):
        check_versions(newer, "tflite-runtime-2.14")
    unknown = replace(graph, operators=(replace(first, name="EINSUM", version=2),))
    with pytest.raises(ModelError, match="EINSUM up to version 1"):
        check_versions(unknown, "tflite-runtime-2.14")


@needs_old_runtime
def test_a_file_is_really_run_on_the_older_runtime(
    cells: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(OLD_RUNTIME))
    run = run_on_target(bundled_model(), cells, "tflite-runtime-2.14")
    assert run.ran
    assert run.images == len(cells)
    assert run.agreement == 1
    # The runtimes' kernels round differently.
    assert run.worst_steps is not None
    assert run.worst_steps <= 4
    assert run.median_ms
    assert run.median_ms > 0


@needs_old_runtime
def test_what_the_older_runtime_refuses_is_an_error(
    cells: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(OLD_RUNTIME))
    flatbuffer, record = read_tflite(bundled_model())
    # LiteRT knows version 8 of CONV_2D, the older runtime doesn't.
    write_tflite(tmp_path / "m.tflite", with_version(flatbuffer, "CONV_2D", 8), record)
    with pytest.raises(ModelError, match=r"2\.14 refuses the file: .*CONV_2D"):
        run_on_target(tmp_path / "m.tflite", cells, "tflite-runtime-2.14")


def test_a_runtime_that_cannot_be_installed_is_said(
    cells: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    run = run_on_target(bundled_model(), cells, "tflite-runtime-2.14")
    assert not run.ran
    assert "can't be installed here" in run.reason
    monkeypatch.setenv(ENVIRONMENT, "/nowhere/python")
    with pytest.raises(InputError, match="which does not exist"):
        run_on_target(bundled_model(), cells, "tflite-runtime-2.14")


def test_litert_runs_it_here(cells: np.ndarray) -> None:
    run = run_on_target(bundled_model(), cells, "litert")
    assert (run.ran, run.images) == (True, len(cells))
    assert run.agreement is None, "there is no other runtime to compare with"
    assert run.median_ms
