"""Folds of a source's cells, for cross-validation."""

import re
from dataclasses import dataclass, replace

from edgecell.data.pack import Pack
from edgecell.errors import InputError
from edgecell.files import several


@dataclass(frozen=True)
class Fold:
    """A part of a source's cells that is kept out of training, to test by.

    Attributes:
        source: the source.
        part: which part, from 1 on.
        parts: number of parts.
    """

    source: str
    part: int
    parts: int

    def __post_init__(self) -> None:
        if not (self.source and 1 <= self.part <= self.parts and self.parts > 1):
            raise ValueError(f"'{self}' is no part of a source, such as 'own=1/5'")

    def __str__(self) -> str:
        return f"{self.source}={self.part}/{self.parts}"

    @classmethod
    def parse(cls, text: str) -> "Fold":
        """Inverse of `str`.

        Raises:
            ValueError: the text says no such thing.
        """
        found = re.fullmatch(r"(.+)=(\d+)/(\d+)", text)
        if not found:
            raise ValueError(f"'{text}' is no part of a source, such as 'own=1/5'")
        return cls(found[1], int(found[2]), int(found[3]))


def folded(pack: Pack, fold: Fold) -> Pack:
    """Gives one part of a source's cells to test by, and all its others to train on.

    The parts have equally many of each set of classes, to within one cell; hashes
    decide, so that they are the same in every order of the cells.

    Raises:
        InputError: there is no such source, or the part has no cell.
    """
    own = [i for i, source in enumerate(pack.sources) if source == fold.source]
    own.sort(key=lambda i: (pack.sets[i].tobytes(), pack.hashes[i]))
    if len(own) < fold.parts:
        raise InputError(
            f"{several(len(own), 'cell')} of {fold.source} can't be dealt into "
            f"{fold.parts} parts; sources are {', '.join(sorted(set(pack.sources)))}"
        )
    splits = list(pack.splits)
    for place, i in enumerate(own):
        splits[i] = "test" if place % fold.parts == fold.part - 1 else "train"
    return replace(pack, splits=tuple(splits))
