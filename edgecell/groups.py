"""Joins what is pairwise the same into groups."""

from collections.abc import Iterable


def joined(size: int, pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Joins places that are the same, if only by way of a third.

    Args:
        size: number of places.
        pairs: which of them are the same.

    Returns:
        Groups, each in ascending order, by their first place; also those of one.
    """
    root = list(range(size))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        root[high] = low
    members: dict[int, list[int]] = {}
    for i in range(size):
        members.setdefault(find(i), []).append(i)
    return list(members.values())
