"""Runs a TFLite file under tflite-runtime; see target.py.

    python target_worker.py FOLDER

A script of its own, for an environment without edgecell: FOLDER holds model.tflite and
inputs.npy (N, S, S, 3) of the input's type; gets logits.npy, float32 (N, C), and
seconds.npy, float64 (N,), the time of each inference.
"""

import sys
import time
from pathlib import Path

import numpy as np


def main(folder: Path) -> None:
    """Does the job in a folder."""
    from tflite_runtime.interpreter import Interpreter

    interpreter = Interpreter(str(folder / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    # For names alone: called, a signature runner plans the memory anew each time; kept,
    # it bars the interpreter from running.
    outputs = interpreter.get_signature_runner("serving_default").get_output_details()
    details = outputs["logits"]
    (given,) = interpreter.get_input_details()
    rows, seconds = [], []
    for x in np.load(folder / "inputs.npy"):
        start = time.perf_counter()
        interpreter.set_tensor(given["index"], x[None])
        interpreter.invoke()
        logits = interpreter.get_tensor(details["index"])[0].astype(np.float32)
        seconds.append(time.perf_counter() - start)
        scale, zero_point = details["quantization"]
        rows.append((logits - zero_point) * scale if scale else logits)
    np.save(folder / "seconds.npy", np.array(seconds))
    np.save(folder / "logits.npy", np.array(rows, np.float32))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
