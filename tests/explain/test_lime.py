import numpy as np
import pytest

from edgecell.explain import lime_method
from edgecell.explain.lime_method import (
    balanced_design,
    distances,
    fit,
    jaccard,
    lime,
    observe,
    stability,
    top_segments,
)
from edgecell.explain.perturb import Hider, log_odds
from edgecell.model.probabilities import softmax
from tests.explain.stand_ins import effects_of, striped


def test_log_odds_of_a_class() -> None:
    logits = np.array([[1.0, 2.0, -1.0], [300.0, 0.0, 0.0]], np.float32)
    p = softmax(logits[:1], 1.0)[0, 1]
    assert log_odds(logits[:1], 1)[0] == pytest.approx(np.log(p / (1 - p)))
    assert log_odds(logits[1:], 0)[0] == pytest.approx(300 - np.log(2))


def test_hidden_segments_are_flat_and_the_others_untouched() -> None:
    image, segments = striped()
    model = effects_of(segments, np.ones(6))
    hider = Hider(model, image, segments, 0)
    kept = np.ones((3, 6), np.bool_)
    kept[1, 2] = False
    kept[2] = False
    whole, one, none = hider.images(kept)
    assert (whole == image).all()
    assert (one[:, segments[0] == 2] == 100).all()
    assert (one[:, segments[0] != 2] == image[:, segments[0] != 2]).all()
    assert (none == 100).all()
    assert hider(kept).tolist() == [6, 5, 0]
    assert hider.evaluations == 3
    faded = Hider(model, image, segments, 0, strength=0.5).images(~kept[:1])
    assert (faded[0, :12] == 80).all()  # half-way from 60 to 100
    assert (faded[0, 12:] == 120).all()


@pytest.mark.parametrize("count", [1, 3, 31, 42, 60])
def test_the_design_is_balanced(count: int) -> None:
    rows = balanced_design(count, np.random.default_rng(0))
    order = 1 << count.bit_length()
    assert rows.shape == (2 * order, count)
    assert (rows[::2] == ~rows[1::2]).all()
    together = rows.T.astype(int) @ rows
    assert (np.diag(together) == order).all()
    assert (together[~np.eye(count, dtype=bool)] == order // 2).all()


def test_the_fit_is_the_lime_packages_own() -> None:
    from lime.lime_image import LimeImageExplainer
    from sklearn.metrics import pairwise_distances

    image, segments = striped()
    classifier = effects_of(segments, np.array([3.0, -2, 1, 0.5, 0, -0.2]))
    explainer = LimeImageExplainer(random_state=0)
    samples = []
    draw = explainer.data_labels

    def recorded(*args: object, **kwargs: object) -> object:
        samples.append(draw(*args, **kwargs))
        return samples[0]

    explainer.data_labels = recorded
    made = explainer.explain_instance(
        image,
        lambda images: log_odds(classifier.logits(images), 0)[:, None],
        labels=(0,),
        top_labels=None,
        num_samples=100,
        segmentation_fn=lambda _: segments,
    )
    data, values = samples[0]
    weights, r2 = fit(data > 0, values[:, 0])
    assert dict(made.local_exp[0]) == pytest.approx(dict(enumerate(weights)), abs=1e-9)
    assert r2 == pytest.approx(made.score)
    cosine = pairwise_distances(data, data[:1], metric="cosine").ravel()
    assert distances(data > 0) == pytest.approx(cosine)


def test_additive_effects_are_found_and_settle_at_once() -> None:
    effects = np.array([4.0, -3, 2, 0, 0, 1])
    image, segments = striped()
    hider = Hider(effects_of(segments, effects), image, segments, 0)
    kept, values = observe(hider, seed=0)
    assert len(kept) == 161  # the whole cell, 128, and 32 that change nothing
    weights, r2 = fit(kept, values)
    assert weights == pytest.approx(effects, abs=0.3)  # ridge shrinks
    assert r2 > 0.99
    top = np.argsort(-np.abs(effects), kind="stable")[:4]
    assert set(top) <= top_segments(weights)
    assert stability(kept, values, 0) > 0.6


def test_it_goes_on_while_the_top_changes_but_not_for_ever() -> None:
    image, segments = striped()
    rng = np.random.default_rng(0)

    class Noise(Hider):
        def __call__(self, kept: np.ndarray) -> np.ndarray:
            super().__call__(kept)
            return rng.normal(size=len(kept))

    hider = Noise(effects_of(segments, np.ones(6)), image, segments, 0)
    kept, values = observe(hider, seed=0)
    assert 161 <= len(kept) <= 257
    assert hider.evaluations == len(kept) == len(values)


def test_one_seed_gives_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    image, segments = striped()
    monkeypatch.setattr(lime_method, "cell_segments", lambda _: segments)
    effects = np.array([1.0, -1, 2, 0.1, 0, 0])
    classifier = effects_of(segments, effects)
    (one, scores), (two, _) = (lime(classifier, image, 0, seed=3) for _ in range(2))
    assert (one == two).all()
    assert one[0] == pytest.approx(effects[segments[0]], abs=0.2)
    assert scores["evaluations"] == 161
    assert 0 <= scores["top5_stability"] <= 1
    assert (lime(classifier, image, 0, seed=4)[0] != one).any()


def test_jaccard_by_hand() -> None:
    # 1/3, 1/3 and 1.
    assert jaccard([{1, 2}, {2, 3}, {2, 3}]) == pytest.approx((1 / 3 + 1 / 3 + 1) / 3)
