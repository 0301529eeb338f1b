"""Estimates for boards: arithmetic on counts, told apart from measurements."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgecell.benchmarks.speed import boards, work
from edgecell.benchmarks.speed.boards import BOARDS, Board, Counts, count, estimate
from edgecell.benchmarks.speed.work import STAGES
from edgecell.cli import cli
from edgecell.errors import EdgecellError, InputError


def test_an_estimate_by_hand() -> None:
    board = Board("b", "c", 1e9, "clock", decodes=4, core="core", others=())
    parts = {"inference": 10_000_000, "find": 6_000_000, "classify": 90_000_000}
    more = {"locate": 5_000_000, "follow": 4_000_000}
    counts = Counts("c", parts | more, "how")
    assert counts.frame == 100_000_000
    assert counts.inference_share == 0.5
    assert counts.other_share == pytest.approx(0.45)
    found = estimate(board, counts)
    # 1, 2 and 3 instructions a cycle at 1 GHz.
    assert found.inference_ms == (3.33, 5.0, 10.0)
    assert found.frame_ms == (33.33, 50.0, 100.0)


@pytest.mark.parametrize("name", BOARDS)
def test_the_command_says_that_it_estimates(name: str) -> None:
    result = CliRunner().invoke(cli, ["bench", "--board", name])
    assert result.exit_code == 0, result.output
    assert "an estimate, not a measurement" in result.output
    assert "stored" in result.output
    board = BOARDS[name]
    for source in (board.clock, board.core, *board.others):
        assert "http" in source
        assert source in result.output
    data = CliRunner().invoke(cli, ["bench", "--board", name, "--json", "-"]).stdout
    found = json.loads(data)
    assert found["measured"] is False
    least, middle, most = found["estimate"]["frame_ms"]
    assert 0 < least < middle < most
    assert set(found["counts"]["instructions"]) == set(STAGES)


def emulator(folder: Path, script: str) -> Path:
    (folder / "count").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "count").chmod(stat.S_IRWXU)
    (folder / "how").write_text("a stand-in\n")
    return folder


def test_what_comes_before_a_stage_cancels_out(tmp_path: Path) -> None:
    made = emulator(tmp_path, 'echo "instructions $((1000 + 7 * $3))" >&2')
    found = count("cortex-a76", made)
    assert found.instructions == dict.fromkeys(STAGES, 7)
    assert found.how == "counted now; a stand-in"


@pytest.mark.parametrize("script", ["exit 3", "echo instructions many >&2", "true"])
def test_an_emulator_that_fails(tmp_path: Path, script: str) -> None:
    with pytest.raises(EdgecellError, match="cortex-a53 inference failed"):
        count("cortex-a53", emulator(tmp_path, script))


def test_no_emulator(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="scripts/emulator"):
        count("cortex-a76", tmp_path)
    with pytest.raises(InputError, match="no instruction counts of z80"):
        boards.stored_counts("z80")


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_can_be_done(stage: str) -> None:
    work.main(stage, 1)


def test_a_submission_holds_figures_and_no_names(tmp_path: Path) -> None:
    out = tmp_path / "board.json"
    result = CliRunner().invoke(
        cli, ["bench", "--submit", str(out), "--runs", "3", "--frames", "30"]
    )
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["measured"] is True
    assert [frame["width"] for frame in found["frames"]] == [640, 1920]
    assert found["model"]["latencies"][0]["classify"]["median_ms"] > 0
    assert str(tmp_path) not in out.read_text()
