import numpy as np
import pytest

from edgecell.image.peaks import refined_peak


@pytest.mark.parametrize("top", [3.0, 3.2, 2.6, 3.5])
def test_the_top_of_a_parabola_is_found_exactly(top: float) -> None:
    curve = 5 - 2 * (np.arange(7) - top) ** 2
    assert refined_peak(curve, int(np.argmax(curve))) == pytest.approx(top)


def test_at_an_end_or_on_a_plateau_it_is_the_sample_itself() -> None:
    assert refined_peak(np.array([3.0, 2, 1]), 0) == 0
    assert refined_peak(np.array([1.0, 2, 3]), 2) == 2
    assert refined_peak(np.array([2.0, 2, 2]), 1) == 1
