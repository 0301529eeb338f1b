"""The order in which training images are seen."""

import numpy as np
import numpy.typing as npt


def set_keys(sets: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Numbers the different sets of classes.

    Args:
        sets: bool (N, C).

    Returns:
        int32 (N,); equal for equal sets, from 0. Sets of one class keep the order of
        their classes.
    """
    bits = sets @ (1 << np.arange(sets.shape[1], dtype=np.int64))
    return np.asarray(np.unique(bits, return_inverse=True)[1], np.int32)


def epoch_order(
    labels: npt.NDArray[np.int32], balance: float, size: int, seed: int, epoch: int
) -> npt.NDArray[np.int64]:
    """Draws the images of one epoch.

    Each class takes a share in proportion to (its size)^(1 - balance), filled with
    whole permutations of its images, so that none is seen k + 2 times while
    another of its class is seen k times.

    Args:
        labels: int32 (N,), numbers of classes, or of sets of classes.
        balance: 0 for the classes as they come, 1 for equal classes.
        size: number of images to draw.
        seed: of the run.
        epoch: number of the epoch; with the seed it fixes the order.

    Returns:
        int64 (size,), indices of images.
    """
    rng = np.random.default_rng([seed, epoch])
    classes, sizes = np.unique(labels, return_counts=True)
    shares = sizes ** (1.0 - balance)
    ends = np.rint(np.cumsum(shares) / shares.sum() * size).astype(int)
    chosen = []
    for label, count in zip(classes, np.diff(ends, prepend=0), strict=True):
        members = np.flatnonzero(labels == label)
        rounds = -(-count // len(members))
        drawn = [rng.permutation(members) for _ in range(rounds)]
        chosen.append(np.concatenate(drawn)[:count] if drawn else members[:0])
    return rng.permutation(np.concatenate(chosen))
