import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.classes import CODES
from edgecell.cli import cli
from edgecell.edge.commands.doctor import (
    ask_cameras,
    examine,
    lasting_links,
    numpy_problems,
    text,
)
from edgecell.model import runtime
from edgecell.model.runtime import Runtime


def doctor(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["doctor", *arguments])
    return result.exit_code, result.stdout


def test_a_machine_that_works() -> None:
    code, out = doctor("--json", "-")
    health = json.loads(out)
    assert code == 0
    assert health["works"] is True
    assert health["numpy"] == np.__version__
    assert health["inference"]["class"] in CODES
    assert health["inference"]["ms"] > 0
    assert health["runtime"].split()[0] == health["attempts"][-1]["name"]
    assert health["attempts"][-1]["error"] == ""
    code, out = doctor()
    assert code == 0
    assert health["runtime"] in out


def test_without_a_runtime_the_status_is_1_and_the_cure_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "installed", lambda: [])
    code, out = doctor()
    assert code == 1
    assert 'pip install ".[edge]"' in out
    assert "cannot run here" in out


def test_a_runtime_that_fails_is_named_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise SystemError("initialization failed")

    monkeypatch.setattr(Runtime, "interpreter", fail)
    code, out = doctor("--json", "-")
    assert code == 1
    assert "initialization failed" in " ".join(json.loads(out)["problems"])


def test_a_numpy_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        runtime, "installed", lambda: [Runtime("tflite-runtime", "2.14.0")]
    )
    (problem,) = numpy_problems("2.1.0")
    assert "numpy<2" in problem
    assert numpy_problems("1.26.4") == []


@pytest.mark.parametrize("missing", ["numpy", "cv2"])
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    real = importlib.import_module

    def import_module(name: str, package: str | None = None) -> ModuleType:
        if name == missing:
            raise ImportError(f"No module named '{missing}'")
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", import_module)
    code, out = doctor("--json", "-")
    health = json.loads(out)
    assert code == 1
    assert missing in health["problems"][0]
    assert "pip install" in health["problems"][0]


def test_cameras_that_answer_and_that_do_not(tmp_path: Path) -> None:
    class Capture:
        def grab(self) -> bool:
            return True

        def retrieve(self) -> tuple[bool, Any]:
            return True, np.zeros((480, 640, 3), np.uint8)

        def get(self, _: int) -> float:
            return 0.0

        def release(self) -> None: ...

    def open_one(number: str) -> Any:
        return Capture() if number == "0" else None

    for name in ("video10", "video0", "video-codec"):
        (tmp_path / name).touch()
    assert ask_cameras(tmp_path, open_one, True) == {"0": "640x480", "10": ""}
    assert ask_cameras(tmp_path, open_one, False) == {"0": "640x480"}


def test_cameras_are_named_by_the_link_that_lasts(tmp_path: Path) -> None:
    link = tmp_path / "usb-046d_HD_Microscope-video-index0"
    link.symlink_to("../../video2")
    links = lasting_links(tmp_path)
    assert links == {"2": str(link)}
    assert lasting_links(tmp_path / "none") == {}
    lines = text(examine(lambda: {"2": "640x480", "4": ""}, lambda: links)).splitlines()
    assert f"camera 2   640x480          {link}" in lines
    assert "camera 4   does not answer" in lines
