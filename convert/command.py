"""``edgecell convert``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgecell.cli import (
    Number,
    OutputFolder,
    claim,
    json_option,
    manifest_option,
    refuse,
    report,
)
from edgecell.errors import ModelError
from edgecell.model import BUNDLED

if TYPE_CHECKING:
    from edgecell.convert.convert import Conversion


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


def summary(made: "Conversion") -> str:
    """The figures as text."""
    c, target = made.comparison, made.target
    ran = f"not run on {target.target}: {target.reason}"
    if target.ran:
        ran = (
            f"run on {target.target}: {target.images} images, "
            f"{target.median_ms:.1f} ms an image"
        )
        if target.worst_steps is not None:
            ran += (
                "; compared with the runtime here: same class "
                f"{_percent(target.agreement)}, logits within {target.worst_steps:.1f} "
                "steps"
            )
    again = ""
    if made.recalibrated is not None:
        again = (
            f"; with another random draw: same class on {_percent(made.recalibrated)}"
        )
    return "\n".join(
        (
            f"{made.path}: {made.scheme}, {made.bytes / 1e6:.2f} MB, "
            f"{made.float_bytes / made.bytes:.1f} times smaller than float32; "
            f"{made.deflated_bytes / 1e6:.2f} MB after deflate",
            f"calibration set: {made.calibration_images} images{again}",
            f"on {c.n} images of {made.split}: accuracy {_percent(c.accuracy_before)} "
            f"before, {_percent(c.accuracy_after)} after; same class "
            f"{_percent(c.agreement)}",
            f"probabilities drift by {c.drift_mean:.3f} on average, "
            f"{c.drift_worst:.3f} at worst; maps correlate by {c.map_similarity:.3f}",
            f"temperature {made.temperature:.3f}; {_percent(made.accepted)} of the "
            f"validation cells accepted, {_percent(made.accepted_right)} of them right",
            ran,
        )
    )


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
    help="Full integer quantisation (default).",
)
@click.option(
    "--int16x8", "scheme", flag_value="int16x8", help="int8 weights, int16 activations."
)
@click.option(
    "--dynamic", "scheme", flag_value="dynamic", help="int8 weights, float activations."
)
@click.option("--float16", "scheme", flag_value="float16", help="float16 weights.")
@click.option(
    "--float32", "scheme", flag_value="float32", help="float32 weights and activations."
)
@click.option(
    "--qat",
    is_flag=True,
    help="First fine-tune with simulated quantisation; needs --int8.",
)
@click.option(
    "--prune",
    type=Number(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="First fine-tune with this share of each kernel set to zero.",
)
@click.option(
    "--cluster",
    type=click.IntRange(2, 256),
    metavar="N",
    help="First fine-tune with N different values in each kernel.",
)
@click.option(
    "--steps",
    type=click.IntRange(1, 10**6),
    default=350,
    show_default=True,
    help="With --qat, --prune or --cluster: steps of fine-tuning, 32 images each.",
)
@click.option(
    "--calibration",
    metavar="DATA...",
    multiple=True,
    type=click.Path(path_type=Path),
    help="All data that MODEL was trained on, instead of the images that the run kept. "
    "The calibration set is drawn from the training split; the confidence is fitted on "
    "the validation split.",
)
@click.option(
    "--attributes",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="CSV table of the cells' attributes, by file name: img_name,nucleus_shape,... "
    "The file learns to predict them.",
)
@manifest_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write.  [default: beside MODEL, such as model-int8.tflite]",
)
@click.option(
    "--io",
    type=click.Choice(["int8", "uint8", "float32"]),
    help="Type of the input tensor of an int8 model.  [default: int8]",
)
@click.option(
    "--calibration-size",
    type=click.IntRange(12, 10**6),
    default=240,
    show_default=True,
    help="Images in the calibration set, the same number of each class.",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=1,
    show_default=True,
    help="Random seed of the calibration set and of fine-tuning.",
)
@click.option(
    "--max-drop",
    type=Number(min=0),
    default=0.5,
    show_default=True,
    metavar="POINTS",
    help="Largest loss of accuracy that is allowed, in percentage points. If it is "
    "larger, nothing is written.",
)
@click.option(
    "--split",
    type=click.Choice(["val", "test"]),
    default="val",
    show_default=True,
    help="Images on which the accuracy is compared.",
)
@click.option(
    "--target",
    type=click.Choice(["litert", "tflite-runtime-2.14"]),
    default="litert",
    show_default=True,
    help="Runtime that the file is made for. The file is checked against it and run on "
    "it.",
)
@click.option(
    "--onnx",
    is_flag=True,
    help="Make an ONNX file from MODEL, a .tflite file that edgecell wrote, or "
    "'bundled'. Both are compared on real cells: those of --calibration and --split, "
    "or else the bundled samples. With --float32 the file is not quantised, as "
    "TensorRT's FP16 needs it.",
)
@click.option(
    "--debug",
    type=OutputFolder(),
    metavar="FOLDER",
    help="Also compare each layer with float32, into layers.csv and layers.png.",
)
@json_option
def command(
    model: Path,
    scheme: str,
    qat: bool,
    prune: float | None,
    cluster: int | None,
    steps: int,
    calibration: tuple[Path, ...],
    attributes: Path | None,
    manifest: Path | None,
    out: Path | None,
    io: str | None,
    calibration_size: int,
    seed: int,
    max_drop: float,
    split: Any,
    target: Any,
    onnx: bool,
    debug: Path | None,
    json_file: str | None,
) -> None:
    """Convert MODEL, which 'edgecell train' wrote, to one TFLite file.

    MODEL is a run's folder or its .keras file. The run kept the images that conversion
    needs; --calibration uses all of the data instead. The folder of a finder's job
    needs --calibration with the packed files that it was trained on, and becomes int8.

    The file holds the network with its outputs (logits, class activation maps, feature
    map) and everything that a device needs: classes, preprocessing, confidence. Before
    it is written, its tensor types are checked against the scheme, its accuracy is
    compared with MODEL's, and it is run on its runtime.
    """
    from edgecell.optional import require

    if onnx:
        _to_onnx(model, scheme, calibration, manifest, out, max_drop, split, json_file)
        return
    tunings: dict[str, Any] = {"qat": qat, "prune": prune, "cluster": cluster}
    given = {name: value for name, value in tunings.items() if value}
    if not given:
        refuse(("steps",), "is for --qat, --prune or --cluster")
    if len(given) > 1:
        raise click.UsageError("choose one of --qat, --prune and --cluster")
    if not calibration:
        refuse(("manifest",), "is for --calibration")
    if not calibration and (given or split == "test"):
        raise click.UsageError(
            "fine-tuning, and --split test, need the data that MODEL was trained on; "
            "give --calibration DATA..."
        )
    if qat and scheme != "int8":
        raise click.UsageError("--qat prepares for --int8; leave the other scheme out")
    require("tensorflow", "train")
    from edgecell.convert.convert import Request, convert
    from edgecell.convert.export import QuantScheme
    from edgecell.convert.finder import is_finder
    from edgecell.convert.finetune import FineTuning
    from edgecell.convert.gate import losers_table
    from edgecell.convert.layers import layers_table, write_reports
    from edgecell.data.manifest import check_split, scan_split
    from edgecell.files import check_writable
    from edgecell.model.kerasfile import read_keras_record
    from edgecell.morphology.table import read_attributes
    from edgecell.train.kept import kept_for_conversion

    if is_finder(model):
        _finder(model, calibration, out, json_file)
        return
    path = model / "model.keras" if model.is_dir() else model
    out = out or path.with_name(f"{path.stem}-{scheme}.tflite")
    record = read_keras_record(path)
    claim(out, "TFLite")
    check_writable(out)
    table = read_attributes(attributes) if attributes else None
    name: Any = scheme
    kind: Any = io or ("int8" if scheme == "int8" else "float32")
    try:
        request = Request(
            QuantScheme(name, kind),
            FineTuning(**given, steps=steps, seed=seed) if given else None,
            target,
            calibration_size,
            seed,
            split,
            max_drop,
            debug is not None,
            table,
        )
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    if calibration:
        files = scan_split(calibration, manifest)
        check_split(record, files)
    else:
        files = kept_for_conversion(path)
    made, layers = convert(path, request, files, out)
    texts = [summary(made)]
    if debug:
        write_reports(layers, debug)
        texts.append(f"{layers_table(layers)}\nall layers: {debug}")
    if not made.written:
        texts.append(losers_table(made.comparison))
    report("\n\n".join(texts), made.to_dict(), json_file)
    if not made.written:
        raise ModelError(
            f"accuracy fell by {made.comparison.drop:.2f} points, more than --max-drop "
            f"{max_drop:g}; nothing was written. Try --qat, or more "
            "--calibration-size"
        )


def _finder(
    run: Path, packs: tuple[Path, ...], out: Path | None, json_file: str | None
) -> None:
    """Converts a finder."""
    from edgecell.convert.finder import convert_finder
    from edgecell.files import check_writable

    if not packs:
        raise click.UsageError(
            f"{run} holds a finder; give the packed files that it was trained on: "
            "--calibration PACK.npz"
        )
    out = out or run / "finder-int8.tflite"
    claim(out, "TFLite")
    check_writable(out)
    record = convert_finder(run, packs, out)
    data = {"path": str(out), "bytes": out.stat().st_size, **record.metrics}
    text = f"{out}: {data['bytes'] / 1e6:.2f} MB\nnext: edgecell evaluate --frames "
    report(f"{text}FRAMES --split val --finder {out}", data, json_file)


_NOT_FOR_ONNX = (
    *("qat", "prune", "cluster", "steps", "io", "calibration_size", "seed", "target"),
    "debug",
)


def _to_onnx(
    model: Path,
    scheme: str,
    calibration: tuple[Path, ...],
    manifest: Path | None,
    out: Path | None,
    max_drop: float,
    split: Any,
    json_file: str | None,
) -> None:
    """Carries out ``--onnx``."""
    from edgecell.optional import require

    refuse(_NOT_FOR_ONNX, "is not for --onnx")
    if scheme not in ("int8", "float32"):
        raise click.UsageError(f"--onnx goes with --int8 or --float32, not --{scheme}")
    if not calibration:
        refuse(("manifest", "split"), "is for --calibration")
    for module in ("tensorflow", "tf2onnx", "onnx"):  # the first in silence
        require(module, "onnx-export")
    require("onnxruntime", "onnx")
    from edgecell.convert.to_onnx import convert_to_onnx, onnx_summary, sample_cells
    from edgecell.data.dataset import labels, load_images, of_one_class
    from edgecell.data.manifest import scan_split
    from edgecell.files import check_writable
    from edgecell.model.modelfile import read_tflite, resolve

    path = resolve(str(model))
    beside = Path() if str(model) == BUNDLED else path.parent
    kind = "-float32" if scheme == "float32" else ""
    out = out or beside / f"{path.stem}{kind}.onnx"
    record = read_tflite(path)[1]
    claim(out, "ONNX")
    check_writable(out)
    files = scan_split(calibration, manifest) if calibration else sample_cells()
    cells = [f for f in of_one_class(files) if not calibration or f.split == split]
    if not cells:
        raise ModelError(
            f"the data has no image in the split '{split}' to compare the two files on"
        )
    images = load_images(cells, record.preprocessing, crops=record.crops)
    floating = scheme == "float32"
    y = labels(cells, record.codes)
    made = convert_to_onnx(path, out, images, y, floating, max_drop)
    report(onnx_summary(made), made.to_dict(), json_file)
    if not made.written:
        raise ModelError(
            f"compared with {model}, accuracy fell by {made.comparison.drop:.2f} "
            f"points and {100 * (1 - made.comparison.agreement):.1f} % of the cells "
            "changed class; nothing was written. Try the other one of --int8 and "
            "--float32"
        )
