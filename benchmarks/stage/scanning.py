"""Measures a scan of a slide whose cells are known, by a simulated microscope.

Run as ``python -m edgecell.benchmarks scanning OUT.json DATA...``, DATA folders or zip
files of labelled cells. The stage has backlash, and the focus drifts along the slide.
"""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from edgecell.benchmarks.slides.counting import (
    Count,
    CountedCell,
    classify_alone,
    score,
)
from edgecell.benchmarks.slides.make_mosaic import FRAME, decode, mosaic
from edgecell.benchmarks.stage.microscope import Mechanics, microscope
from edgecell.classes import CODES
from edgecell.cli import OutputFile, PoliteCommand
from edgecell.data.dataset import scan as scan_data
from edgecell.edge.commands.observers import ProgressBar
from edgecell.edge.loop.config import LoopConfig
from edgecell.edge.loop.run import open_run
from edgecell.edge.record.sessions import open_session
from edgecell.edge.stage.openflexure import OpenFlexure
from edgecell.edge.stage.places import place_of
from edgecell.edge.stage.scan import Scan, ScanMap
from edgecell.files import write_atomically
from edgecell.model import BUNDLED
from edgecell.model.classifier import Classifier
from edgecell.model.modelfile import bundled_model

CELLS = 400
_BACKLASH = 40
_TILT = 0.05
_MOST_FIELDS = 1000


def scan_slide(mechanics: Mechanics, folder: Path) -> Count:
    """Scans a slide to its end.

    Args:
        mechanics: the simulated microscope.
        folder: new folder for the session.

    Returns:
        Each cell once with its place on the slide, in pixels.
    """
    width, height = mechanics.view
    with microscope(mechanics) as address, OpenFlexure(address) as stage:
        scan = Scan(stage, _MOST_FIELDS, _MOST_FIELDS)
        run = open_run(LoopConfig("scan", model=BUNDLED, out=folder), scan)
        with ProgressBar(run) as bar:
            (session,) = run.go([ScanMap(scan, address), bar])
    cells = []
    with open_session(folder) as recorded:
        for decision in recorded.decisions():
            sightings = recorded.sightings(decision.cell)
            if not sightings:
                continue
            last = sightings[-1]
            at = place_of(folder, last.frame, last.box.centre)
            x, y = (steps / mechanics.steps_per_px for steps in (at.x, at.y))
            cells.append(CountedCell(decision, x + width / 2, y + height / 2))
    tally = session.tally
    gated = sum(tally.gated.values())
    return Count(cells, session.differential, tally.frames, gated, 0.0)


@click.command("scanning", cls=PoliteCommand, no_args_is_help=True)
@click.argument("out", type=OutputFile("JSON"))
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
def command(out: Path, data: tuple[Path, ...]) -> None:
    """Measure a scan of 400 known cells by a simulated microscope.

    The slide is a mosaic of cells of the test split of DATA, drawn by their hash.
    Writes OUT, a JSON file.
    """
    test = (file for file in scan_data(data) if file.split == "test")
    files = sorted(test, key=lambda file: file.sha256)[:CELLS]
    cells = [decode(file) for file in files]
    slide, labels = mosaic(cells)
    mechanics = Mechanics(slide, FRAME, backlash=_BACKLASH, tilt=_TILT)
    with TemporaryDirectory() as temporary:
        count = scan_slide(mechanics, Path(temporary) / "s")
    alone = classify_alone(cells, Classifier(bundled_model()))
    truth = Counter(label.code for label in labels)
    result = {
        "slide": [slide.shape[1], slide.shape[0]],
        "fields": count.n_frames,
        "gated_fields": count.gated,
        "autofocus": mechanics.focused,
        **asdict(score(labels, count, alone)),
        "truth": {code: truth[code] for code in CODES},
        "differential": count.differential.to_dict(),
    }
    write_atomically(out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    command()
