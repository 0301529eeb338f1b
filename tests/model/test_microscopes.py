import dataclasses
import json

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis

from edgecell.model.microscopes.fit import (
    fit_calibrated,
    fit_microscope,
    principal_axes,
    usual_limits,
)
from edgecell.model.microscopes.microscope import CELLS, Microscope, judge, most_like
from edgecell.typed import build

WIDTH = 6
CENTRES = np.array([[4.0, 0, 0, 0, 0, 0], [0, 4.0, 0, 0, 0, 0], [0, 0, 4.0, 0, 0, 0]])
SIGMA = np.array([0.2, 0.3, 0.5, 0.8, 1.0, 1.3])
LABELS = ("BA", "BNE|SNE", "EO")


def draw(
    rng: np.random.Generator, each: int, shift: float = 0.0
) -> tuple[np.ndarray, list[str]]:
    """Cells of three classes; a shift moves them all along the narrowest direction."""
    cells = [c + SIGMA * rng.normal(size=(each, WIDTH)) for c in CENTRES]
    labels = [label for label in LABELS for _ in range(each)]
    return np.concatenate(cells) + shift * np.eye(WIDTH)[0], labels


@pytest.fixture(scope="module")
def here() -> Microscope:
    rng = np.random.default_rng(1)
    x, labels = draw(rng, 200)
    return fit_microscope("here", x, labels, draw(rng, 100)[0])


def test_distances_are_those_of_scipy(here: Microscope) -> None:
    x = draw(np.random.default_rng(2), 5)[0]
    seen, labels = draw(np.random.default_rng(1), 200)
    given = np.array(labels)
    within = np.concatenate(
        [seen[given == k] - seen[given == k].mean(0) for k in LABELS]
    )
    covariance = within.T @ within / len(within)
    covariance += 0.1 * np.trace(covariance) / WIDTH * np.eye(WIDTH)
    inverse = np.linalg.inv(covariance)
    expected = [
        min(2 * np.log(mahalanobis(cell, m, inverse)) for m in here.class_means())
        for cell in x
    ]
    away, nearest = here.distances(x)
    np.testing.assert_allclose(away, expected, atol=0.02)  # kept as float16
    assert nearest.tolist() == [0] * 5 + [1] * 5 + [2] * 5


def test_a_compact_covariance_keeps_its_trace() -> None:
    rng = np.random.default_rng(3)
    within = rng.normal(size=(500, 60)) * np.linspace(0.1, 3, 60)
    axes, precisions = principal_axes(within)
    assert (axes.shape, precisions.shape) == ((32, 60), (33,))
    np.testing.assert_allclose(axes @ axes.T, np.eye(32), atol=1e-9)
    trace = np.trace(within.T @ within) / 500
    added = 0.1 * trace / 60
    variances = 1 / precisions - added
    assert variances[:-1].sum() + 28 * variances[-1] == pytest.approx(trace)


def test_cells_of_a_known_microscope_are_called_known(here: Microscope) -> None:
    x = draw(np.random.default_rng(4), 400)[0]
    rng = np.random.default_rng(5)
    kinds = [judge(x[rng.integers(0, len(x), 10)], [here]).kind for _ in range(1000)]
    assert kinds.count("unknown") <= 10


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_slide_of_one_class_is_called_known(here: Microscope, place: int) -> None:
    x = draw(np.random.default_rng(6), 400)[0][400 * place : 400 * (place + 1)]
    rng = np.random.default_rng(7)
    kinds = [judge(x[rng.integers(0, 400, 10)], [here]).kind for _ in range(300)]
    assert kinds.count("unknown") <= 6


def test_another_microscope_is_unknown_and_the_nearest_is_named(
    here: Microscope,
) -> None:
    rng = np.random.default_rng(8)
    x, labels = draw(rng, 200, shift=-6.0)
    there = fit_microscope("there", x, labels, draw(rng, 100, shift=-6.0)[0])
    far = judge(draw(rng, 4, shift=-3.0)[0], [here, there])
    assert (far.kind, str(far), far.cells) == ("unknown", "unknown", CELLS)
    assert far.score > far.limit
    back = judge(draw(rng, 4, shift=-6.0)[0], [here, there])
    assert str(back) == "known (there)"
    adapted = dataclasses.replace(there, calibrated=True)
    assert str(judge(draw(rng, 4, shift=-6.0)[0], [here, adapted])) == (
        "calibrated (there)"
    )


def test_without_a_description_every_microscope_is_unknown() -> None:
    verdict = judge(np.zeros((3, 4)), [])
    assert (verdict.kind, verdict.name, verdict.cells) == ("unknown", None, 3)


