"""The benchmark of the whole loop, briefly: what it measures, not how fast it is."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.benchmarks.latency import this_machine
from edgecell.benchmarks.speed.loop import LoopRow, loop_text, measure_loop
from edgecell.benchmarks.speed.scene import PacedFrames
from edgecell.cli import cli
from edgecell.edge.find.localise import Localiser
from edgecell.edge.find.quality import frame_gate
from edgecell.model.modelfile import bundled_finder, bundled_model

QUICK_S = 0.5
"""The stage moves as in a minute, in a second."""


def test_every_frame_of_every_field_shows_five_cells() -> None:
    look = Localiser.open(bundled_finder()).look
    source = PacedFrames(30)
    found = []
    for time_s in np.arange(0, 40, 1.7):
        image = source.image_at(float(time_s))
        assert image.shape == (480, 640, 3)
        assert frame_gate(image) is None
        cells = [d for d in look(image).detections if not d.cut_by_border]
        found.append([d.kind for d in cells].count("white"))
    assert set(found) <= {4, 5}, "the finder may miss one"
    assert np.mean(found) > 4.8


def test_a_short_run_adds_up() -> None:
    row = measure_loop(bundled_model(), threads=1, frames=45, field_s=QUICK_S)
    assert row.frames_in == 45
    assert 0 < row.frames <= 45
    assert row.cells_per_frame == pytest.approx(5, abs=1.5)
    assert 0 < row.inference_ms < row.frame_ms
    assert row.other_share == pytest.approx(
        1 - row.inference_ms / row.frame_ms, abs=0.01
    )
    assert row.fps == pytest.approx(row.frames / row.seconds, rel=0.01)
    assert row.frames * row.frame_ms / 1e3 <= row.seconds * 1.01
    assert row.rss_peak_bytes > 30e6
    assert 0 < row.cpu_s <= 1.1 * row.seconds * row.machine.cores


def test_viewers_are_served_beside_the_loop() -> None:
    row = measure_loop(bundled_model(), 1, 45, viewers=2, field_s=QUICK_S)
    assert row.viewers == 2
    assert row.frames > 0
    assert "live viewers: 2" in loop_text(row)


def test_growth_is_of_the_last_fifth_over_the_second() -> None:
    sizes = [100] * 2 + [200, 220] + [0] * 4 + [300, 340]
    row = LoopRow(
        machine=this_machine(),
        runtime="none",
        threads=1,
        viewers=None,
        frames_in=100,
        frames=90,
        seconds=3.0,
        fps=30.0,
        cpu_s=4.0,
        cells_per_frame=5.0,
        frame_ms=30.0,
        inference_ms=20.0,
        other_share=1 / 3,
        age_ms=40.0,
        overflowed=1,
        undrawn=2,
        rss_bytes=tuple(enumerate(sizes)),
    )
    assert row.rss_growth_bytes == 320 - 210
    assert row.rss_peak_bytes == 340
    assert json.loads(json.dumps(row.to_dict()))["rss_growth_bytes"] == 110
    text = loop_text(row)
    assert "33%  at most 40%" in text
    assert "1, 2  none" in text


def test_the_command_measures_the_loop() -> None:
    result = CliRunner().invoke(
        cli, ["bench", "--loop", "--frames", "30", "--threads", "1", "--json", "-"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["frames_in"] == 30
