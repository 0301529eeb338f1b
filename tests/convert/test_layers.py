import csv
from pathlib import Path

import numpy as np
import pytest

from edgecell.convert.layers import (
    layer_reports,
    layers_table,
    worst_first,
    write_reports,
)
from edgecell.image.preprocess import standardise
from edgecell.model.graph import read_graph
from edgecell.model.modelfile import read_tflite
from edgecell.model.predict import predict


def test_the_last_layers_ratio_is_that_of_the_logits(
    converted: dict[str, Path], cells: np.ndarray
) -> None:
    (floating, record), (quantised, _) = (
        read_tflite(converted[name]) for name in ("float32", "int8")
    )
    few = cells[:5]
    x = standardise(few, record.preprocessing)
    reports = layer_reports(quantised, floating, x)
    assert len(reports) == len(read_graph(quantised).operators)
    truth, got = (predict(converted[n], few).logits for n in ("float32", "int8"))
    expected = 10 * np.log10(np.square(truth).sum() / np.square(truth - got).sum())
    last = [r for r in reports if r.operator == "RESHAPE"][-1]
    assert last.snr_db == pytest.approx(expected, abs=0.1)
    assert last in worst_first(reports)[1:]


def test_a_model_does_not_differ_from_itself(
    converted: dict[str, Path], cells: np.ndarray, tmp_path: Path
) -> None:
    floating, record = read_tflite(converted["float32"])
    x = standardise(cells[:1], record.preprocessing)
    reports = layer_reports(floating, floating, x)
    assert reports
    assert all(r.snr_db is None for r in reports)
    assert layers_table(reports) == "no layer differs from float32"
    write_reports(reports, tmp_path / "layers")
    with (tmp_path / "layers" / "layers.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert sorted(int(row["index"]) for row in rows) == [r.index for r in reports]
    assert (tmp_path / "layers" / "layers.png").stat().st_size > 1000
