import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgecell.edge.find.finder import (
    FinderRecord,
    decode,
    levels_by_glass,
    read_finder,
    write_finder,
)
from edgecell.errors import ModelError
from edgecell.model.info_command import command
from edgecell.model.modelfile import bundled_model, read_tflite

FLATBUFFER = b"\x1c\x00\x00\x00TFL3" + bytes(40)
RECORD = FinderRecord({"name": "finder"}, (0.4, 0.35, 0.3))
LEAST = (0.5, 0.5, 0.5)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """Empty maps of a working image of 64x48."""
    return np.full((12, 16, 3), -9.0, np.float32), np.zeros((12, 16, 2), np.float32)


def test_a_peak_is_a_cell_with_its_size() -> None:
    heat, size = maps()
    heat[5, 7, 2] = 2.0
    size[5, 7] = np.log([2.0, 0.5])  # of 16 pixels
    found = decode(heat, size, LEAST, (64, 48))
    assert found.kinds.tolist() == [2]
    # Entries are 4 pixels; the heat beside the peak is nearly none.
    assert found.boxes[0] == pytest.approx((30, 22, 32, 8), abs=0.02)
    assert found.scores[0] == pytest.approx(1 / (1 + np.exp(-2)))


def test_the_middle_lies_where_the_heat_is() -> None:
    heat, size = maps()
    heat[5, 7:9, 0] = (2.0, 1.99)
    (x, y, _, _) = decode(heat, size, LEAST, (64, 48)).boxes[0]
    assert x == pytest.approx(32, abs=0.05)
    assert y == pytest.approx(22, abs=0.05)


def test_what_is_below_the_least_score_or_outside_is_no_cell() -> None:
    heat, size = maps()
    heat[5, 7, 0] = -0.01
    heat[2, 2, 1] = 0.01
    heat[5, 15, 1] = 3.0
    assert decode(heat, size, LEAST, (60, 48)).boxes.shape == (1, 4)


@pytest.mark.parametrize(
    ("kinds", "left"),
    [((0, 0), 1), ((0, 2), 1), ((2, 0), 1), ((0, 1), 2), ((1, 2), 2)],
)
def test_two_peaks_of_one_cell_are_one(kinds: tuple[int, int], left: int) -> None:
    heat, size = maps()
    size += np.log(2.0)  # 32 pixels: 8 apart is one cell, 16 are two
    heat[5, 5, kinds[0]], heat[5, 7, kinds[1]] = 3.0, 2.0
    heat[5, 12, kinds[1]] = 2.0
    found = decode(heat, size, LEAST, (64, 48))
    assert len(found.kinds) == left + 1
    assert found.kinds[0] == kinds[0]


def test_glass_is_brought_to_one_level() -> None:
    levels = levels_by_glass(np.array([112, 224, 255], np.float32), 224.0)
    assert levels[112, 0] == levels[224, 1] == 224
    assert levels[255].tolist() == pytest.approx([255, 255, 224])


def test_a_file_keeps_its_record(tmp_path: Path) -> None:
    path = tmp_path / "finder.tflite"
    write_finder(path, FLATBUFFER, RECORD)
    flatbuffer, record = read_finder(path)
    assert flatbuffer == FLATBUFFER
    assert record.least_scores == (0.4, 0.35, 0.3)
    assert record.record_sha256


def test_info_prints_it(tmp_path: Path) -> None:
    path = tmp_path / "finder.tflite"
    write_finder(path, FLATBUFFER, RECORD)
    shown = CliRunner().invoke(command, [str(path)])
    assert shown.exit_code == 0
    assert re.search(r"^least scores +0\.4 0\.35 0\.3$", shown.output, re.MULTILINE)
    assert re.search(r"^level of bare glass +224$", shown.output, re.MULTILINE)
    path.write_bytes(path.read_bytes().replace(b"TFL3\x00", b"TFL3\x01"))
    with pytest.raises(ModelError, match=r"the network in .+ was changed"):
        CliRunner().invoke(command, [str(path)], catch_exceptions=False)


def test_a_file_of_the_other_kind_is_told(tmp_path: Path) -> None:
    path = tmp_path / "finder.tflite"
    write_finder(path, FLATBUFFER, RECORD)
    with pytest.raises(ModelError, match="is a finder of cells; give a classifier"):
        read_tflite(path)
    with pytest.raises(ModelError, match="is a classifier; give a finder of cells"):
        read_finder(bundled_model())


def test_changed_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "finder.tflite"
    write_finder(path, FLATBUFFER, RECORD)
    changed = bytearray(path.read_bytes())
    changed[20] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ModelError, match=r"the network in .+ was changed"):
        read_finder(path)
    path.write_bytes(FLATBUFFER)
    with pytest.raises(ModelError, match="no readable edgecell record"):
        read_finder(path)


@pytest.mark.parametrize("least", [(0.0, 0.3, 0.3), (0.3, 0.3, 1.0)])
def test_scores_must_be_possible(least: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="least_scores"):
        FinderRecord({}, least)
