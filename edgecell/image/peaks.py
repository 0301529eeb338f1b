"""Where a sampled curve is highest, between its samples."""

import numpy as np
import numpy.typing as npt


def refined_peak(curve: npt.NDArray[np.number], index: int) -> float:
    """The place of a maximum, refined by the parabola through its neighbours.

    Args:
        curve: float (N,), samples at 0, 1, ...
        index: of the highest sample.

    Returns:
        Within half a sample of ``index``; ``index`` itself at either end.
    """
    if not 0 < index < len(curve) - 1:
        return float(index)
    before, here, after = (float(value) for value in curve[index - 1 : index + 2])
    bend = before - 2.0 * here + after
    return index + (0.5 * (before - after) / bend if bend < 0 else 0.0)
