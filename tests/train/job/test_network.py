import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edgecell.errors import InputError
from edgecell.train.job.networks.network import (
    GRsNet,
    get_weights,
    set_weights,
)
from edgecell.train.networks.network import PRESETS, NetworkSpec
from tests.factories import TINY


def shaken(spec: NetworkSpec) -> GRsNet:
    """A network whose batch normalisations are not the identity."""
    torch.manual_seed(3)
    network = GRsNet(spec).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network


@pytest.mark.parametrize("name", ["grsnet-lite", "grsnet"])
def test_it_has_the_parameters_of_the_preset(name: str) -> None:
    weights = get_weights(GRsNet(PRESETS[name]))
    count = sum(w.size for w in weights.values())
    assert count == {"grsnet-lite": 1_937_580, "grsnet": 4_813_212}[name]


def test_weights_go_out_and_in() -> None:
    one, other = shaken(TINY), GRsNet(TINY).eval()
    set_weights(other, get_weights(one))
    x = torch.randn(2, 3, 33, 33)
    assert torch.equal(one(x), other(x))


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(InputError, match="not those of a grsnet-lite"):
        set_weights(GRsNet(PRESETS["grsnet-lite"]), get_weights(GRsNet(TINY)))


# In a process of its own: Keras keeps the backend that it was first imported with.
COMPARE = """
import sys
from dataclasses import replace

import keras
import numpy as np
import torch

from edgecell.train.job.networks.network import get_weights
from edgecell.train.networks.keras_weights import set_keras_weights
from edgecell.train.networks.network import PRESETS, build
from tests.factories import TINY
from tests.train.job.test_network import shaken

# GhostNet's own kernels: the convolution that strides is a depthwise one.
pointwise = replace(TINY, name="pointwise", kernel=1)
for spec in (*PRESETS.values(), pointwise):
    network = shaken(spec)
    for side in (112, 80):
        model = build(spec, 12, side, framework=keras)
        set_keras_weights(model, get_weights(network))
        x = np.random.default_rng(0).normal(size=(3, side, side, 3)).astype(np.float32)
        with torch.no_grad():
            ours = network(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
            theirs = model(x, training=False).detach().numpy()
        print(spec.name, side, np.abs(ours - theirs).max() / np.abs(theirs).max())
"""


def test_keras_builds_the_same_network() -> None:
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", COMPARE],
        env=os.environ | {"KERAS_BACKEND": "torch", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 6
    assert all(float(difference) < 1e-5 for _, _, difference in rows)


def test_heads_of_attributes_share_the_features_and_may_be_absent() -> None:
    plain = shaken(TINY)
    both = GRsNet(TINY, sizes=(2, 3)).eval()
    set_weights(both, get_weights(plain))
    assert both.attributes is not None
    torch.nn.init.normal_(both.attributes.weight)
    x = torch.randn(2, 3, 33, 33)
    assert torch.equal(plain(x), both(x))
    other = GRsNet(TINY, sizes=(2, 3)).eval()
    set_weights(other, get_weights(both))
    assert other.attributes is not None
    assert torch.equal(
        other.attributes(other.pooled(x)), both.attributes(both.pooled(x))
    )
    with pytest.raises(InputError, match="not those of a tiny"):
        set_weights(plain, get_weights(both))
