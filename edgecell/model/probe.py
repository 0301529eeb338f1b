"""Runs a model once in a process of its own, before it may run in this one.

A TFLite runtime trusts what it is given: a graph that was made to harm, or converted by
a broken tool, ends the process. The hashes in a model file don't help against that,
since whoever changes a file can compute them again. No check of the file alone finds
everything that can crash a runtime; running it does.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import edgecell
from edgecell.errors import ModelError

SECONDS = 60.0
_PATIENCE_ON_GPU = 10
_REFUSED = 3  # exit status of a child in which the runtime gave a reason
_MEMORY = 2**31  # bytes that a model may take on top of itself


def probe(
    graph: bytes, runtime: str, provider: str = "", seconds: float = SECONDS
) -> str:
    """Builds an interpreter in a child process and runs it once.

    Args:
        graph: the TFLite or ONNX model.
        runtime: name of the runtime, see `runtime.Runtime`.
        provider: its execution provider, likewise.
        seconds: how long that may take; ten times as long on a GPU, for which an engine
            may have to be built first.

    Returns:
        '' if it runs, else the runtime's reason for rejecting the model.

    Raises:
        ModelError: the child crashed, or did not come to an end.
    """
    code = "import sys; from edgecell.model.probe import child; child(*sys.argv[1:])"
    if _on_gpu(provider):
        seconds *= _PATIENCE_ON_GPU
    home = str(Path(edgecell.__file__).parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, runtime, provider],
            input=graph,
            capture_output=True,
            check=False,
            timeout=seconds,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired as e:
        raise ModelError(
            f"the model did not finish one inference within {seconds:g} s; it is "
            "damaged, or too large for this machine"
        ) from e
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == _REFUSED:
        return said.splitlines()[-1] if said else "it was refused"
    how = f"status {done.returncode}"
    if done.returncode < 0:
        how = signal.Signals(-done.returncode).name
    raise ModelError(
        f"the model crashes {runtime} ({how}); it is damaged, or was made to do so: "
        "convert it again, from a network that you trust"
    )


def _on_gpu(provider: str) -> bool:
    return bool(provider) and not provider.startswith("CPU")


def child(runtime: str, provider: str) -> None:
    """The child's side: reads the model from standard input, exits with a status."""
    import numpy as np

    from edgecell.model.runtime import Runtime

    graph = sys.stdin.buffer.read()
    # A GPU's driver maps far more than it uses.
    _limit(None if _on_gpu(provider) else _MEMORY + 4 * len(graph))
    try:
        interpreter = Runtime(runtime, "", provider).interpreter(graph, threads=1)
        for given in interpreter.get_input_details():
            zeros = np.zeros(given["shape"], given["dtype"])
            interpreter.set_tensor(given["index"], zeros)
        interpreter.invoke()
    except Exception as e:  # whatever it is, it is the reason to report
        why = " ".join(str(e).split()) or type(e).__name__
        print(why, file=sys.stderr)
        sys.exit(_REFUSED)
    os._exit(0)  # avoids tearing down what may be damaged


def _limit(memory: int | None) -> None:
    """No core files; and a model that asks for all memory gets none, unless None."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