def test_a_speck_of_dirt_does_not_outweigh_nine_cells(here: Microscope) -> None:
    x = draw(np.random.default_rng(9), 3)[0]
    x[0] += 1000.0
    assert here.scores(x).max() == 3.0
    assert judge(x, [here]).kind == "known"


def test_limits_shrink_with_the_number_of_cells() -> None:
    scores = np.random.default_rng(10).normal(size=20_000)
    limits = np.array(usual_limits(scores))
    # The 99.5th percentile of the mean of n standard normals is 2.576 / sqrt(n).
    np.testing.assert_allclose(
        limits, 2.576 / np.sqrt(np.arange(1, CELLS + 1)), rtol=0.08
    )


def scores_of_slides(
    rng: np.random.Generator, slides: int, cells: int, apart: float
) -> tuple[np.ndarray, list[str]]:
    """Standard normal cells on slides that differ by `apart`, a standard deviation."""
    each = rng.normal(0, apart, (slides, 1)) + rng.normal(size=(slides, cells))
    return each.ravel(), [f"slide {i}" for i in range(slides) for _ in range(cells)]


def test_slides_that_differ_widen_the_limits() -> None:
    rng = np.random.default_rng(12)
    scores, slides = scores_of_slides(rng, 60, 6, 0.5)
    limit = usual_limits(scores, slides)[-1]
    means = scores_of_slides(rng, 4000, CELLS, 0.5)[0].reshape(-1, CELLS).mean(1)
    assert (means > limit).mean() < 0.01 < (means > usual_limits(scores)[-1]).mean()
    # That of a normal: 2.576 * sqrt(0.25 + 1 / 10).
    assert limit == pytest.approx(1.52, rel=0.2)


def test_slides_that_do_not_differ_change_nothing() -> None:
    scores, slides = scores_of_slides(np.random.default_rng(13), 400, 5, 0.0)
    limits = [usual_limits(scores, each)[-1] for each in (slides, ())]
    np.testing.assert_allclose(limits, 2.576 / np.sqrt(10), rtol=0.12)
    # Where each cell has a slide of its own, what slides share can't be told.
    alone = [str(i) for i in range(len(scores))]
    assert usual_limits(scores, alone) == usual_limits(scores)


def test_too_few_cells_describe_nothing() -> None:
    x, labels = draw(np.random.default_rng(11), 10)
    with pytest.raises(ValueError, match="too few"):
        fit_microscope("few", x, labels, x)


def test_it_survives_json_and_damage_is_found(here: Microscope) -> None:
    data = json.loads(json.dumps(dataclasses.asdict(here)))
    assert build(Microscope, data) == here
    for key, value in (
        ("means", "!"),
        ("axes", here.axes[:-8]),
        ("limits", [0.0]),
        ("spreads", [0.0] * 3),
        ("precisions", []),
    ):
        with pytest.raises(ValueError, match=r"damaged|fit together|limits|> 0"):
            build(Microscope, data | {key: value})


def test_a_microscope_learned_from_few_cells_is_known_again(here: Microscope) -> None:
    rng = np.random.default_rng(12)
    x, labels = draw(rng, 15, shift=-3.0)
    lab = fit_calibrated("lab", x, labels, [here])
    assert (lab.name, lab.cells, lab.calibrated) == ("lab", 45, True)
    own = [judge(draw(rng, 4, shift=-3.0)[0], [lab, here]) for _ in range(200)]
    assert sum(str(v) == "calibrated (lab)" for v in own) >= 185
    # What the parent knew is not known to the new head; a third one is unknown too.
    for shift in (0.0, 4.0):
        others = [judge(draw(rng, 4, shift=shift)[0], [lab, here]) for _ in range(50)]
        assert all(v.kind == "unknown" for v in others)


def test_whitened_cells_vary_alike_in_every_direction(here: Microscope) -> None:
    x, labels = draw(np.random.default_rng(7), 2000)
    given = np.array(labels)
    within = np.concatenate([x[given == k] - x[given == k].mean(0) for k in LABELS])
    spread = np.linalg.svd(within @ here.whitening(), compute_uv=False)
    before = np.linalg.svd(within, compute_uv=False)
    # A tenth of the mean variance is added to each: some of the difference stays.
    assert spread.max() / spread.min() < 1.7 < 5 < before.max() / before.min()


def test_cells_are_most_like_those_of_their_own_microscope(here: Microscope) -> None:
    rng = np.random.default_rng(8)
    x, labels = draw(rng, 200, shift=3)
    there = fit_microscope("there", x, labels, draw(rng, 100, shift=3)[0])
    assert most_like(draw(rng, 4, shift=3)[0], [here, there]).name == "there"
    assert most_like(draw(rng, 4)[0], [here, there]).name == "here"
