"""Which runtime runs a model here.

A TFLite graph runs on ai-edge-litert, tflite-runtime or TensorFlow, an ONNX graph on
ONNX Runtime, with a GPU if it has one, or on OpenVINO.
"""

import importlib
import importlib.metadata
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from edgecell.errors import InputError, MissingPackageError
from edgecell.model.modelfile import ARCHIVE_START, bundled_finder, bundled_model
from edgecell.model.onnx.file import is_onnx
from edgecell.model.onnx.interpreters import (
    TENSORRT,
    OpenVinoInterpreter,
    OrtInterpreter,
)
from edgecell.model.probe import probe
from edgecell.quiet import quiet_stderr
from edgecell.signals import held_back


class Interpreter(Protocol):
    """The part of the TFLite interpreter that is used here; all runtimes have it."""

    def allocate_tensors(self) -> None: ...
    def resize_tensor_input(self, input_index: int, tensor_size: Any) -> None: ...
    def invoke(self) -> None: ...
    def set_tensor(self, tensor_index: int, value: Any) -> None: ...
    def get_tensor(self, tensor_index: int) -> Any: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def get_signature_runner(self, signature_key: str) -> Any: ...


# In order of preference. TensorFlow's own comes last: it is on workstations only.
_MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}

_ORT, _OPENVINO = "onnxruntime", "openvino"
_ORT_PACKAGES = ("onnxruntime-gpu", "onnxruntime")
_PROVIDERS = (TENSORRT, "CUDAExecutionProvider", "CPUExecutionProvider")
"""ONNX Runtime's, in order of preference."""

RUNTIMES = {"litert": tuple(_MODULES), _ORT: (_ORT,), _OPENVINO: (_OPENVINO,)}
"""What a user may ask for, and the names of the runtimes that are meant."""


@dataclass(frozen=True)
class Runtime:
    """A runtime package that is installed.

    Attributes:
        name: package name: 'ai-edge-litert', 'tflite-runtime', 'tensorflow',
            'onnxruntime' or 'openvino'.
        version: its version.
        provider: ONNX Runtime's execution provider; '' for other runtimes.
    """

    name: str
    version: str
    provider: str = ""

    def __str__(self) -> str:
        provider = f" ({self.provider})" if self.provider else ""
        return f"{self.name} {self.version}{provider}"

    def interpreter(self, graph: bytes, threads: int) -> Interpreter:
        """Builds an interpreter and allocates its tensors.

        Args:
            graph: the TFLite or ONNX model.
            threads: number of threads, at least 1.
        """
        if self.name == _ORT:
            return OrtInterpreter(graph, threads, self.provider)
        if self.name == _OPENVINO:
            return OpenVinoInterpreter(graph, threads)
        module = importlib.import_module(_MODULES[self.name])
        with quiet_stderr():  # the runtimes announce their delegate there
            made: Interpreter = module.Interpreter(
                model_content=graph, num_threads=threads
            )
            made.allocate_tensors()
        return made


@dataclass(frozen=True)
class Attempt:
    """What happened when a runtime was tried; ``error`` is empty if it works."""

    runtime: Runtime
    error: str


def installed() -> list[Runtime]:
    """TFLite's runtime packages that are installed, best first, working or not."""
    found = []
    for name in _MODULES:
        try:
            found.append(Runtime(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def installed_for_onnx() -> list[Runtime]:
    """What is installed for ONNX models, likewise: a GPU's before a processor's."""
    found = []
    for package in _ORT_PACKAGES:
        try:
            version = importlib.metadata.version(package)
            with held_back():
                available = importlib.import_module(_ORT).get_available_providers()
        except (importlib.metadata.PackageNotFoundError, ImportError):
            continue
        found += [Runtime(_ORT, version, p) for p in _PROVIDERS if p in available]
        break
    try:
        found.append(Runtime(_OPENVINO, importlib.metadata.version(_OPENVINO)))
    except importlib.metadata.PackageNotFoundError:
        pass
    return found


def _candidates(graph: bytes, wanted: str | None) -> list[Runtime]:
    """The runtimes that may run a graph, best first.

    Raises:
        InputError: the wanted one is for models of the other kind.
        MissingPackageError: it is not installed.
    """
    onnx = is_onnx(graph)
    found = installed_for_onnx() if onnx else installed()
    if wanted is None:
        return found
    if onnx == (wanted == "litert"):
        raise InputError(
            f"{wanted} runs no {'.onnx' if onnx else '.tflite'} model"
            + ("" if onnx else "; make an .onnx with: edgecell convert bundled --onnx")
        )
    chosen = [runtime for runtime in found if runtime.name in RUNTIMES[wanted]]
    if not chosen:
        extra = "edge" if wanted == "litert" else "onnx"
        package = wanted if wanted == _OPENVINO else f'".[{extra}]"'
        raise MissingPackageError(
            f"{wanted} is not installed; install it with: pip install {package}"
        )
    return chosen


def open_interpreter(
    graph: bytes, threads: int, wanted: str | None = None
) -> tuple[Interpreter, Runtime, list[Attempt]]:
    """Builds an interpreter with the first runtime that can.

    An import that succeeds proves nothing: tflite-runtime with numpy 2 imports and
    then fails to build an interpreter, so each runtime is tried with the model. A model
    that is not a bundled one is first run in a process of its own, see `probe`.

    Args:
        graph: the TFLite or ONNX model.
        threads: number of threads, at least 1.
        wanted: one of `RUNTIMES`; None for the first that works.

    Returns:
        The interpreter, its runtime, and all attempts up to it.

    Raises:
        ModelError: the model crashes a runtime, or never ends.
        InputError: see `_candidates`.
        MissingPackageError: no runtime is installed, or none takes the model.
    """
    attempts: list[Attempt] = []
    for runtime in _candidates(graph, wanted):
        reason = _probed(graph, runtime)
        if reason:
            attempts.append(Attempt(runtime, reason))
            continue
        try:
            with held_back():
                made = runtime.interpreter(graph, threads)
        except (ImportError, SystemError, RuntimeError, ValueError) as e:
            reason = (str(e) or type(e).__name__).splitlines()[0]
            attempts.append(Attempt(runtime, reason))
            continue
        attempts.append(Attempt(runtime, ""))
        return made, runtime, attempts
    tried = "; ".join(f"{a.runtime}: {a.error}" for a in attempts)
    kind, extra = ("ONNX", "onnx") if is_onnx(graph) else ("TFLite", "edge")
    raise MissingPackageError(
        f"no {kind} runtime works here"
        + (f" ({tried})" if tried else "")
        + f'; install one with: pip install ".[{extra}]"'
    )


_probing = threading.Lock()


def _probed(graph: bytes, runtime: Runtime) -> str:
    """Runs `probe` once per model: '' if it runs. The bundled ones are known to run."""
    bundled = (bundled_model(), bundled_finder())
    if any(path.read_bytes().startswith(graph + ARCHIVE_START) for path in bundled):
        return ""
    with _probing:
        return _probed_once(graph, runtime.name, runtime.provider)


_probed_once = lru_cache(maxsize=8)(probe)
