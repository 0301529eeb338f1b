from collections.abc import Callable

import cv2
import numpy as np
import pytest

from edgecell.data.near_duplicates import (
    SAME,
    Pair,
    descriptors,
    detail_similarity,
    groups,
    near_duplicates,
    orientations,
    thumbnail,
)
from tests.factories import draw_cell

Change = Callable[[np.ndarray], np.ndarray]


def picture(seed: int, code: str = "EO") -> np.ndarray:
    return np.asarray(draw_cell(np.random.default_rng(seed), code), np.uint8)


def saved_again(image: np.ndarray) -> np.ndarray:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


CHANGES: dict[str, Change] = {
    "brighter": lambda x: np.minimum(x * 1.02 + 1, 255).astype(np.uint8),
    "darker": lambda x: (x * 0.6).astype(np.uint8),
    "saved again": saved_again,
    "larger": lambda x: np.asarray(cv2.resize(x, (144, 144)), np.uint8),
    "shifted": lambda x: np.roll(x, (2, 2), (0, 1)),
}


def test_orientations_are_the_eight_of_a_square() -> None:
    square = np.array([[1, 2], [3, 4]])
    eight = orientations(square)
    assert np.array_equal(eight[0], square)
    assert eight[1].tolist() == [[2, 4], [1, 3]]
    assert len({o.tobytes() for o in eight}) == 8


@pytest.mark.parametrize("k", range(8))
@pytest.mark.parametrize("name", CHANGES)
def test_copies_are_found_in_every_orientation(name: str, k: int) -> None:
    image = picture(1)
    turned = np.moveaxis(orientations(np.moveaxis(image, 2, 0))[k], 0, 2)
    copy = CHANGES[name](np.ascontiguousarray(turned).astype(np.uint8))
    (pair,) = near_duplicates([thumbnail(picture(2)), *map(thumbnail, (image, copy))])
    assert (pair.first, pair.second) == (1, 2)
    assert pair.similarity >= SAME


def test_the_order_of_two_copies_does_not_matter() -> None:
    a, b = thumbnail(picture(1)), thumbnail(saved_again(np.rot90(picture(1)).copy()))
    (one,), (other,) = near_duplicates([a, b]), near_duplicates([b, a])
    assert one.similarity == pytest.approx(other.similarity, abs=0.05)


def test_look_alikes_are_not_copies() -> None:
    # The same drawing with other noise: large shapes agree almost perfectly.
    look_alikes = [thumbnail(picture(seed)) for seed in range(30)]
    assert near_duplicates(look_alikes) == []


def test_many_copies_of_one_are_one_group() -> None:
    image = thumbnail(picture(1))
    pictures = [image, thumbnail(picture(2)), *[image] * 40]
    pairs = near_duplicates(pictures)
    assert groups(len(pictures), pairs) == [[0, *range(2, 42)]]


def test_plain_and_few_pictures() -> None:
    plain = np.full((64, 64), 200, np.uint8)
    assert not descriptors([plain]).any()
    assert near_duplicates([plain, plain]) == []
    assert near_duplicates([]) == []
    assert near_duplicates([thumbnail(picture(1))]) == []
    assert detail_similarity(plain, plain) == 0


def test_descriptors_are_standardised_whatever_the_brightness() -> None:
    image = thumbnail(picture(3))
    a, b = descriptors([image, (image * 0.5).astype(np.uint8)])
    assert a.mean() == pytest.approx(0, abs=1e-6)
    assert (a * a).sum() == pytest.approx(1, abs=1e-5)
    assert (a * b).sum() > 0.99


def test_thumbnails_show_the_central_square() -> None:
    image = np.zeros((40, 100, 3), np.uint8)
    image[:, 30:70] = 255
    assert thumbnail(image).tolist() == np.full((64, 64), 255).tolist()


def test_groups_join_pairs_that_share_a_picture() -> None:
    pairs = [Pair(0, 3, 1.0), Pair(2, 3, 1.0), Pair(4, 5, 1.0)]
    assert groups(7, pairs) == [[0, 2, 3], [4, 5]]
    assert groups(2, []) == []
