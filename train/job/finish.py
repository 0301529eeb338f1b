"""A job's result as a ``.keras`` file, where TensorFlow is: what conversion takes."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edgecell.cli import PoliteCommand
from edgecell.errors import InputError

if TYPE_CHECKING:
    from edgecell.data.pack import Pack
    from edgecell.model.modelfile import ModelRecord

_GAP_SHARE = 0.01


def read_summary(run: Path) -> dict[str, Any]:
    """The summary that a job wrote.

    Raises:
        InputError: the job is not finished, or the folder is not a job's.
    """
    from edgecell.train.job.files import SUMMARY

    path = run / SUMMARY
    try:
        summary = json.loads(path.read_text())
        if not isinstance(summary, dict):
            raise ValueError("not a summary")
        return summary
    except (OSError, ValueError) as e:
        raise InputError(f"{run} holds no finished job ({e})") from e


def record_of(
    summary: dict[str, Any], pack: "Pack", bias: Sequence[float]
) -> "ModelRecord":
    """The record of a job's network.

    Args:
        summary: see `read_summary`.
        pack: the packed cells that the job was given.
        bias: of the head, C values.
    """
    from dataclasses import replace

    from edgecell.classes import CLASSES
    from edgecell.model.modelfile import ModelRecord
    from edgecell.train.networks.models import description

    config = summary["config"]
    used = [
        i
        for i, (source, split) in enumerate(zip(pack.sources, pack.splits, strict=True))
        if source not in config["exclude"] and split != "test"
    ]
    splits = Counter(pack.splits[i] for i in used)
    learned: Counter[str] = Counter()
    for i in used:
        members = np.flatnonzero(pack.sets[i])
        if pack.splits[i] == "train" and len(members) == 1:
            learned[pack.codes[members[0]]] += 1
    taught = [Path(run).name for run in config.get("finished", ())]
    prep = replace(pack.prep, mean=tuple(summary["mean"]), std=tuple(summary["std"]))
    return ModelRecord(
        classes=CLASSES,
        preprocessing=prep,
        network=description(config["model"]),
        head_bias=tuple(bias),
        training={
            "data_sha256": pack.content_hash(used),
            "own_split": False,
            "sources": sorted({pack.sources[i] for i in used}),
            "crops": dict(pack.crops),
            "images": dict(sorted(splits.items())),
            "learned": dict(sorted(learned.items())),
            "config": config | {"finished": taught},
            "job": {
                key: summary[key]
                for key in ("step", "cells", "seconds", "device", "torch")
            },
        },
        metrics={"val": {"by_source": summary["val"]}},
    )


def finish(run: Path, packs: Sequence[Path], out: Path) -> float:
    """Writes a job's averaged network as a ``.keras`` file, and checks it.

    Args:
        run: the job's folder.
        packs: the packed cells that it was given.
        out: the file to write.

    Returns:
        Share of the validation cells that Keras names as PyTorch did.

    Raises:
        InputError: the job is not finished; the packs are others; or Keras' answers
            differ in more than one cell in a hundred.
        OutputError: ``out`` can't be written.
    """
    from edgecell.data.pack import read_packs
    from edgecell.image.preprocess import standardise
    from edgecell.model.kerasfile import save_keras
    from edgecell.optional import require
    from edgecell.train.job.files import RESULT, read_weights
    from edgecell.train.job.fold import Fold, folded
    from edgecell.train.networks.keras_weights import set_keras_weights
    from edgecell.train.networks.models import build_model
    from edgecell.train.networks.network import PRESETS

    require("tensorflow", "train")
    summary, pack = read_summary(run), read_packs(packs)
    name, fold = summary["config"]["model"], summary["config"].get("fold")
    if name not in PRESETS:
        raise InputError(
            f"{run} trained {name}, not a GRsNet; train it with 'edgecell train'"
        )
    if fold:
        pack = folded(pack, Fold.parse(fold))
    # The attributes' heads have shaped the features; conversion fits them anew.
    weights = {
        key: w
        for key, w in read_weights(run / RESULT).items()
        if not key.startswith("attributes.")
    }
    model = build_model(name, len(pack.codes), pack.prep.input_size)
    set_keras_weights(model, weights)
    record = record_of(summary, pack, [float(b) for b in weights["head.bias"]])
    with np.load(run / RESULT, allow_pickle=False) as result:
        theirs, hashes = result["val_logits"], result["val_hashes"].tolist()
    places = {sha256: i for i, sha256 in enumerate(pack.hashes)}
    if not set(hashes) <= set(places):
        raise InputError(f"{run} was validated on other cells than those packed here")
    images = pack.crops_of([places[h] for h in hashes])
    x = standardise(images, record.preprocessing)
    ours = np.concatenate(
        [
            np.asarray(model(x[i : i + 128], training=False))
            for i in range(0, len(x), 128)
        ]
    )
    agreement = float((ours.argmax(1) == theirs.argmax(1)).mean())
    if agreement < 1 - _GAP_SHARE:
        raise InputError(
            f"Keras and PyTorch agree on {100 * agreement:.1f} % of the validation "
            "cells alone; give the packs that the job was given"
        )
    save_keras(model, out, record)
    return agreement


@click.command(cls=PoliteCommand)
@click.argument("run", type=click.Path(path_type=Path, file_okay=False))
@click.argument(
    "packs", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help=".keras file."
)
def command(run: Path, packs: tuple[Path, ...], out: Path) -> None:
    """Write the network of a finished job in RUN, trained on PACKS, for conversion."""
    agreement = finish(run, packs, out)
    click.echo(
        f"{out}: Keras and PyTorch agree on {100 * agreement:.2f} % of the validation "
        f"cells\nnext: edgecell convert {out} --int8 --calibration DATA... "
        "--out model.tflite"
    )


if __name__ == "__main__":
    command()
