import numpy as np
import pytest

from edgecell.train.order import epoch_order

LABELS = np.repeat(np.array([0, 1, 2], np.int32), [10, 40, 160])


@pytest.mark.parametrize(
    ("balance", "counts"),
    [
        (0.0, [10, 40, 160]),
        (1.0, [70, 70, 70]),
        # Square roots 3.162, 6.325, 12.649 share out 210 as 30, 60, 120.
        (0.5, [30, 60, 120]),
    ],
)
def test_class_shares(balance: float, counts: list[int]) -> None:
    order = epoch_order(LABELS, balance, len(LABELS), seed=1, epoch=0)
    assert np.bincount(LABELS[order]).tolist() == counts


def test_images_of_a_class_are_seen_equally_often() -> None:
    order = epoch_order(LABELS, 1.0, len(LABELS), seed=1, epoch=0)
    seen = np.bincount(order, minlength=len(LABELS))
    assert set(seen[LABELS == 0]) == {7}
    assert set(seen[LABELS == 1]) == {1, 2}
    assert set(seen[LABELS == 2]) == {0, 1}


def test_seed_and_epoch_fix_the_order() -> None:
    first = epoch_order(LABELS, 0.5, len(LABELS), 1, 0)
    assert np.array_equal(first, epoch_order(LABELS, 0.5, len(LABELS), 1, 0))
    assert not np.array_equal(first, epoch_order(LABELS, 0.5, len(LABELS), 1, 1))
    assert not np.array_equal(first, epoch_order(LABELS, 0.5, len(LABELS), 2, 0))


def test_an_epoch_may_be_larger_than_the_split() -> None:
    order = epoch_order(LABELS, 1.0, 600, seed=1, epoch=0)
    assert np.bincount(LABELS[order]).tolist() == [200, 200, 200]
    seen = np.bincount(order, minlength=len(LABELS))
    assert set(seen[LABELS == 0]) == {20}
    assert set(seen[LABELS == 2]) == {1, 2}
