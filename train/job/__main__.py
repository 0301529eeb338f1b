"""``python -m edgecell.train.job``: trains from packed data with PyTorch."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgecell.cli import Number, PoliteCommand, by_name, refuse
from edgecell.errors import InputError

if TYPE_CHECKING:
    from edgecell.data.pack import Pack
    from edgecell.train.find.job import FinderJob
    from edgecell.train.job.job import Job

_CLASSIFY_ONLY = (
    "model",
    "unseen",
    "frozen",
    "teachers",
    "teacher_first",
    "shares",
    "exclude",
    "fold",
)

C = TypeVar("C")


@click.command(cls=PoliteCommand)
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
    help="A classifier from packed cells, or a finder of cells from packed frames.",
)
@click.option(
    "--model", help="Network, as of `edgecell train`.  [default: grsnet-lite]"
)
@click.option(
    "--first",
    type=click.Path(path_type=Path),
    help="First weights: the folder of a finished run, or for a classifier a file from "
    "`python -m edgecell.train.job.first`.  [default: random]",
)
@click.option(
    "--unseen",
    is_flag=True,
    help="For microscopes that are not among the sources: views stray further, and "
    "feature maps take on each other's style. Less accurate on the sources' own.",
)
@click.option(
    "--frozen",
    is_flag=True,
    default=None,
    help="Batch normalisation keeps the statistics of the first weights.",
)
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    help="Network to follow: the name of one that learns beside it, or the folder of a "
    "finished run (as ./NAME if a network has that name); may be repeated.",
)
@click.option(
    "--teacher-first",
    type=click.Path(path_type=Path, dir_okay=False),
    help="ImageNet's weights for EfficientNet-Lite0 as the teacher, from "
    "`python -m edgecell.train.job.first --init imagenet`.  [default: random]",
)
@click.option(
    "--seconds", type=Number(0), help="Time limit; 0 for none.  [default: 480]"
)
@click.option(
    "--steps", type=click.IntRange(0), help="Limit in batches.  [default: none]"
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    help="Images a batch.  [default: 40; to find: 16]",
)
@click.option(
    "--learning-rate",
    type=Number(0, min_open=True),
    help="Highest.  [default: 0.0006; to find: 0.004]",
)
@click.option(
    "--ema",
    type=Number(0, 1, max_open=True),
    help="Decay of the averages.  [default: 0.998; to find: 0.997]",
)
@click.option("--seed", type=click.IntRange(0), help="Seed of the run.  [default: 1]")
@click.option("--validate-s", type=Number(0), help="Seconds between validations.")
@click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="SOURCE=SHARE",
    callback=by_name(Number(0)),
    help="Share of the draws; may be repeated.  [default: by size]",
)
@click.option("--exclude", multiple=True, help="Source to leave out; may be repeated.")
@click.option(
    "--fold",
    metavar="SOURCE=K/N",
    help="Cross-validation: test by the K-th of N parts of a source's cells, train on "
    "its others. `python -m edgecell.benchmarks job` reports the N runs as one.",
)
@click.option(
    "--device",
    type=click.Choice(["cuda", "cpu"]),
    help="Where to train.  [default: cuda if there]",
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    help="To find: processes that make views.  [default: 0, in this one]",
)
@click.option("--threads", type=click.IntRange(1), help="Processor threads.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in OUT.")
def command(
    packs: tuple[Path, ...],
    out: Path,
    task: str,
    first: Path | None,
    teacher_first: Path | None,
    device: str | None,
    threads: int | None,
    resume: bool,
    unseen: bool,
    **settings: Any,
) -> None:
    """Train a network on PACKS, made by `edgecell data pack`.

    Ends at the time limit, or when the batches are done; OUT then holds result.npz
    (averaged weights below 16 MB, logits of the cells to judge by) and result.json. A
    run that was killed goes on with --resume from a checkpoint that is at most a minute
    old.
    """
    from edgecell.optional import require

    torch = require("torch", "torch")
    from edgecell.data.frame_pack import read_packed_frames
    from edgecell.data.pack import read_packs
    from edgecell.files import check_writable
    from edgecell.train.job.config import UNSEEN, JobConfig
    from edgecell.train.job.files import CHECKPOINT
    from edgecell.train.job.fold import Fold
    from edgecell.train.networks.network import PRESETS

    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    given = {k: v for k, v in settings.items() if v is not None and v not in ((), {})}
    given |= UNSEEN if unseen else {}
    given |= _teachers(given.pop("teachers", ()))
    if "fold" in given:
        given["fold"] = _valid(Fold.parse, given["fold"])
    if task == "find":
        refuse(_CLASSIFY_ONLY, "is not for --task find")
    else:
        refuse(("workers",), "is for --task find")
        if unseen and given.get("model", JobConfig.model) not in PRESETS:
            raise click.UsageError("--unseen is for a GRsNet")
    if resume:
        refuse(
            ("first", "unseen", "teacher_first", "fold", "model"), "is not for --resume"
        )
        if "teacher" in given:
            raise click.UsageError("with --resume, a teacher can only be a folder")
    elif (out / CHECKPOINT).exists():
        raise InputError(f"{out} holds a run; add --resume, or name another --out")
    check_writable(out / CHECKPOINT)
    if threads:
        torch.set_num_threads(threads)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if task == "find":
        frames = read_packed_frames(packs)
        finder = (
            _resumed_finder(frames, out, given, place)
            if resume
            else _new_finder(frames, out, first, given, place)
        )
        try:
            finder.run(out)
        finally:
            finder.close()
    elif resume:
        _resumed(read_packs(packs), out, given, place).run(out)
    else:
        _new(read_packs(packs), out, first, teacher_first, given, place).run(out)


def _teachers(given: Sequence[str]) -> dict[str, Any]:
    """Settings of the job: finished runs are folders, other teachers are names."""
    from edgecell.train.networks.models import model_names

    names = [each for each in given if each in model_names()]
    finished = tuple(each for each in given if each not in names)
    for each in finished:
        if not (each and Path(each).is_dir()):
            raise click.UsageError(
                f"the teacher '{each}' is neither the folder of a finished run nor one "
                f"of {', '.join(model_names())}"
            )
    if len(names) > 1:
        raise click.UsageError(
            f"only one teacher can learn beside it, not {' and '.join(names)}; "
            "finished runs are given as folders"
        )
    return {
        key: value
        for key, value in (("finished", finished), ("teacher", "".join(names)))
        if value
    }


def _valid(make: Callable[..., C], *texts: str, **settings: Any) -> C:
    """Settings, or a usage error that says which of them make no sense."""
    try:
        return make(*texts, **settings)
    except ValueError as e:
        raise click.UsageError(str(e)) from e


def _resumed_finder(
    frames: Any, out: Path, given: dict[str, Any], place: Any
) -> "FinderJob":
    from edgecell.train.find.job import FinderConfig, FinderJob
    from edgecell.train.job.files import SETTINGS

    try:
        config = FinderConfig.from_dict(json.loads((out / SETTINGS).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{out} holds no finder's run to resume ({e})") from e
    job = FinderJob(_valid(partial(replace, config), **given), frames, place)
    job.restore(out)
    _write_settings(out, job.config.to_dict())
    return job


def _new_finder(
    frames: Any, out: Path, first: Path | None, given: dict[str, Any], place: Any
) -> "FinderJob":
    """A new job, whose settings are written into its folder."""
    from edgecell.train.find.job import FinderConfig, FinderJob
    from edgecell.train.job.files import RESULT, read_weights

    config = _valid(FinderConfig, **given)
    job = FinderJob(config, frames, place)
    if first:
        if not first.is_dir():
            raise InputError(f"{first} is not the folder of a finished run")
        job.set_first_weights(read_weights(first / RESULT))
    _write_settings(out, config.to_dict())
    return job


def _resumed(pack: "Pack", out: Path, given: dict[str, Any], place: Any) -> "Job":
    from edgecell.train.job.config import JobConfig
    from edgecell.train.job.files import SETTINGS
    from edgecell.train.job.job import Job

    try:
        state = json.loads((out / SETTINGS).read_text())
        config = JobConfig.from_dict(state["config"])
        mean, std = tuple(state["mean"]), tuple(state["std"])
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise InputError(f"{out} holds no run to resume ({e})") from e
    job = Job(_valid(partial(replace, config), **given), pack, mean, std, place)
    job.restore(out)
    _write_settings(out, _state(job))
    return job


def _write_settings(out: Path, state: dict[str, Any]) -> None:
    """Writes what `--resume` begins with."""
    from edgecell.files import write_atomically
    from edgecell.train.job.files import SETTINGS

    write_atomically(out / SETTINGS, json.dumps(state, indent=1) + "\n")


def _state(job: "Job") -> dict[str, Any]:
    return {"config": job.config.to_dict(), "mean": job.mean, "std": job.std}


def _new(
    pack: "Pack",
    out: Path,
    first: Path | None,
    teacher_first: Path | None,
    given: dict[str, Any],
    place: Any,
) -> "Job":
    """A new job, whose settings are written into its folder."""
    from edgecell.image.preprocess import channel_statistics
    from edgecell.train.job.config import JobConfig
    from edgecell.train.job.files import read_first
    from edgecell.train.job.fold import folded
    from edgecell.train.job.job import Job

    start: dict[str, Any] = {"first": first.resolve().name} if first else {}
    config: JobConfig = _valid(JobConfig, **given, **start)
    if first:
        weights, mean, std = read_first(first)
    else:
        if config.fold:
            pack = folded(pack, config.fold)
        train = [
            i
            for i, split in enumerate(pack.splits)
            if split == "train" and pack.sources[i] not in config.exclude
        ]
        if not train:
            raise InputError("the packed files hold no cells to train on")
        mean, std = channel_statistics(pack.decoded(train))
    job = Job(config, pack, mean, std, place)
    if first:
        job.set_first_weights(weights)
    if teacher_first:
        job.set_teacher_weights(read_first(teacher_first)[0])
    _write_settings(out, _state(job))
    return job


if __name__ == "__main__":
    command()
