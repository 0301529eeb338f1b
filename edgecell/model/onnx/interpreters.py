"""ONNX Runtime and OpenVINO behind the few methods of a TFLite interpreter."""

import importlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.model.modelfile import FEATURES, LOGITS, MAPS

# TensorRT builds an engine for the board at hand, which takes minutes; it is kept.
_ENGINES = Path.home() / ".cache" / "edgecell" / "tensorrt"
TENSORRT = "TensorrtExecutionProvider"


@dataclass(frozen=True)
class Signature:
    """The outputs' details by their names."""

    outputs: dict[str, dict[str, Any]]

    def get_output_details(self) -> dict[str, dict[str, Any]]:
        """As TFLite's signature runner gives them."""
        return self.outputs


class OnnxInterpreter:
    """A network with one input and named outputs, all of them fixed in shape.

    Tensors are numbered: the input is 0, the outputs follow in their order.
    """

    def __init__(self) -> None:
        """Starts without tensors; a subclass describes them by `_describe`."""
        self._details: list[dict[str, Any]] = []
        self._given: npt.NDArray[Any] = np.empty(0)
        self._made: list[npt.NDArray[Any]] = []

    def _describe(
        self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike
    ) -> None:
        """Adds a tensor: the input first, then the outputs."""
        self._details.append(
            {
                "name": name,
                "index": len(self._details),
                "shape": np.array(shape),
                "dtype": np.dtype(dtype).type,
                "quantization": (0.0, 0),
            }
        )

    def allocate_tensors(self) -> None:
        """Does nothing: the runtime has done it."""

    def set_tensor(self, tensor_index: int, value: npt.NDArray[Any]) -> None:
        """Sets the input."""
        self._given = value

    def get_tensor(self, tensor_index: int) -> npt.NDArray[Any]:
        """An output of the last inference, index 1 and up."""
        return self._made[tensor_index - 1]

    def get_input_details(self) -> list[dict[str, Any]]:
        """Of the input, as TFLite's interpreter gives them."""
        return self._details[:1]

    def get_output_details(self) -> list[dict[str, Any]]:
        """Of the outputs, likewise."""
        return self._details[1:]

    def get_signature_runner(self, signature_key: str) -> "Signature":
        """Returns the only signature that an ONNX graph has."""
        return Signature({details["name"]: details for details in self._details[1:]})

    def resize_tensor_input(self, input_index: int, tensor_size: Any) -> None:
        """Refuses: our ONNX graphs have one size.

        Raises:
            ValueError: always.
        """
        raise ValueError("the ONNX graph must have a fixed size")


class OrtInterpreter(OnnxInterpreter):
    """ONNX Runtime with one of its execution providers."""

    def __init__(self, graph: bytes, threads: int, provider: str) -> None:
        """Opens a session.

        Args:
            graph: the serialised ONNX model.
            threads: threads of an operator, at least 1.
            provider: an execution provider, such as 'CPUExecutionProvider'.

        Raises:
            RuntimeError: the provider does not work here; ONNX Runtime itself would
                go on with another one.
        """
        super().__init__()
        ort = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        settings = {}
        if provider == TENSORRT:
            _ENGINES.mkdir(parents=True, exist_ok=True)
            settings = {
                "trt_fp16_enable": True,
                "trt_engine_cache_enable": True,
                "trt_engine_cache_path": str(_ENGINES),
            }
        self._session = ort.InferenceSession(
            graph, options, providers=[(provider, settings)]
        )
        if self._session.get_providers()[0] != provider:
            raise RuntimeError(f"{provider} does not work here")
        tensors = self._session.get_inputs()[:1] + self._session.get_outputs()
        for tensor in tensors:
            self._describe(tensor.name, tuple(tensor.shape), _ORT_TYPES[tensor.type])

    def invoke(self) -> None:
        """Runs the network."""
        feed = {self._details[0]["name"]: self._given}
        self._made = self._session.run(None, feed)


_ORT_TYPES = {"tensor(float)": "f4", "tensor(int8)": "i1", "tensor(uint8)": "u1"}


_ONE_CORE = Lock()


@cache
def _core(openvino: ModuleType) -> Any:
    """OpenVINO's Core, which is kept until the process ends.

    With its first network it gives the calling thread a stack for signals, and frees it
    when the last network is dropped. If another thread drops that one, the next Ctrl-C
    ends in a segmentation fault.
    """
    return openvino.Core()


class OpenVinoInterpreter(OnnxInterpreter):
    """OpenVINO on the processor."""

    def __init__(self, graph: bytes, threads: int) -> None:
        """Compiles the network.

        Args:
            graph: the serialised ONNX model.
            threads: threads of an inference, at least 1.
        """
        super().__init__()
        openvino = importlib.import_module("openvino")
        with _ONE_CORE:
            core = _core(openvino)
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Otherwise bfloat16 where the processor has it: not what was compared.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = core.compile_model(core.read_model(graph), "CPU", settings)
        self._request = compiled.create_infer_request()
        for port in (compiled.inputs[0], *compiled.outputs):
            dtype = port.get_element_type().to_dtype()
            # A tensor has several names where nodes were taken out between them.
            known = [n for n in (LOGITS, MAPS, FEATURES) if n in port.names]
            name = (known or [port.get_any_name()])[0]
            self._describe(name, tuple(port.get_shape()), dtype)
        self._ports = compiled.outputs

    def invoke(self) -> None:
        """Runs the network."""
        self._request.infer([self._given])
        self._made = [self._request.get_tensor(p).data.copy() for p in self._ports]
