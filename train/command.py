"""``edgecell train``."""

from pathlib import Path

import click

from edgecell.cli import json_option, report


@click.command("train", short_help="Train a network on labelled cells.")
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--model",
    default="grsnet-lite",
    show_default=True,
    help="Network: grsnet-lite, or grsnet with the paper's size.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the model, its history and its checkpoints.",
)
@click.option(
    "--epochs", default=20, show_default=True, help="Passes over the training split."
)
@click.option(
    "--small-epochs",
    type=click.IntRange(min=0),
    help="First epochs on 80-pixel views, which cost half.  [default: 40 %]",
)
@click.option("--batch-size", default=32, show_default=True, help="Images a step.")
@click.option(
    "--learning-rate", default=2e-3, show_default=True, help="Peak learning rate."
)
@click.option(
    "--crop",
    default=0.66,
    show_default=True,
    help="Side of the crop as a share of an image's shorter side.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of the whole run.")
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint in OUT.")
@json_option
def command(
    data: tuple[Path, ...],
    model: str,
    out: Path,
    epochs: int,
    small_epochs: int | None,
    batch_size: int,
    learning_rate: float,
    crop: float,
    seed: int,
    resume: bool,
    json_file: str | None,
) -> None:
    """Train a network on DATA: folders or zip files of cell images.

    The directory above an image names its class by code (BNE) or English name
    (band neutrophil). One image in five is set aside for testing and one in ten for
    validation, by content, so that the split is the same in every run.
    """
    from edgecell.optional import require

    require("tensorflow", "train")
    from edgecell.dataset import scan
    from edgecell.errors import InputError
    from edgecell.files import check_writable
    from edgecell.train.config import TrainConfig
    from edgecell.train.run import train

    check_writable(out / "model.keras")
    if not resume and (out / "checkpoints").exists():
        raise InputError(f"{out} holds a run; add --resume, or name another --out")
    try:
        cfg = TrainConfig(
            model=model,
            epochs=epochs,
            small_epochs=round(0.4 * epochs) if small_epochs is None else small_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            crop_fraction=crop,
            seed=seed,
        )
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    best = train(scan(data), cfg, out, resume)
    text = (
        f"{out / 'model.keras'}: epoch {best.epoch}, validation accuracy "
        f"{100 * best.val_accuracy:.1f} %, macro recall "
        f"{100 * best.val_macro_recall:.1f} %\n"
        f"next: edgecell convert {out / 'model.keras'} --int8 --calibration DATA... "
        "--out model.tflite"
    )
    result = {
        "model": str(out / "model.keras"),
        "epoch": best.epoch,
        "val_accuracy": best.val_accuracy,
        "val_macro_recall": best.val_macro_recall,
    }
    report(text, result, json_file)
