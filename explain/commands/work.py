"""``edgecell explain work``."""

import os
import shlex
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecell import RESEARCH_USE
from edgecell.cli import Number, json_option, report
from edgecell.errors import InputError
from edgecell.files import several
from edgecell.model import BUNDLED
from edgecell.optional import require
from edgecell.signals import on_stop

if TYPE_CHECKING:
    from edgecell.explain.methods import Explanation
    from edgecell.explain.queue import Job, Status

_LOWEST_PRIORITY = 19
LOOK_EVERY_S = 5.0


def _stop() -> None:
    from edgecell.explain.work import StopWorkError

    raise StopWorkError


def _of_model(root: Path, model: str, sha256: str) -> "tuple[list[Status], list[str]]":
    """Sessions of a model, and why others are left alone.

    Raises:
        InputError: there is none.
    """
    from edgecell.explain.queue import JobQueue, each_queue

    found, others = each_queue(root, "ro", JobQueue.status)
    others += [
        f"{s.folder} was recorded with the model {s.model_sha256[:12]}, not with "
        f"{model} ({sha256[:12]}); name it with --model. No job is lost"
        for s in found
        if s.model_sha256 != sha256
    ]
    mine = [s for s in found if s.model_sha256 == sha256]
    if not mine:
        raise InputError(others[0])
    return mine, others


@click.command("work", short_help="Make the explanations that are queued.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--model",
    default=BUNDLED,
    show_default=True,
    metavar="FILE",
    help="Model that the sessions were recorded with.",
)
@click.option(
    "--watch",
    is_flag=True,
    help="Keep waiting for more, also from new sessions, until Ctrl-C.",
)
@click.option(
    "--max-load",
    type=Number(0, 1, min_open=True),
    metavar="SHARE",
    help="Wait while other programs use more than this share of the cores, such as "
    "0.5.",
)
@click.option(
    "--max-celsius",
    type=Number(-273, 1000),
    metavar="DEGREES",
    help="Wait while the board's hottest sensor is above this, such as 70.",
)
@click.option(
    "--between",
    metavar="WINDOW",
    help="Work only at this time of day, such as 22:00-06:00.",
)
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Use the Dask cluster with this scheduler, such as tcp://server:8786.",
)
@json_option
def command(
    folder: Path,
    model: str,
    watch: bool,
    max_load: float | None,
    max_celsius: float | None,
    between: str | None,
    scheduler: str | None,
    json_file: str | None,
) -> None:
    """Make the explanations that are queued in FOLDER, at the lowest priority.

    FOLDER is a session that 'edgecell run --explain ...' recorded or is recording, or
    a folder of sessions. Several workers may share it. If one is killed, no job is
    lost and none is done twice. A job that keeps failing is set aside.
    """
    require("cv2", "edge")
    from tqdm import tqdm

    from edgecell.explain.queue import open_queue
    from edgecell.explain.work import (
        Conditions,
        StopWorkError,
        parse_window,
        work_off,
    )
    from edgecell.model.classifier import Classifier
    from edgecell.model.modelfile import resolve

    if scheduler and (max_load or max_celsius or between):
        raise click.UsageError(
            "--max-load, --max-celsius and --between apply to this machine; with "
            "--scheduler other machines do the work"
        )
    os.nice(_LOWEST_PRIORITY)  # first, since threads keep what they start with
    window = parse_window(between) if between else None
    conditions = Conditions(max_load, max_celsius, window)
    path = resolve(model)
    classifier = Classifier(path)
    sha256 = classifier.record.model_sha256
    made: list[str] = []
    failed: list[str] = []
    with tqdm(total=0, unit="cell", disable=None, leave=False) as bar:

        def told(job: "Job", explanation: "Explanation | None", error: str) -> None:
            name = f"cell {job.cell}, {job.method} for {job.code}"
            if explanation is None:
                failed.append(f"{name}: {error}")
                tqdm.write(failed[-1], sys.stderr)
            else:
                made.append(name)
            bar.update()

        with suppress(StopWorkError), on_stop(_stop):
            while True:
                stand, _ = _of_model(folder, model, sha256)
                busy = [s for s in stand if s.waiting or s.held]
                bar.total = bar.n + sum(s.waiting for s in busy)
                bar.refresh()
                with ExitStack() as stack:
                    queues = [
                        stack.enter_context(open_queue(Path(s.folder))) for s in busy
                    ]
                    if scheduler and queues:
                        from edgecell.explain.cluster import work_off_on_cluster

                        work_off_on_cluster(queues, path, scheduler, told)
                    elif queues:
                        work_off(queues, classifier, conditions, told)
                if not watch:
                    break
                time.sleep(LOOK_EVERY_S)
    stand, others = _of_model(folder, model, sha256)
    aside = sum(len(s.set_aside) for s in stand)
    left = sum(s.waiting + s.held for s in stand)
    shown = shlex.join(["edgecell", "explain", "show", model, str(folder)])
    lines = [
        f"{several(len(made), 'explanation')} made, {several(len(failed), 'attempt')} "
        f"failed; {several(left, 'job')} left, {aside} set aside",
        *others,
        *([f"see them with: {shown}"] if any(s.done for s in stand) else []),
        RESEARCH_USE,
    ]
    data = {
        "made": len(made),
        "failed": failed,
        "left_alone": others,
        "sessions": [s.to_dict() for s in stand],
    }
    report("\n".join(lines), data, json_file)
