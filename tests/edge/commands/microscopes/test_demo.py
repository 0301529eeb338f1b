import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecell.cli import cli
from edgecell.edge.adapt.adapt import Adaptation
from edgecell.edge.commands.microscopes.demo import (
    DemoCell,
    Demonstrated,
    demo_lines,
    demonstrate,
)
from edgecell.edge.sources import SAMPLES
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model

FOUND = Demonstrated(
    "unknown",
    (
        DemoCell("simulated_1_EO-LY.jpg", "EO", "BA", "EO"),
        DemoCell("simulated_1_EO-LY.jpg", "LY", "LY", "LY"),
        DemoCell("simulated_2_MO.jpg", "MO", "-", "EO"),
    ),
    Adaptation(25, 20, 24, 4, 0, 0.001, 10.0, (), 9, 9, 1.0),
)


def test_the_answers_stand_side_by_side() -> None:
    first, header, *frames, right = FOUND.lines()
    assert "simulated" in first
    assert ": unknown." in first
    assert "25 others" in first
    assert header.split() == ["frame", "label", "model", "adapted"]
    assert [line.split() for line in frames] == [
        ["simulated_1", "EO", "LY", "BA", "LY", "EO", "LY"],
        ["simulated_2", "MO", "-", "EO"],
    ]
    assert right.split() == "right 1 of 3 2 of 3".split()


def test_a_gain_that_may_be_chance_is_not_promised() -> None:
    *_, last = replace(FOUND, adapted=replace(FOUND.adapted, p=0.2)).lines()
    assert "would write no file" in last
    assert "24 are right instead of 20" in last


def test_the_model_is_adapted_to_other_cells_than_it_is_judged_by() -> None:
    table = (SAMPLES / "README.md").read_text().splitlines()
    rows = [line.split(" | ") for line in table if "microscope simulated" in line]
    learned = {row[1] for row in rows if row[0].startswith("| simulated/")}
    judged = {
        name
        for row in rows
        if row[0].startswith("| frames/")
        for name in row[1].split(", ")
    }
    assert len(learned) == 25
    assert len(judged) == 20
    assert not learned & judged
    assert len(list((SAMPLES / "simulated").iterdir())) == 25


def test_each_cell_of_the_simulated_frames_is_compared() -> None:
    found = demonstrate(Classifier(bundled_model()))
    assert [cell.named for cell in found.cells[:4]] == ["BA", "EO", "LY", "MO"]
    assert len(found.cells) == 20
    assert found.adapted.cells == 25
    assert found.to_dict()["simulated"]
    # The frames are there to be seen: the finder sees most of their cells.
    assert sum(cell.before != "-" for cell in found.cells) >= 15


def test_a_model_that_cannot_be_adapted_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgecell.edge.commands.microscopes.demo.TO_LEARN", tmp_path)
    (line,), data = demo_lines(Classifier(bundled_model()))
    assert "can't be adapted" in line
    assert data is None


def test_a_demo_that_ends_early_compares_nothing(tmp_path: Path) -> None:
    arguments = ["run", "demo", "--max-frames", "1", "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(cli, [*arguments, "--json", "-"])
    assert result.exit_code == 0
    assert "demo" not in json.loads(result.stdout)
