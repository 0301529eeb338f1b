import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from edgecell.train.job.judge import attribute_accuracy
from edgecell.train.job.loss import (
    attribute_loss,
    partial_label_loss,
    teacher_loss,
    together,
)


def test_worked_by_hand() -> None:
    # Probabilities 1/2, 1/4, 1/4 from logits ln 2, 0, 0.
    logits = torch.tensor([[math.log(2), 0.0, 0.0]] * 3)
    sets = torch.tensor([[True, False, False], [True, True, False], [True, True, True]])
    found = partial_label_loss(logits, sets, 0.0)
    expected = [math.log(2), math.log(4 / 3), 0.0]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    # Smoothing by 0.3 adds 0.3 of the mean of -log p: (ln 2 + 2 ln 4) / 3.
    spread = 0.3 * 5 * math.log(2) / 3
    smooth = partial_label_loss(logits, sets, 0.3)
    assert smooth.tolist() == pytest.approx(
        [0.7 * e + spread for e in expected], abs=1e-6
    )


def test_of_single_classes_it_is_cross_entropy() -> None:
    rng = torch.Generator().manual_seed(1)
    logits = torch.randn(20, 12, generator=rng)
    classes = torch.randint(0, 12, (20,), generator=rng)
    sets = torch.nn.functional.one_hot(classes, 12).bool()
    expected = torch.nn.functional.cross_entropy(
        logits, classes, label_smoothing=0.1, reduction="none"
    )
    found = partial_label_loss(logits, sets, 0.1)
    assert np.allclose(found, expected, atol=1e-6)


def test_it_has_a_gradient_where_the_set_is_certain_and_where_it_is_absurd() -> None:
    logits = torch.tensor([[80.0, -80.0, 0.0], [-80.0, 80.0, 0.0]], requires_grad=True)
    sets = torch.tensor([[True, False, True], [True, False, False]])
    partial_label_loss(logits, sets, 0.0).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].tolist() == pytest.approx([-1.0, 1.0, 0.0], abs=1e-5)


def test_the_loss_of_attributes_by_hand() -> None:
    # Two attributes of 2 and 3 values; the second cell's last one is unknown.
    logits = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0], [0.0, math.log(3.0), 9, 0, 0]])
    values = torch.tensor([[1, 2], [1, -1]])
    loss = attribute_loss(logits, values, (2, 3))
    first = (math.log(2) + math.log(3)) / 2
    assert loss.tolist() == pytest.approx([first, -math.log(0.75) / 2])


def test_the_accuracy_of_attributes_counts_known_ones_alone() -> None:
    logits = np.array([[0, 1, 2, 0, 0], [1, 0, 0, 0, 5], [0, 1, 0, 3, 0]], np.float32)
    values = np.array([[1, 0], [-1, 1], [0, 1]], np.int8)
    assert attribute_accuracy(logits, values, (2, 3)) == [1 / 2, 2 / 3]


def test_a_teachers_probabilities_are_labels() -> None:
    taught = torch.log(torch.tensor([[0.75, 0.25], [0.5, 0.5]]))
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.8, 0.2]]))
    expected = [-math.log(0.5), -0.5 * math.log(0.8 * 0.2)]
    assert teacher_loss(logits, taught).tolist() == pytest.approx(expected)


def test_several_teachers_probabilities_are_multiplied() -> None:
    # sqrt(0.8 * 0.2) = 0.4 and sqrt(0.1 * 0.4) = 0.2 twice, which add up to 0.8.
    each = [[0.8, 0.1, 0.1], [0.2, 0.4, 0.4]]
    logits = together([torch.log(torch.tensor([p])) for p in each])
    assert torch.softmax(logits, 1)[0].tolist() == pytest.approx([0.5, 0.25, 0.25])
