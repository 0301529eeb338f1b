import numpy as np
import pytest

from edgecell.explain import shap_method
from edgecell.explain.shap_method import kernel_shap, partition_shap
from edgecell.image.preprocess import Rgb
from tests.explain.stand_ins import classifier_of, effects_of, striped


def test_kernel_shap_of_a_game_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    image, segments = striped(stripes=3)
    monkeypatch.setattr(shap_method, "cell_segments", lambda _: segments)

    def score(images: np.ndarray) -> np.ndarray:
        there = images[:, 0, :: 24 // 3, 0] == 60
        # 2 for the first stripe, and 3 if it and the last are there.
        return np.asarray(2.0 * there[:, 0] + 3.0 * (there[:, 0] & there[:, 2]))

    heat, scores = kernel_shap(classifier_of(score), image, 0, seed=0)
    # The pair's 3 is shared by the two: 2 + 1.5, 0 and 1.5.
    assert heat[0, ::8] == pytest.approx([3.5, 0, 1.5], abs=1e-4)
    assert scores["efficiency"] < 1e-4


def test_kernel_shap_is_seeded_and_leaves_numpys_generator_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, segments = striped(side=48, stripes=24)
    monkeypatch.setattr(shap_method, "cell_segments", lambda _: segments)
    effects = np.random.default_rng(0).normal(size=24)
    classifier = effects_of(segments, effects)
    before = str(np.random.get_state())
    (one, scores), (two, _) = (kernel_shap(classifier, image, 0, 5) for _ in range(2))
    assert str(np.random.get_state()) == before
    assert (one == two).all()
    assert one[0] == pytest.approx(effects[segments[0]], abs=1e-3)
    assert scores["efficiency"] < 1e-4
    assert 256 <= scores["evaluations"] <= 270


def test_partition_shap_puts_the_value_where_it_is() -> None:
    image = Rgb(np.full((32, 32, 3), 200, np.uint8))
    image[:16, :16] = 40

    def score(images: np.ndarray) -> np.ndarray:
        return np.asarray((200 - images[:, :16, :16]).mean((1, 2, 3)) / 10)

    heat, scores = partition_shap(classifier_of(score), image, 0, seed=0)
    assert scores["efficiency"] < 1e-3
    assert heat[:16, :16].sum() == pytest.approx(heat.sum(), rel=0.02)
    assert heat.sum() > 1
