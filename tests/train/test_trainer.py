import math

import numpy as np
import pytest

from edgecell.train.order import epoch_order, set_keys


def test_the_loss_of_sets_worked_by_hand() -> None:
    import tensorflow as tf

    from edgecell.train.trainer import partial_label_loss

    # Probabilities 1/2, 1/4, 1/4 from logits ln 2, 0, 0.
    logits = tf.constant([[math.log(2), 0.0, 0.0]] * 3)
    sets = tf.constant([[True, False, False], [True, True, False], [True, True, True]])
    expected = [math.log(2), math.log(4 / 3), 0.0]
    plain = partial_label_loss(logits, sets, 0.0).numpy()
    assert plain == pytest.approx(expected, abs=1e-6)
    # Smoothing by 0.3 adds 0.3 of the mean of -log p: (ln 2 + 2 ln 4) / 3.
    spread = 0.3 * 5 * math.log(2) / 3
    smooth = partial_label_loss(logits, sets, 0.3).numpy()
    assert smooth == pytest.approx([0.7 * e + spread for e in expected], abs=1e-6)


def test_the_loss_of_one_class_is_cross_entropy_with_a_gradient() -> None:
    import tensorflow as tf

    from edgecell.train.trainer import partial_label_loss

    rng = np.random.default_rng(1)
    logits = tf.Variable(rng.normal(size=(20, 12)) * 30, dtype=tf.float32)
    one_hot = tf.one_hot(rng.integers(0, 12, 20), 12)
    target = one_hot * 0.9 + 0.1 / 12
    with tf.GradientTape(persistent=True) as tape:
        expected = tf.nn.softmax_cross_entropy_with_logits(target, logits)
        found = partial_label_loss(logits, one_hot > 0, 0.1)
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-5)
    ours, theirs = tape.gradient(found, logits), tape.gradient(expected, logits)
    assert ours.numpy() == pytest.approx(theirs.numpy(), abs=1e-5)


def test_sets_are_numbered_in_the_order_of_their_classes() -> None:
    sets = np.zeros((5, 12), bool)
    for row, members in zip(sets, [[3], [1, 11], [0], [3], [1]], strict=True):
        row[members] = True
    assert set_keys(sets).tolist() == [2, 3, 0, 2, 1]
    order = epoch_order(set_keys(sets), 1.0, 40, 1, 0)
    assert np.bincount(order, minlength=5).tolist() == [5, 10, 10, 5, 10]
