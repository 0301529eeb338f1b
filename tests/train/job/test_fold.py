from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edgecell.data.pack import Pack
from edgecell.train.job.config import JobConfig
from edgecell.train.job.fold import Fold
from tests.train.job.runs import config, job


def test_folds_test_by_every_cell_of_a_source_once(
    pack: Pack, tiny_preset: str
) -> None:
    hashes: list[str] = []
    others = {h for h, s in zip(pack.hashes, pack.sources, strict=True) if s == "here"}
    own = set(pack.hashes) - others
    for part in (1, 2, 3):
        settings = replace(config(tiny_preset), fold=Fold("there", part, 3))
        assert JobConfig.from_dict(settings.to_dict()) == settings
        run = job(pack, settings)
        tested = set(run.test.hashes) & own
        # 120 cells of twelve classes, two of which are one set.
        assert len(tested) == 40
        counts = Counter(map(bytes, run.test.sets[np.isin(run.test.hashes, list(own))]))
        assert set(counts.values()) <= {3, 4, 6, 7}
        assert Counter(run.train.sources)["there"] == 80
        assert not set(run.val.hashes) & own
        hashes += tested
    assert sorted(hashes) == sorted(own)


@pytest.mark.parametrize(
    "text", ["there", "there=0/3", "there=4/3", "there=1/1", "=1/2"]
)
def test_what_is_no_part_of_a_source_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="no part of a source, such as 'own=1/5'"):
        Fold.parse(text)


def test_a_source_that_is_left_out_has_no_fold() -> None:
    with pytest.raises(ValueError, match="there has a fold, but is left out"):
        JobConfig(fold=Fold("there", 1, 2), exclude=("there",))
