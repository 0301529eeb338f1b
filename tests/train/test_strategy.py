import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgecell.data.audit import audited
from edgecell.data.dataset import read
from edgecell.errors import InputError
from edgecell.model.kerasfile import load_keras
from edgecell.train.history import read_history
from edgecell.train.networks.network import PRESETS
from edgecell.train.run import train
from edgecell.train.strategy import open_strategy
from tests.factories import TINY, TINY_CONFIG

ROOT = Path(__file__).parents[2]
# Each worker has dropout masks of its own, so without it alone they equal one.
STILL = replace(TINY, name="still", dropout=0.0)
CONFIG = replace(TINY_CONFIG, model=STILL.name, epochs=2)

WORKER = """
import sys
from pathlib import Path
from edgecell.train.strategy import open_strategy
strategy, writes = open_strategy("multiworker")
from edgecell.data.audit import audited
from edgecell.data.dataset import read
from edgecell.train.networks.network import PRESETS
from edgecell.train.run import train
from tests.train.test_strategy import CONFIG, STILL
PRESETS[STILL.name] = STILL
files = audited(read([Path(sys.argv[1])]).files)
train(files, CONFIG, Path(sys.argv[2]), strategy=strategy, writes=writes)
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.slow
def test_two_workers_train_what_one_trains(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": workers}, "task": task})
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", WORKER, str(drawn_cells), str(tmp_path / "two")],
                cwd=ROOT,
                env=os.environ | {"TF_CONFIG": config, "PYTHONPATH": str(ROOT)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    monkeypatch.setitem(PRESETS, STILL.name, STILL)
    train(audited(read([drawn_cells]).files), CONFIG, tmp_path / "one")
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors[-2000:]
    one, two = (read_history(tmp_path / n / "history.csv") for n in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        # Sums in another order; 20 steps of it.
        assert b.loss == pytest.approx(a.loss, rel=2e-3)
        assert b.accuracy == pytest.approx(a.accuracy, abs=0.02)
        assert b.val_loss == pytest.approx(a.val_loss, rel=1e-2)
    kernels = [
        load_keras(tmp_path / n / "model.keras")[0].get_layer("logits").get_weights()[0]
        for n in ("one", "two")
    ]
    np.testing.assert_allclose(kernels[0], kernels[1], atol=5e-3)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "nonsense",
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
        '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}',
    ],
)
def test_a_wrong_tf_config_is_refused(
    text: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="multiworker needs TF_CONFIG"):
        open_strategy("multiworker")
