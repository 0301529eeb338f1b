from collections import Counter

import pytest

from edgecell.classes import CODES
from edgecell.convert.calibration import calibration_set
from edgecell.data.dataset import CellFile, split_of
from edgecell.errors import InputError


def files(per_class: int, codes: tuple[str, ...] = CODES) -> list[CellFile]:
    return [
        CellFile(f"{code}/{i}", code, "s", f"{code}{i:04}", b"")
        for code in codes
        for i in range(per_class)
    ]


def test_balanced_seeded_and_from_the_training_split_alone() -> None:
    data = files(60)
    chosen = calibration_set(data, CODES, 240, seed=1)
    assert Counter(f.code for f in chosen) == dict.fromkeys(CODES, 20)
    assert {split_of(f.sha256) for f in chosen} == {"train"}
    assert len({f.sha256 for f in chosen}) == 240
    assert chosen == calibration_set(data[::-1], CODES, 240, seed=1)
    assert chosen != calibration_set(data, CODES, 240, seed=2)


def test_a_small_class_gives_what_it_has() -> None:
    data = files(60, CODES[1:]) + files(3, CODES[:1])
    counts = Counter(f.code for f in calibration_set(data, CODES, 120, seed=1))
    assert 0 < counts["BA"] <= 3
    assert counts["EO"] == 10


def test_missing_and_unknown_classes() -> None:
    with pytest.raises(InputError, match="no training image of SNE"):
        calibration_set(files(20, CODES[:-1]), CODES, 24, seed=1)
    with pytest.raises(InputError, match="does not know"):
        calibration_set(files(20), CODES[:-1], 24, seed=1)
