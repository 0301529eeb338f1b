"""The losses: of labels that are sets of classes, of attributes, and of a teacher."""

from collections.abc import Sequence

import torch
from torch.nn import functional


def partial_label_loss(
    logits: torch.Tensor, sets: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """-log of the probability that a cell is of one of its classes, smoothed.

    For sets of one class this is cross-entropy with label smoothing.

    Args:
        logits: float32 (N, C).
        sets: bool (N, C), at least one class in each row.
        smoothing: share of the label that is spread over all classes, in [0, 1).

    Returns:
        float32 (N,).
    """
    log_p = torch.log_softmax(logits, 1)
    inside = log_p.masked_fill(~sets, float("-inf")).logsumexp(1)
    return -(1 - smoothing) * inside - smoothing * log_p.mean(1)


def attribute_loss(
    logits: torch.Tensor, values: torch.Tensor, sizes: Sequence[int]
) -> torch.Tensor:
    """Cross-entropy of the attributes, where they are known.

    Args:
        logits: float32 (N, V), the attributes' logits side by side.
        values: int64 (N, A), indices of their values, -1 where unknown.
        sizes: A numbers of values, V together.

    Returns:
        float32 (N,), the mean over the attributes; an unknown one adds 0.
    """
    each = [
        functional.cross_entropy(part, values[:, i], ignore_index=-1, reduction="none")
        for i, part in enumerate(logits.split(list(sizes), 1))
    ]
    return torch.stack(each, 1).mean(1)


def teacher_loss(logits: torch.Tensor, taught: torch.Tensor) -> torch.Tensor:
    """Cross-entropy against the probabilities of a teacher.

    Args:
        logits: float32 (N, C).
        taught: float32 (N, C), the teacher's logits.

    Returns:
        float32 (N,).
    """
    return -(torch.softmax(taught, 1) * torch.log_softmax(logits, 1)).sum(1)


def together(logits: Sequence[torch.Tensor]) -> torch.Tensor:
    """Logits of several teachers' probabilities, multiplied.

    Their geometric mean, as Hinton et al. (Distilling the Knowledge in a Neural
    Network, 2015, section 1) have it, is the softmax of their mean logits.

    Args:
        logits: at least one (N, C), of any floating type.

    Returns:
        float32 (N, C).
    """
    return torch.stack([each.float() for each in logits]).mean(0)
