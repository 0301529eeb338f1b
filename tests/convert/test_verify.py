from pathlib import Path

import pytest

from edgecell.convert.export import QuantScheme
from edgecell.convert.verify import prove
from edgecell.errors import ModelError
from edgecell.model.graph import Graph, read_graph
from edgecell.model.modelfile import bundled_model, read_tflite
from tests.convert.conftest import SCHEMES


def test_every_scheme_is_what_it_says_and_nothing_else(
    converted: dict[str, Path],
) -> None:
    claims = {(s.name, s.io): s for s in SCHEMES.values()}
    for name, scheme in SCHEMES.items():
        flatbuffer, _ = read_tflite(converted[name])
        prove(flatbuffer, scheme)
        for claim in claims.values():
            if claim != scheme:
                with pytest.raises(ModelError):
                    prove(flatbuffer, claim)


def test_the_operator_is_named() -> None:
    flatbuffer, _ = read_tflite(bundled_model())
    with pytest.raises(ModelError, match=r"is INT8, not FLOAT32"):
        prove(flatbuffer, QuantScheme("float32"))


def graph() -> Graph:
    return read_graph(read_tflite(bundled_model())[0])


def test_tensors_of_the_bundled_model() -> None:
    g = graph()
    assert [t.shape for t in g.inputs] == [(1, 112, 112, 3)]
    shapes = sorted(t.shape for t in g.outputs)
    assert shapes == [(1, 7, 7, 12), (1, 7, 7, 224), (1, 12)]
    kernels = [o.inputs[1] for o in g.operators if o.name == "CONV_2D"]
    assert all(k.dtype == "INT8" and k.constant for k in kernels)
    # One scale for each output channel.
    assert all(len(k.scales) == k.shape[0] for k in kernels)


def test_integers_take_integers_and_floats_floats() -> None:
    for name in ("float32", "float16", "dynamic", "int16x8"):
        with pytest.raises(ValueError, match="takes float32 inputs"):
            QuantScheme(name, "int8")
