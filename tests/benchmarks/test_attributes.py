from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgecell.benchmarks.attributes import figures, true_values
from edgecell.benchmarks.evaluate_command import attributes_table
from edgecell.benchmarks.evaluation import Answers
from edgecell.morphology.table import Attribute, AttributeTable
from tests.morphology.heads import heads

CODES = ("BA", "BNE", "SNE")
# Label, called class, nucleus (0 lobes, 1 band), granules (coarse, nil, fine).
CELLS = [
    ("BA", "BA", 0, 0),
    ("BNE", "BNE", 1, 2),
    ("SNE", "BNE", 1, 2),  # the annotators side with the model
    ("SNE", "BNE", 0, 2),  # and here not
    ("SNE", "SNE", 0, 2),
    ("BNE", "BNE", 0, 2),  # contradicted, and called as labelled
    ("BA", "SNE", None, None),  # no attributes
]


def answers() -> Answers:
    files = [
        SimpleNamespace(name=f"{i}.jpg", sha256=str(i), code=code)
        for i, (code, *_) in enumerate(CELLS)
    ]
    called = [CODES.index(c) for _, c, *_ in CELLS]
    made: Any = SimpleNamespace(
        files=files,
        record=SimpleNamespace(codes=CODES),
        probabilities=np.eye(3)[called],
        sets=np.array([[code == c for c in CODES] for code, *_ in CELLS]),
    )
    return cast(Answers, made)


TABLE = AttributeTable(
    (
        Attribute("granule_type", ("coarse", "nil", "none of ours", "small")),
        Attribute("nucleus_shape", ("segmented-bilobed", "unsegmented-band")),
        Attribute("not told", ("a", "b")),
    ),
    {
        f"{i}.jpg": (3 if granules == 2 else granules, nucleus, 0)
        for i, (_, _, nucleus, granules) in enumerate(CELLS)
        if nucleus is not None and granules is not None
    },
)


def test_values_are_numbered_as_the_model_does() -> None:
    found = true_values(heads(), TABLE, answers())
    assert found.tolist() == [
        *([0, 0], [1, 2], [1, 2], [0, 2], [0, 2], [0, 2]),
        [-1, -1],
    ]


def test_figures_by_hand() -> None:
    truth = true_values(heads(), TABLE, answers())
    # The model is sure of all granules, and of the nuclei but for the fourth one.
    told = truth[:6].copy()
    told[3, 0] = 1
    p = np.concatenate([np.eye(2)[told[:, 0]], np.eye(3)[told[:, 1]]], 1)
    report = figures(heads(), p, truth, answers())
    nucleus, granules = (
        report.attributes[n] for n in ("nucleus_shape", "granule_type")
    )
    assert (nucleus.n, granules.n, report.cells) == (6, 6, 6)
    assert nucleus.accuracy == pytest.approx(5 / 6)
    # Lobes: 3 of 4 found, none wrong; band: both found, one more called so.
    assert nucleus.macro_f1 == pytest.approx((6 / 7 + 4 / 5) / 2)
    assert nucleus.ece == pytest.approx(1 / 6)
    assert (nucleus.agreement, granules.agreement) == (0.903, None)
    assert (granules.accuracy, granules.macro_f1, granules.ece) == (1, 1, 0)
    assert report.accuracy == pytest.approx((5 / 6 + 1) / 2)
    # Both misclassified neutrophils look like bands to the model, as it calls them.
    assert (report.misclassified, report.towards_truth) == (2, 0)
    sne, bne = report.band_errors
    assert (sne.n, sne.sided, bne.n, bne.sided) == (2, 1, 0, 0)
    c = report.consensus
    assert (c.n, c.contradicted, c.contradicted_accuracy) == (5, 2, 0.5)
    assert c.accuracy == pytest.approx(3 / 5)
    text = attributes_table(report)
    assert (
        "of 2 SNE that the model calls BNE, the annotators agree with the model on 1"
        in text
    )
    assert "consensus accuracy: 60.0 % of the 5 cells" in text


def test_attributes_can_point_to_the_true_class() -> None:
    truth = true_values(heads(), TABLE, answers())
    p = np.concatenate([np.eye(2)[truth[:6, 0]], np.eye(3)[truth[:6, 1]]], 1)
    report = figures(heads(), p, truth, answers())
    assert (report.misclassified, report.towards_truth) == (2, 1)  # the lobed one
