"""``edgecell train``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgecell.cli import Number, json_option, refuse, report
from edgecell.files import several

if TYPE_CHECKING:
    from edgecell.train.config import TrainConfig

INTERRUPTED = 130
SMALL_SHARE = 0.4
_CLASSIFY_ONLY = (
    *("recipe", "model", "epochs", "small_epochs", "crop_fraction", "init"),
    *("teacher", "manifest", "strategy", "json_file"),
)


def make_config(recipe: str, given: dict[str, Any]) -> "TrainConfig":
    """A recipe with some settings changed.

    Args:
        recipe: a key of `RECIPES`.
        given: settings by name.

    Raises:
        click.UsageError: a setting makes no sense.
    """
    from edgecell.train.config import RECIPES
    from edgecell.train.networks.models import FIXED_SIZE

    base = RECIPES[recipe]
    epochs = given.get("epochs", base.epochs)
    small = recipe == "default" and given.get("model") not in FIXED_SIZE
    try:
        small_epochs = round(SMALL_SHARE * epochs) if small else 0
        settings: dict[str, Any] = {"small_epochs": small_epochs} | given
        return replace(base, **settings)
    except ValueError as e:
        raise click.UsageError(str(e)) from e


def _find(
    ctx: click.Context,
    packs: tuple[Path, ...],
    out: Path,
    seconds: float | None,
    resume: bool,
    settings: dict[str, Any],
) -> None:
    """Runs the finder's job; see `edgecell.train.job`."""
    from edgecell.train.job.__main__ import command as job

    refuse(_CLASSIFY_ONLY, "is not for --task find")
    own = {name: settings[name] for name in ("batch_size", "learning_rate", "seed")}
    ctx.invoke(
        job, packs=packs, out=out, task="find", seconds=seconds, resume=resume, **own
    )


