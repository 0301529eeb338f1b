"""``edgecell info``."""

import json
from collections.abc import Mapping

import click

from edgecell import RESEARCH_USE
from edgecell.cli import json_option, report

_OF_FINDER = {
    "side": "longest side, pixels",
    "glass": "level of bare glass",
    "middle": "level that is 0",
    "spread": "levels that are 1",
    "format": "record version",
    "version": "edgecell",
}


@click.command("info", short_help="Print the record in a model file.")
@click.argument("model", default="bundled")
@json_option
def command(model: str, json_file: str | None) -> None:
    """Print the record in MODEL: a .tflite, .onnx or .keras file, or 'bundled'.

    It prints the record of a finder of cells, too.
    """
    from edgecell.model.modelfile import (
        METADATA_FINDER,
        OtherKindError,
        read_sealed,
        resolve,
    )
    from edgecell.model.predict import read_record

    path = resolve(model)
    try:
        record = read_record(path)
    except OtherKindError:
        data = read_sealed(path, METADATA_FINDER)
        lines = {"file": f"{path} ({path.stat().st_size / 1e6:.2f} MB)"}
        lines |= {_OF_FINDER.get(name, name): value for name, value in data.items()}
        report(_listed(lines), data, json_file)
        return
    prep = record.preprocessing
    classes = ", ".join(f"{c.code} {c.name}" for c in record.classes)
    rgb = "  ".join(
        f"{c} {m:.1f} +- {s:.1f}"
        for c, m, s in zip("RGB", prep.mean, prep.std, strict=True)
    )
    data = json.loads(record.to_json())
    review = "no rule: every cell is for review"
    if record.review:
        least = zip(record.codes, record.review.least_probability, strict=True)
        review = (
            f"a class is possible from "
            f"{', '.join(f'{code} {p:.2f}' for code, p in least)} "
            f"(miss rate {record.review.alpha:g}); energy below "
            f"{record.review.least_energy:.2f} is out of distribution"
        )
    told, heads = "none", record.attributes
    if heads is not None:
        names = ", ".join(a.name for a in heads.attributes)
        told = (
            f"{names}; of {', '.join(heads.classes)} ({', '.join(heads.microscopes)})"
        )
    lines = {
        "file": f"{path} ({path.stat().st_size / 1e6:.2f} MB)",
        "network": record.network["name"],
        "scheme": record.scheme,
        "classes": classes,
        "input": f"{prep.input_size}x{prep.input_size} RGB",
        "standardised by": rgb,
        "crop": f"{prep.crop_red_cells:.2f} red-cell diameters",
        "temperature": f"{record.temperature:.3f}",
        "review": review,
        "attributes": told,
        "trained on": data["training"].get("images", {}),
        "from": ", ".join(data["training"].get("sources", [])),
        "metrics": data["metrics"],
        "model sha256": record.model_sha256 or "-",
        "record sha256": record.record_sha256
        or "- (an older file: no hash covers the classes and thresholds; convert it "
        "again)",
        "edgecell": f"{record.version} (record version {record.format})",
    }
    report(_listed(lines), data, json_file)


def _listed(lines: Mapping[str, object]) -> str:
    width = max(map(len, lines))
    text = "\n".join(
        f"{_words(name):<{width}}  {_plain(value)}" for name, value in lines.items()
    )
    return f"{text}\n{RESEARCH_USE}"


def _plain(value: object) -> str:
    """A value of a record as people read it."""
    if value is None or value in ({}, [], ""):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(
            f"{_words(name)} ({_plain(inner)})"
            if isinstance(inner, Mapping) and inner
            else f"{_words(name)} {_plain(inner)}"
            for name, inner in value.items()
        )
    if isinstance(value, list):
        return " ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    return name.replace("_", " ")
