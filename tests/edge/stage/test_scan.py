import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.benchmarks.stage.microscope import Mechanics, microscope
from edgecell.cli import cli
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import open_run
from edgecell.edge.record.sessions import open_session
from edgecell.edge.sources.base import Frame
from edgecell.edge.stage.base import LimitReachedError, Position, StageError
from edgecell.edge.stage.layer import THICK, THIN
from edgecell.edge.stage.openflexure import OpenFlexure
from edgecell.edge.stage.places import place_of
from edgecell.edge.stage.scan import Scan, ScanMap
from edgecell.errors import InputError
from edgecell.image.preprocess import Bgr
from edgecell.image.red_cells import glass_colour
from tests.factories import SAMPLES

VIEW = (480, 360)


def slide() -> Bgr:
    """Four real fields side by side, 1280x960."""
    files = [SAMPLES / "frames" / f"bccd_{n}.jpg" for n in (1, 2, 3)]
    fields: list[Any] = [cv2.imread(str(f)) for f in files]
    fields.append(fields[0][:, ::-1])
    rows = [np.hstack(fields[:2]), np.hstack(fields[2:])]
    return Bgr(np.ascontiguousarray(np.vstack(rows), np.uint8))


def frames_of(mechanics: Mechanics, columns: int = 9, rows: int = 9) -> list[Frame]:
    with microscope(mechanics) as address, OpenFlexure(address) as stage:
        with Scan(stage, columns, rows, settle_s=0.05) as scan:
            frames = [frame for frame in scan if frame is not None]
        assert stage.position() == Position(0, 0, stage.position().z)  # back again
    assert len(frames) == len(scan.places)
    return frames


def test_a_serpentine_covers_the_slide_and_returns() -> None:
    mechanics = Mechanics(slide(), VIEW)
    frames = frames_of(mechanics)
    seen = np.zeros(mechanics.slide.shape[:2], bool)
    for x, y in mechanics.visited:
        left, top = round(x / 4), round(y / 4)
        seen[top : top + VIEW[1], left : left + VIEW[0]] = True
    assert len(frames) > 12
    assert seen.mean() > 0.9
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)  # type: ignore[type-var]


def test_backlash_and_a_reversed_axis_are_no_trouble() -> None:
    frames = frames_of(Mechanics(slide(), VIEW, backlash=60), columns=2, rows=2)
    assert len(frames) == 4


def test_focus_is_found_again_when_it_is_lost() -> None:
    mechanics = Mechanics(slide(), VIEW, tilt=1.5)
    frames = frames_of(mechanics, columns=3, rows=1)
    assert len(frames) == 3
    assert mechanics.focused >= 1


def smear() -> Bgr:
    """Fields of the monolayer; to the right the smear is thick, below there is glass.

    Four layers of cells let through what each of them does.
    """
    field = slide()[:480, :640]
    through = field / np.float32(glass_colour(field))
    layers = (through, through[::-1], through[:, ::-1], through[::-1, ::-1])
    thick = np.prod(np.stack(layers), axis=0) * glass_colour(field)
    top = np.hstack([field, np.clip(thick, 0, 255), np.clip(thick[:, ::-1], 0, 255)])
    top = np.vstack([top, top[::-1]])
    glass = np.full_like(top, glass_colour(field))
    return Bgr(np.ascontiguousarray(np.vstack([top, glass, glass]), np.uint8))


def test_a_scan_stays_in_the_monolayer() -> None:
    mechanics = Mechanics(smear(), VIEW)
    with microscope(mechanics) as address, OpenFlexure(address) as stage:
        with Scan(stage, 20, 20, settle_s=0.05) as scan:
            frames = [frame for frame in scan if frame is not None]
    places = [(p.x / 4, p.y / 4) for p in scan.places.values()]
    assert len(places) == len(frames) > 1
    # At least about half of each field that is counted lies in the monolayer.
    assert max(x for x, _ in places) < 640 - 0.4 * VIEW[0]
    assert max(y for _, y in places) < 960 - 0.4 * VIEW[1]
    assert scan.left_out[THICK] >= 3
    assert scan.left_out[THIN] >= 3
    furthest = max(y for _, y in mechanics.visited) / 4
    assert furthest < 1920 - VIEW[1], "it ended before the stage did"


