"""Where the time of a frame goes: what is counted, not how fast it is."""

import json
import time

import pytest
from click.testing import CliRunner

from edgecell.benchmarks.speed.scene import PacedFrames, crowded_field
from edgecell.benchmarks.speed.stages import STAGES, Stopwatch
from edgecell.cli import cli
from edgecell.edge.count.tracking import Tracker
from edgecell.edge.find.localise import Localiser
from edgecell.model.modelfile import bundled_finder


def test_a_stages_time_is_without_that_of_those_it_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0]
    monkeypatch.setattr(time, "thread_time_ns", lambda: now[0])
    watch = Stopwatch()

    def work(ns: int) -> None:
        now[0] += ns

    inner = watch.timed("inner", lambda: work(30))

    def outer() -> None:
        work(5)
        inner()
        work(7)
        inner()

    watch.timed("outer", outer)()
    inner()
    assert watch.ns == {"inner": 90, "outer": 12}
    assert watch.calls == {"inner": 3, "outer": 1}


def test_a_failure_is_timed_too() -> None:
    watch = Stopwatch()

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        watch.timed("failing", fail)()
    assert watch.calls["failing"] == 1


def test_the_parts_add_up_to_the_frame_and_nothing_stays_patched() -> None:
    before = Tracker.update
    result = CliRunner().invoke(
        cli, ["bench", "--stages", "--frames", "30", "--json", "-"]
    )
    assert result.exit_code == 0, result.output
    cost = json.loads(result.stdout)
    assert cost["frames"] == 30
    assert cost["cells_per_frame"] == pytest.approx(5, abs=1)
    kinds = ("inference_ms", "finding_ms", "other_ms")
    assert sum(cost[kind] for kind in kinds) == pytest.approx(cost["cpu_ms"], rel=0.02)
    assert 0 < cost["other_share"] < 1
    calls = {stage["name"]: stage["calls"] for stage in cost["stages"]}
    assert calls["cells and scale found"] == 1
    assert calls["the network"] == pytest.approx(cost["cells_per_frame"], abs=0.01)
    assert all(calls[name] > 0 for name, *_ in STAGES)
    assert Tracker.update is before


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1920, 1080)])
def test_a_larger_frame_shows_the_same_cells(width: int, height: int) -> None:
    assert crowded_field(width, height).shape == (height + 20, width + 20, 3)
    image = PacedFrames(1, (width, height), live=False).image_at(3.0)
    assert image.shape == (height, width, 3)
    seen = Localiser.open(bundled_finder()).look(image).detections
    found = [d for d in seen if d.kind == "white" and not d.cut_by_border]
    assert len(found) in (4, 5, 6)
