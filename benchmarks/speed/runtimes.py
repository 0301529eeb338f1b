"""The same network on every runtime that is installed, side by side in one run."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgecell.benchmarks.latency import WARM_UP, Machine, Timing, this_machine
from edgecell.errors import MissingPackageError
from edgecell.image.preprocess import Rgb
from edgecell.model.classifier import Classifier, read_network
from edgecell.model.modelfile import resolve
from edgecell.model.onnx.file import is_onnx
from edgecell.optional import require

_ROUNDS = 5
"""All take turns so often, so that what else the machine does hits each of them."""

_GEMM = 1024
"""Side of the matrices whose product is the limit."""


@dataclass(frozen=True)
class Peer:
    """One model file on one runtime, one thread.

    Attributes:
        model: the file's name.
        scheme: its number format.
        runtime: what ran it.
        timing: of one cell, image to prediction.
    """

    model: str
    scheme: str
    runtime: str
    timing: Timing


@dataclass(frozen=True)
class Peers:
    """All of them, with the machine's peak performance.

    Attributes:
        machine: where they ran.
        runs: timed inferences of each.
        flops: operations of one inference, 2 x MACs.
        gemm_float: float32 operations a second in a product of two matrices, one
            thread, by numpy's BLAS.
        gemm_int8: int8 operations a second likewise, by ONNX Runtime; None without it.
        peers: in the order of the files.
        left_out: files that could not run, each with the reason.
    """

    machine: Machine
    runs: int
    flops: int
    gemm_float: float
    gemm_int8: float | None
    peers: tuple[Peer, ...]
    left_out: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)


def measure_peers(models: Sequence[str], runs: int, flops: int) -> Peers:
    """Times model files in turns on all runtimes for their kind.

    Args:
        models: files of ours, ``.tflite`` or ``.onnx``, or 'bundled'.
        runs: timed inferences of each pair, at least 1.
        flops: operations of one inference.

    Raises:
        ModelError: a file is none of ours.
    """
    opened: list[Classifier] = []
    left_out = {}
    for model in models:
        path = resolve(model)
        onnx = is_onnx(read_network(path)[0])
        for runtime in ("onnxruntime", "openvino") if onnx else ("litert",):
            try:
                opened.append(Classifier(path, 1, runtime))
            except MissingPackageError as e:
                left_out[f"{path.name} on {runtime}"] = str(e)
    times: list[list[int]] = [[] for _ in opened]
    rng = np.random.default_rng(0)
    for _ in range(_ROUNDS):
        for classifier, samples in zip(opened, times, strict=True):
            side = classifier.record.preprocessing.input_size
            image = Rgb(rng.integers(0, 256, (side, side, 3), np.uint8))
            samples += _samples(classifier, image, max(1, runs // _ROUNDS))
    peers = tuple(
        Peer(c.path.name, c.record.scheme, str(c.runtime), Timing.from_ns(samples))
        for c, samples in zip(opened, times, strict=True)
    )
    return Peers(
        this_machine(), runs, flops, float_rate(), int8_rate(), peers, left_out
    )


def _samples(classifier: Classifier, image: Rgb, runs: int) -> list[int]:
    for _ in range(WARM_UP):
        classifier.classify(image)
    samples = []
    for _ in range(runs):
        start = time.perf_counter_ns()
        classifier.classify(image)
        samples.append(time.perf_counter_ns() - start)
    return samples


_MULTIPLY = f"""
import time
import numpy as np
a = np.random.default_rng(0).random(({_GEMM}, {_GEMM}), np.float32)
best = float("inf")
for _ in range(8):
    start = time.perf_counter()
    a @ a
    best = min(best, time.perf_counter() - start)
print(best)
"""


def float_rate() -> float:
    """float32 operations a second of one thread in a matrix product; the best of 8."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(  # numpy's BLAS reads its number of threads when it starts
        [sys.executable, "-c", _MULTIPLY],
        env=os.environ | dict.fromkeys(names, "1"),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(2 * _GEMM**3 / float(done.stdout))


def int8_rate() -> float | None:
    """int8 operations a second likewise, by ONNX Runtime; None where it is missing."""
    try:
        onnx, ort = require("onnx", "onnx-export"), require("onnxruntime", "onnx")
    except MissingPackageError:
        return None
    helper, kinds = onnx.helper, onnx.TensorProto
    sides = [_GEMM, _GEMM]
    weights = np.random.default_rng(0).integers(-128, 128, sides).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kinds.UINT8, sides)],
        [helper.make_tensor_value_info("c", kinds.INT32, sides)],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {"a": weights.view(np.uint8)}
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        session.run(None, given)
        best = min(best, time.perf_counter() - start)
    return float(2 * _GEMM**3 / best)


def peers_text(found: Peers) -> str:
    """The table for people."""
    lines = [f"{'median ms':>10}{'p95':>8}{'GFLOP/s':>9}  {'scheme':<9}on"]
    for peer in found.peers:
        median = peer.timing.median_ms
        lines.append(
            f"{median:>10.2f}{peer.timing.p95_ms:>8.2f}"
            f"{found.flops / median / 1e6:>9.0f}  {peer.scheme:<9}"
            f"{peer.runtime}, {peer.model}"
        )
    m = found.machine
    int8 = "-" if found.gemm_int8 is None else f"{found.gemm_int8 / 1e9:.0f}"
    return "\n".join(
        [
            *lines,
            *(f"left out: {what}: {why}" for what, why in found.left_out.items()),
            "",
            f"the limit, a product of {_GEMM}x{_GEMM} matrices on one thread: float32 "
            f"{found.gemm_float / 1e9:.0f} GFLOP/s, int8 {int8}",
            f"one cell's image to its prediction, {found.flops / 1e9:.2f} GFLOPs, one "
            f"thread, {found.runs} runs in {_ROUNDS} turns",
            f"machine: {m.model}, {m.architecture}, {m.cores} cores",
        ]
    )
