"""``python -m edgecell.train.job``: trains from packed data with PyTorch."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecell.cli import refuse
from edgecell.errors import EdgecellError, InputError

if TYPE_CHECKING:
    from edgecell.train.job.config import JobConfig
    from edgecell.train.job.files import Triple
    from edgecell.train.job.job import Job


_CLASSIFY_ONLY = ("model", "teacher", "teacher_first", "shares", "exclude")


def _shares(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, float]:
    """Parses NAME=NUMBER options."""
    found = {}
    for text in value:
        name, equals, number = text.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not (name and equals):
            raise click.BadParameter(f"'{text}' is not NAME=NUMBER", ctx, param)
    return found


@click.command()
@click.argument(
    "packs", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for checkpoint, history and result.",
)
@click.option(
    "--task",
    type=click.Choice(["classify", "find"]),
    default="classify",
    show_default=True,
    help="A GRsNet from packed cells, or a finder of cells from packed frames.",
)
@click.option(
    "--model", help="Network, as of `edgecell train`.  [default: grsnet-lite]"
)
@click.option(
    "--first",
    type=click.Path(path_type=Path, dir_okay=False),
    help="First weights: of a GRsNet from `python -m edgecell.train.job.first`, of a "
    "finder the result.npz of a run.  [default: random]",
)
@click.option(
    "--teacher", help="Network that learns beside it and that it follows: its name."
)
@click.option(
    "--teacher-first",
    type=click.Path(path_type=Path, dir_okay=False),
    help="ImageNet's weights for EfficientNet-Lite0 as the teacher, from "
    "`python -m edgecell.train.job.first --init imagenet`.  [default: random]",
)
@click.option("--seconds", type=float, help="Time limit.  [default: 480]")
@click.option("--steps", type=int, help="Limit in batches.  [default: none]")
@click.option(
    "--batch-size", type=int, help="Images a batch.  [default: 40; to find: 16]"
)
@click.option(
    "--learning-rate", type=float, help="Highest.  [default: 0.0006; to find: 0.004]"
)
@click.option(
    "--ema",
    type=float,
    help="Decay of the averages.  [default: 0.998; to find: 0.997]",
)
@click.option("--seed", type=int, help="Seed of the run.  [default: 1]")
@click.option("--validate-s", type=float, help="Seconds between validations.")
@click.option(
    "--share",
    "shares",
    multiple=True,
    callback=_shares,
    help="SOURCE=SHARE of the draws; may be repeated.  [default: by size]",
)
@click.option("--exclude", multiple=True, help="Source to leave out; may be repeated.")
@click.option("--device", default="", help="cuda or cpu.  [default: cuda if there]")
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="To find: processes that make views.  [default: 0, in this one]",
)
@click.option("--threads", type=int, default=0, help="Processor threads.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in OUT.")
def command(
    packs: tuple[Path, ...], out: Path, task: str, threads: int, **settings: Any
) -> None:
    """Train a network on PACKS, made by `edgecell data pack`.

    Ends at the time limit, or when the batches are done; OUT then holds result.npz
    (averaged weights of a GRsNet or a finder, logits of the cells to judge by) and
    result.json. A run that was killed goes on with --resume from a checkpoint that is
    at most a minute old.
    """
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        if task == "find":
            refuse(_CLASSIFY_ONLY, "is not for --task find")
        else:
            refuse(("workers",), "is for --task find")
        _run(packs, out, task, threads, **settings)
    except EdgecellError as e:
        raise click.ClickException(" ".join(str(e).split())) from e


def _run(
    packs: tuple[Path, ...],
    out: Path,
    task: str,
    threads: int,
    first: Path | None,
    teacher_first: Path | None,
    device: str,
    resume: bool,
    **settings: Any,
) -> None:
    from edgecell.optional import require

    torch = require("torch", "torch")
    from edgecell.data.pack import read_packs
    from edgecell.files import check_writable
    from edgecell.train.job.files import CHECKPOINT
    from edgecell.train.job.job import Job

    check_writable(out / CHECKPOINT)
    if threads:
        torch.set_num_threads(threads)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    given = {name: value for name, value in settings.items() if value}
    if task == "find":
        _find(packs, out, first, given, place, resume)
        return
    if resume:
        config, mean, std = _settings_of(out)
        job = Job(replace(config, **given), read_packs(packs), mean, std, place)
        job.restore(out)
    else:
        job = _started(packs, out, first, teacher_first, given, place)
    job.run(out)


def _find(
    packs: tuple[Path, ...],
    out: Path,
    first: Path | None,
    given: dict[str, Any],
    place: Any,
    resume: bool,
) -> None:
    """Trains a finder."""
    from edgecell.data.frame_pack import read_packed_frames
    from edgecell.files import write_atomically
    from edgecell.train.find.job import FinderConfig, FinderJob
    from edgecell.train.job.files import CHECKPOINT, SETTINGS, read_weights

    frames = read_packed_frames(packs)
    if resume:
        try:
            config = FinderConfig.from_dict(json.loads((out / SETTINGS).read_text()))
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise InputError(f"{out} holds no finder's run to resume ({e})") from e
        job = FinderJob(replace(config, **given), frames, place)
        job.restore(out)
    else:
        if (out / CHECKPOINT).exists():
            raise InputError(f"{out} holds a run; add --resume, or name another --out")
        try:
            config = FinderConfig(**given)
        except ValueError as e:
            raise click.UsageError(str(e)) from e
        job = FinderJob(config, frames, place)
        if first:
            job.set_first_weights(read_weights(first))
        write_atomically(out / SETTINGS, json.dumps(config.to_dict(), indent=1) + "\n")
    try:
        job.run(out)
    finally:
        job.close()


def _settings_of(out: Path) -> tuple["JobConfig", "Triple", "Triple"]:
    """Settings of the run in a folder, mean and deviation of its input."""
    from edgecell.train.job.config import JobConfig
    from edgecell.train.job.files import SETTINGS

    try:
        state = json.loads((out / SETTINGS).read_text())
        config = JobConfig.from_dict(state["config"])
        return config, tuple(state["mean"]), tuple(state["std"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{out} holds no run to resume ({e})") from e


def _started(
    packs: tuple[Path, ...],
    out: Path,
    first: Path | None,
    teacher_first: Path | None,
    given: dict[str, Any],
    place: Any,
) -> "Job":
    """A new job, whose settings are written into its folder."""
    from edgecell.data.pack import read_packs
    from edgecell.files import write_atomically
    from edgecell.image.preprocess import channel_statistics
    from edgecell.train.job.config import JobConfig
    from edgecell.train.job.files import CHECKPOINT, SETTINGS, read_first
    from edgecell.train.job.job import Job

    if (out / CHECKPOINT).exists():
        raise InputError(f"{out} holds a run; add --resume, or name another --out")
    try:
        config = JobConfig(**given, first=first.name if first else "random")
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    pack = read_packs(packs)
    if first:
        weights, mean, std = read_first(first)
    else:
        train = [i for i, split in enumerate(pack.splits) if split == "train"]
        mean, std = channel_statistics(pack.decoded(train))
    job = Job(config, pack, mean, std, place)
    if first:
        job.set_first_weights(weights)
    if teacher_first:
        job.set_teacher_weights(read_first(teacher_first)[0])
    state = {"config": config.to_dict(), "mean": mean, "std": std}
    write_atomically(out / SETTINGS, json.dumps(state, indent=1) + "\n")
    return job


if __name__ == "__main__":
    command()
