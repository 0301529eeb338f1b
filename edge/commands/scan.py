"""``edgecell scan``."""

from pathlib import Path

import click

from edgecell.cli import json_option, report
from edgecell.edge.commands.options import loop_options
from edgecell.optional import require

_FIELDS = 20


@click.command("scan", short_help="Drive a motorised stage over a slide and count.")
@click.argument("stage")
@loop_options
@click.option(
    "--columns",
    type=click.IntRange(1, 10**4),
    default=_FIELDS,
    show_default=True,
    help="Largest number of fields in a row.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 10**4),
    default=_FIELDS,
    show_default=True,
    help="Largest number of rows.",
)
@click.option(
    "--to",
    type=(click.Path(path_type=Path, file_okay=False), click.IntRange(1, 2**63 - 1)),
    metavar="FOLDER CELL",
    help="Don't scan. Move to this cell of a session that a scan recorded.",
)
@json_option
def command(
    stage: str,
    target: int | None,
    until: tuple[str, ...],
    columns: int,
    rows: int,
    model: str,
    scope: Path | None,
    out: Path | None,
    red_cell_px: float | None,
    to: tuple[Path, int] | None,
    json_file: str | None,
) -> None:
    """Scan a slide with STAGE, openflexure://HOST, and count each cell once.

    Bring the monolayer into focus and start. The stage moves in a serpentine to the
    right and down, turns where red cells no longer lie side by side, refocuses when
    the picture becomes less sharp, and returns to where it started. The scan ends at
    the target, at the stage's limits, at the end of the monolayer, or on Ctrl-C. It
    stops with an error if the picture does not move with the stage.
    """
    require("cv2", "edge")
    from edgecell.edge.commands.observers import ProgressBar
    from edgecell.edge.commands.run import report_sessions
    from edgecell.edge.loop.config import LoopConfig
    from edgecell.edge.loop.run import open_run
    from edgecell.edge.stage.openflexure import OpenFlexure
    from edgecell.edge.stage.places import place_of_cell
    from edgecell.edge.stage.scan import Scan, ScanMap
    from edgecell.signals import on_stop

    microscope = OpenFlexure(stage)
    if to is not None:
        folder, cell = to
        place = place_of_cell(folder, cell)
        with microscope:
            microscope.move_to(place)
        text = f"Cell {cell} lies in the middle of the picture."
        report(text, {"x": place.x, "y": place.y, "z": place.z}, json_file)
        return
    config = LoopConfig(
        source=stage,
        model=model,
        scope=scope,
        out=out,
        red_cell_px=red_cell_px,
        target=target,
        until=until,
    )
    with microscope:
        scan = Scan(microscope, columns, rows)
        run = open_run(config, scan)
        with on_stop(run.stop), ProgressBar(run) as bar:
            sessions = run.go([ScanMap(scan, stage), bar])
    if scan.left_out:
        kinds = (f"{count} {layer}" for layer, count in sorted(scan.left_out.items()))
        click.echo(f"Fields outside the monolayer: {', '.join(kinds)}", err=True)
    report_sessions(run, sessions, bar.rows, True, json_file)
