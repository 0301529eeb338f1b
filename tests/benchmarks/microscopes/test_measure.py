import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecell.benchmarks.microscopes.colour import ColourFigures, ColourRow
from edgecell.benchmarks.microscopes.measure import command
from edgecell.edge.sources import SAMPLES

CELLS = sorted((SAMPLES / "cells").glob("*.jpg"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    simulated = sorted((SAMPLES / "simulated").iterdir())
    for source, cells in (("pbc", CELLS), ("lab", CELLS + simulated)):
        for cell in cells:
            place = tmp_path / source / cell.name.partition("_")[0]
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(cell, place / f"{cell.parent.name}_{cell.name}")
    return tmp_path


def test_the_models_record_says_what_it_has_learned(data: Path) -> None:
    arguments = [str(data / "out.json"), "bundled"]
    arguments += ["--data", str(data / "pbc"), "--data", str(data / "lab")]
    result = CliRunner().invoke(
        command, [*arguments, "--stain-of", str(data / "pbc"), "--draws", "2"]
    )
    assert result.exit_code == 0, result.output
    (found,) = json.loads((data / "out.json").read_text())["models"]
    assert found["unknown"]["pbc"]["known"]
    assert found["unknown"]["pbc"]["described"]
    assert not found["unknown"]["lab"]["known"]
    assert [row["cells"] for row in found["adapted"]["lab"]] == [10, 25]
    assert list(found["adapted"]) == ["lab"]
    assert found["colour"]["pbc"]["known"]
    assert not found["colour"]["lab"]["known"]
    assert found["colour"]["pbc"]["adapted"] is None
    assert 0.3 < found["colour"]["lab"]["adapted"] <= 1
    # Colours matched to themselves stay as they are.
    assert found["colour"]["pbc"]["all"]["factors"] == [1.0, 1.0, 1.0]
    assert found["colour"]["pbc"]["all"]["worse"] == 0
    assert "which has learned" in result.output
    assert "(learned)" in result.output


def test_a_folder_without_classes_is_refused(data: Path) -> None:
    shutil.rmtree(data / "lab")
    (data / "lab").mkdir()
    result = CliRunner().invoke(
        command, [str(data / "out.json"), "bundled", "--data", str(data / "lab")]
    )
    assert result.exit_code == 1
    assert "lab" in result.output
    assert not (data / "out.json").exists()


def test_the_spread_is_the_largest_ratio_of_factors() -> None:
    def row(*factors: float) -> ColourRow:
        return ColourRow(1, 1, 1, 0, 0, factors or None)

    found = ColourFigures(
        False, row(1.0, 2.0, 0.5), {"LY": row(1.0, 1.6, 0.5), "PLT": row()}
    )
    assert found.spread == pytest.approx(1.25)
    assert ColourFigures(False, row(), {"LY": row(1.0, 2.0, 3.0)}).spread == 1
