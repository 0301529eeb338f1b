import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edgecell.classes import CODES
from edgecell.convert.attributes import fit_heads, main
from edgecell.convert.microscopes import pooled_features
from edgecell.data.dataset import CellFile, scan
from edgecell.model.modelfile import read_tflite, write_tflite
from edgecell.morphology.table import read_attributes


@pytest.fixture
def folder(drawn_cells: Path, tmp_path: Path) -> Path:
    """The drawn cells under names of their own, four in five of them in table.csv."""
    for path in drawn_cells.glob("*/*.png"):
        code = path.parent.name
        (tmp_path / "drawn" / code).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "drawn" / code / f"{code}_{path.name}")
    files = scan([tmp_path / "drawn"])
    write(tmp_path / "table.csv", [f for i, f in enumerate(files) if i % 5])
    return tmp_path


def write(path: Path, files: list[CellFile]) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("img_name", "half", "third"))
        for f in files:
            place = CODES.index(f.code)
            half = "late" if place >= 6 else "early"
            rows.writerow((Path(f.name).name, half, ("a", "b", "c")[place % 3]))


def test_heads_learn_what_the_features_tell(
    converted: dict[str, Path], folder: Path
) -> None:
    files, table = scan([folder / "drawn"]), read_attributes(folder / "table.csv")
    flatbuffer, record = read_tflite(converted["int8"])
    heads = fit_heads(converted["int8"], files, table, least_cells=5)
    out = folder / "out.tflite"
    write_tflite(out, flatbuffer, replace(record, attributes=heads))
    assert read_tflite(out)[1].attributes == heads
    assert heads.microscopes == ("drawn",)
    assert set(heads.classes) == set(CODES)
    typical = dict(zip(heads.classes, heads.typical, strict=True))
    assert typical["BA"] == (1, 0, 1, 0, 0)
    assert typical["SNE"] == (0, 1, 0, 0, 1)
    sums = [part.sum(1) for part in np.split(heads.matrix, [2], 1)]
    assert np.abs(sums).max() < 0.01  # float16
    test = [f for f in files if f.split == "test"]
    pooled = pooled_features(converted["int8"], test)
    truth = table.of(test)
    right = [
        [a.values.index(v.value) for a, v in zip(heads.attributes, told, strict=True)]
        for told in map(heads.values, heads.logits(pooled))
    ]
    known = (truth >= 0).all(1)
    assert (np.array(right)[known] == truth[known]).mean() > 0.6  # by chance 0.42


def test_too_few_cells_are_told(converted: dict[str, Path], folder: Path) -> None:
    result = add(converted["int8"], folder)
    assert result.exit_code == 1
    assert "too few of the images" in str(result.exception)


def add(model: Path, folder: Path) -> Result:
    arguments = [model, folder / "drawn", "--attributes", folder / "table.csv"]
    named = [*map(str, arguments), "--out", str(folder / "out.tflite")]
    return CliRunner().invoke(main, named)