@click.command("train", short_help="Train a network on labelled cells.")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the model, its history, pictures and checkpoints.",
)
@click.option(
    "--task",
    type=click.Choice(["classify", "find"]),
    default="classify",
    show_default=True,
    help="What to learn: the classes of cells; or to find cells, from frames that "
    "`edgecell data pack --frames` made, with PyTorch.",
)
@click.option(
    "--seconds",
    type=Number(0, min_open=True),
    help="To find: time limit.  [default: 480]",
)
@click.option(
    "--recipe",
    type=click.Choice(["default", "paper"]),
    default="default",
    show_default=True,
    help="Settings to start from: edgecell's own, or the paper's.",
)
@click.option(
    "--model",
    metavar="NAME",
    help="Network: grsnet-lite; grsnet, which has the paper's size; or, to compare, "
    "mobilenet-v2, resnet50, efficientnet-v2m, vit-b16 or efficientnet-lite0.  "
    "[default: grsnet-lite; the paper's recipe: grsnet]",
)
@click.option(
    "--epochs",
    type=click.IntRange(1, 10**6),
    help="Passes over the training split.  [default: 20]",
)
@click.option(
    "--small-epochs",
    type=click.IntRange(0, 10**6),
    help="First epochs with 80-pixel views, which take half the time.  [default: "
    "40 % of the epochs; the paper's recipe, and vit-b16: none]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, 10**6),
    help="Images per step.  [default: 32; to find: 16]",
)
@click.option(
    "--learning-rate",
    type=Number(0, min_open=True),
    help="Highest learning rate.  [default: 0.002; the paper's recipe: 0.0001; to "
    "find: 0.004]",
)
@click.option(
    "--crop",
    "crop_fraction",
    type=Number(0, 1, min_open=True),
    help="Side of the crop as a share of an image's shorter side.  [default: 0.66; "
    "the paper's recipe: 1]",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Seed of the whole run.  [default: 1]",
)
@click.option(
    "--init",
    metavar="FILE",
    help="Initial weights: a .keras file of the same network, a .tflite file of a "
    "GRsNet, 'bundled' (for grsnet-lite), or 'imagenet' (for efficientnet-lite0).  "
    "[default: random]",
)
@click.option(
    "--teacher",
    metavar="FILE",
    help=".keras file of a network whose outputs are learned as well as the labels.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    help="CSV file with the columns sha256 and split: your own split, for example by "
    "patient, instead of the one by content.",
)
@click.option(
    "--strategy",
    type=click.Choice(["single", "mirrored", "multiworker"]),
    default="single",
    show_default=True,
    help="Devices: one, all of this machine, or the machines in TF_CONFIG.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue from the last checkpoint in OUT, with the settings of that run.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    data: tuple[Path, ...],
    out: Path,
    task: str,
    seconds: float | None,
    recipe: str,
    manifest: Path | None,
    strategy: str,
    resume: bool,
    json_file: str | None,
    **settings: Any,
) -> None:
    """Train a network on DATA: folders or zip files of cell images.

    The directory above an image names its class by code (BNE) or English name
    (band neutrophil); NEU, IG and BNE|SNE name sets of classes that the data don't
    tell apart. One image in five is set aside for testing and one in ten for
    validation, by content, so that the split is the same in every run. Of duplicate
    images one is kept; split.csv in OUT names them all.

    Ctrl-C ends a run; the best epoch's weights are kept, and --resume goes on.
    """
    from edgecell.optional import require

    if task == "find":
        _find(ctx, data, out, seconds, resume, settings)
        return
    refuse(("seconds",), "is for --task find")
    require("tensorflow", "train")
    from edgecell.data.audit import audited
    from edgecell.data.dataset import read
    from edgecell.data.manifest import apply_manifest
    from edgecell.errors import InputError
    from edgecell.files import check_writable
    from edgecell.train.history import read_history
    from edgecell.train.keep import best_epoch
    from edgecell.train.run import read_config, train
    from edgecell.train.strategy import open_strategy

    given = {k: v for k, v in settings.items() if v is not None}
    check_writable(out / "model.keras")
    if resume:
        from_recipe = ctx.get_parameter_source("recipe") is ParameterSource.COMMANDLINE
        if given or from_recipe:
            raise click.UsageError(
                "--resume takes its settings from the run; leave out "
                + ", ".join(f"--{k.replace('_', '-')}" for k in given or ("recipe",))
            )
        cfg = read_config(out)
        manifest = manifest or out / "split.csv"
    else:
        cfg = make_config(recipe, given)
    spread, writes = open_strategy(strategy)
    if writes and not resume and (out / "checkpoints").exists():
        raise InputError(f"{out} holds a run; add --resume, or name another --out")
    reading = read(data)
    reading.warn_of_unlabelled()
    files = reading.files
    selection = audited(apply_manifest(files, manifest) if manifest else files)
    try:
        best = train(selection, cfg, out, resume, spread, writes)
    except KeyboardInterrupt:
        history = out / "history.csv"
        done = read_history(history) if history.exists() else []
        kept = "no epoch was finished, so there is no model"
        if done:
            best = best_epoch(done)
            kept = f"{out / 'model.keras'} holds epoch {best.epoch}; --resume continues"
        click.echo(f"Stopped after {several(len(done), 'epoch')}: {kept}", err=True)
        ctx.exit(INTERRUPTED)
    text = (
        f"{out / 'model.keras'}: epoch {best.epoch}, validation accuracy "
        f"{100 * best.val_accuracy:.1f} %, macro recall "
        f"{100 * best.val_macro_recall:.1f} %\n"
        f"next: edgecell convert {out / 'model.keras'} --int8 --calibration DATA... "
        f"--manifest {out / 'split.csv'} --out model.tflite"
    )
    result = {
        "model": str(out / "model.keras"),
        "epoch": best.epoch,
        "val_accuracy": best.val_accuracy,
        "val_macro_recall": best.val_macro_recall,
    }
    report(text, result, json_file)