def test_without_a_monolayer_a_scan_says_so() -> None:
    thick = Bgr(np.ascontiguousarray(smear()[:960, 640:]))
    with (
        microscope(Mechanics(thick, VIEW)) as address,
        OpenFlexure(address) as stage,
        Scan(stage, 2, 2, settle_s=0.05) as scan,
        pytest.raises(StageError, match=r"monolayer|does not move"),
    ):
        list(scan)


def test_a_stage_that_does_not_move_is_noticed() -> None:
    with (
        microscope(Mechanics(slide(), VIEW, stuck=True)) as address,
        OpenFlexure(address) as stage,
        Scan(stage, 2, 2, settle_s=0.05) as scan,
        pytest.raises(StageError, match="does not move with the stage"),
    ):
        list(scan)


def test_motors_that_fail_on_the_way_are_noticed() -> None:
    mechanics = Mechanics(slide(), VIEW)
    with (
        microscope(mechanics) as address,
        OpenFlexure(address) as stage,
        Scan(stage, 3, 1, settle_s=0.05) as scan,
    ):
        fields = iter(scan)
        next(fields)
        mechanics.stuck = True
        with pytest.raises(StageError, match="did not move"):
            next(fields)


def test_a_limit_is_told_as_one() -> None:
    with microscope(Mechanics(slide(), VIEW)) as address, OpenFlexure(address) as stage:
        stage.move_to(Position(40, 20))
        assert stage.position() == Position(40, 20)
        with pytest.raises(LimitReachedError, match="limit"):
            stage.move_to(Position(-5, 0))


def test_cells_of_a_slide_are_counted_once_and_found_again(tmp_path: Path) -> None:
    mechanics = Mechanics(slide(), VIEW)
    with microscope(mechanics) as address, OpenFlexure(address) as stage:
        scan = Scan(stage, 9, 9, settle_s=0.05)
        config = LoopConfig("scan", out=tmp_path / "s", red_cell_px=88.0)
        run = open_run(config, scan)
        (session,) = run.go([ScanMap(scan, address)])
        assert session.tally.frames == len(scan.places)
        data = json.loads((tmp_path / "s" / "scan.json").read_text())
        x, y, _ = data["places"]["4"]
        centre = VIEW[0] / 2, VIEW[1] / 2
        assert place_of(tmp_path / "s", 4, centre) == Position(x, y, 0)
        right = place_of(tmp_path / "s", 4, (centre[0] + 50, centre[1]))
        assert right.x - x == pytest.approx(200, abs=20)  # 4 steps for a pixel
    with pytest.raises(InputError, match="edgecell scan"):
        place_of(tmp_path, 0, centre)


def test_the_command_counts_and_drives_to_a_cell(tmp_path: Path) -> None:
    mechanics = Mechanics(slide(), VIEW)
    mechanics.move(0, 1200, 0)  # away from the limits
    out = tmp_path / "s"
    with microscope(mechanics) as address:
        words = ["scan", address, "--columns", "3", "--rows", "1", "--out", str(out)]
        result = CliRunner().invoke(cli, [*words, "--red-cell-px", "88"])
        assert result.exit_code == 0, result.output
        assert "White cells:" in result.output
        assert (mechanics.position["x"], mechanics.position["y"]) == (0, 1200)
        with open_session(out) as session:
            seen = {d.cell: session.sightings(d.cell) for d in session.decisions()}
        places = {
            cell: place_of(out, sightings[-1].frame, sightings[-1].box.centre)
            for cell, sightings in seen.items()
            if sightings
        }
        limits = mechanics.limits
        cell = next(
            cell
            for cell, p in places.items()
            if 0 <= p.x <= limits["x"] and 0 <= p.y <= limits["y"]
        )
        words = ["scan", address, "--to", str(out), str(cell), "--json", "-"]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output
        place = json.loads(result.output)
        assert (mechanics.position["x"], mechanics.position["y"]) == (
            place["x"],
            place["y"],
        )
