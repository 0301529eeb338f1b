"""``edgecell convert``."""

from dataclasses import asdict
from pathlib import Path

import click

from edgecell.cli import json_option, report


class ManyCalibrationData(click.Command):
    """Lets one ``--calibration`` take several values, as a shell's glob gives."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeats the option's name before each of its values."""
        option, spread, inside = "--calibration", [], 0
        for arg in args:
            if arg.startswith("-"):
                inside = int(arg == option)
            elif inside:
                if inside > 1:
                    spread.append(option)
                inside += 1
            spread.append(arg)
        return super().parse_args(ctx, spread)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


@click.command(
    "convert",
    cls=ManyCalibrationData,
    short_help="Convert a trained model to TFLite.",
)
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--int8",
    "scheme",
    flag_value="int8",
    default="int8",
    help="Full integer quantisation (the default).",
)
@click.option(
    "--float32", "scheme", flag_value="float32", help="Keep 32-bit floating point."
)
@click.option(
    "--calibration",
    metavar="DATA...",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="The data that MODEL was trained on. Its training split gives the "
    "calibration set, its validation split the figures.",
)
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    help="split.csv of the training run: uses its images in its splits.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="File to write."
)
@click.option(
    "--io",
    type=click.Choice(["int8", "uint8"]),
    default="int8",
    show_default=True,
    help="Type of the input tensor of an int8 model.",
)
@click.option(
    "--calibration-size",
    type=click.IntRange(min=12),
    default=240,
    show_default=True,
    help="Images in the calibration set, the same number of each class.",
)
@click.option(
    "--seed", default=1, show_default=True, help="Seed of the calibration set's draw."
)
@json_option
def command(
    model: Path,
    scheme: str,
    calibration: tuple[Path, ...],
    manifest: Path | None,
    out: Path,
    io: str,
    calibration_size: int,
    seed: int,
    json_file: str | None,
) -> None:
    """Convert MODEL, a .keras file that 'edgecell train' wrote, to one TFLite file.

    The file holds the network with two outputs (logits and class activation maps)
    and everything that a device needs to know: classes, preprocessing, temperature.
    """
    from edgecell.optional import require

    require("tensorflow", "train")
    from edgecell.convert.convert import convert
    from edgecell.convert.export import QuantScheme
    from edgecell.files import check_writable
    from edgecell.manifest import scan_split
    from edgecell.modelfile import read_keras_record

    read_keras_record(model)
    check_writable(out)
    made = convert(
        model,
        QuantScheme(scheme, io),  # type: ignore[arg-type]
        scan_split(calibration, manifest),
        out,
        calibration_size,
        seed,
    )
    text = (
        f"{made.path}: {made.scheme}, {made.bytes / 1e6:.2f} MB\n"
        f"calibration set: {made.calibration_images} images\n"
        f"on {made.n} validation images: accuracy {100 * made.accuracy_before:.1f} % "
        f"before, {100 * made.accuracy_after:.1f} % after; "
        f"same class {100 * made.agreement:.1f} %\n"
        f"temperature {made.temperature:.3f}; {100 * made.accepted:.1f} % of the cells "
        f"accepted, {_percent(made.accepted_right)} of them right"
    )
    report(text, asdict(made) | {"path": str(made.path)}, json_file)
