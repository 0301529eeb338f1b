"""The loss of labels that are sets of classes."""

import torch


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


def set_accuracy(logits: torch.Tensor, sets: torch.Tensor) -> torch.Tensor:
    """Share of the cells that are called by a class of their set: float32 ()."""
    called = logits.argmax(1, keepdim=True)
    return sets.gather(1, called).float().mean()
