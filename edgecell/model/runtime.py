"""Which TFLite runtime runs here: ai-edge-litert, tflite-runtime or TensorFlow."""

import importlib
import importlib.metadata
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from edgecell.errors import MissingPackageError
from edgecell.model.modelfile import ARCHIVE_START, bundled_model
from edgecell.model.probe import probe
from edgecell.quiet import quiet_stderr


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


@dataclass(frozen=True)
class Runtime:
    """A runtime package that is installed.

    Attributes:
        name: package name: 'ai-edge-litert', 'tflite-runtime' or 'tensorflow'.
        version: its version.
    """

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    def interpreter(self, flatbuffer: bytes, threads: int) -> Interpreter:
        """Builds an interpreter and allocates its tensors.

        Args:
            flatbuffer: the TFLite model.
            threads: number of threads, at least 1.
        """
        module = importlib.import_module(_MODULES[self.name])
        with quiet_stderr():  # the runtimes announce their delegate there
            made: Interpreter = module.Interpreter(
                model_content=flatbuffer, num_threads=threads
            )
            made.allocate_tensors()
        return made


# In order of preference. TensorFlow's own comes last: it is on workstations only.
_MODULES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}


@dataclass(frozen=True)
class Attempt:
    """What happened when a runtime was tried; ``error`` is empty if it works."""

    runtime: Runtime
    error: str


def installed() -> list[Runtime]:
    """Runtime packages that are installed, best first, working or not."""
    found = []
    for name in _MODULES:
        try:
            found.append(Runtime(name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def open_interpreter(
    flatbuffer: bytes, threads: int
) -> tuple[Interpreter, Runtime, list[Attempt]]:
    """Builds an interpreter with the first runtime that can.

    An import that succeeds proves nothing: tflite-runtime with numpy 2 imports and
    then fails to build an interpreter, so each runtime is tried with the model. A model
    that is not the bundled one is first run in a process of its own, see `probe`.

    Args:
        flatbuffer: the TFLite model.
        threads: number of threads, at least 1.

    Returns:
        The interpreter, its runtime, and all attempts up to it.

    Raises:
        ModelError: the model crashes a runtime, or never ends.
        MissingPackageError: no runtime is installed, or none takes the model.
    """
    attempts: list[Attempt] = []
    for runtime in installed():
        reason = _probed(flatbuffer, runtime.name)
        if reason:
            attempts.append(Attempt(runtime, reason))
            continue
        try:
            made = runtime.interpreter(flatbuffer, threads)
        except (ImportError, SystemError, RuntimeError, ValueError) as e:
            reason = (str(e) or type(e).__name__).splitlines()[0]
            attempts.append(Attempt(runtime, reason))
            continue
        attempts.append(Attempt(runtime, ""))
        return made, runtime, attempts
    tried = "; ".join(f"{a.runtime.name}: {a.error}" for a in attempts)
    raise MissingPackageError(
        "no TFLite runtime works here"
        + (f" ({tried})" if tried else "")
        + '; install one with: pip install "edgecell[edge]"'
    )


_probing = threading.Lock()


def _probed(flatbuffer: bytes, runtime: str) -> str:
    """As `probe`, once for a model: '' if it runs. The bundled one is known to."""
    if bundled_model().read_bytes().startswith(flatbuffer + ARCHIVE_START):
        return ""
    with _probing:
        return _probed_once(flatbuffer, runtime)


_probed_once = lru_cache(maxsize=8)(probe)
