"""The twelve cell classes of the paper and the names that folders give them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecell.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class CellClass:
    """One class: the paper's code and the English name."""

    code: str
    name: str


CLASSES: tuple[CellClass, ...] = (
    CellClass("BA", "basophil"),
    CellClass("BNE", "band neutrophil"),
    CellClass("EO", "eosinophil"),
    CellClass("ERB", "erythroblast"),
    CellClass("LY", "lymphocyte"),
    CellClass("MMY", "metamyelocyte"),
    CellClass("MO", "monocyte"),
    CellClass("MY", "myelocyte"),
    CellClass("MYE", "myeloblast"),
    CellClass("PLT", "platelet"),
    CellClass("PMY", "promyelocyte"),
    CellClass("SNE", "segmented neutrophil"),
)
# Neighbours in one line of maturation that laboratories report together: experts
# themselves disagree on where one ends.
GROUPS: dict[str, tuple[str, ...]] = {
    "neutrophils": ("BNE", "SNE"),
    "immature granulocytes": ("MMY", "MY", "PMY"),
}
CODES: tuple[str, ...] = tuple(c.code for c in CLASSES)
# Not white cells: outside the denominator of a differential.
ERYTHROBLAST = "ERB"
PLATELET = "PLT"
# Labels of data sets that don't tell the classes of a group apart.
GROUP_CODES: dict[str, tuple[str, ...]] = {
    "NEU": GROUPS["neutrophils"],
    "IG": GROUPS["immature granulocytes"],
}
GROUP_NAMES: dict[str, str] = {"neutrophil": "NEU", "immature granulocyte": "IG"}
SEPARATOR = "|"
# What people name that is none of the classes.
NOT_A_CELL = "not a cell"
OTHER = "other"


def _key(name: str) -> str:
    """Folds case, separators and a plural s: 'Band_Neutrophils' -> 'bandneutrophil'."""
    folded = "".join(ch for ch in name.lower() if ch.isalnum())
    return folded[:-1] if folded.endswith("s") and len(folded) > 3 else folded


_BY_KEY = {_key(n): c.code for c in CLASSES for n in (c.code, c.name)}


def code_of(name: str) -> str | None:
    """The class code that a folder name stands for.

    Args:
        name: a code or an English name, in any case, singular or plural, with
            spaces, hyphens or underscores.

    Returns:
        One of ``CODES``, or None if the name is not a known class.
    """
    return _BY_KEY.get(_key(name))


_GROUP_BY_KEY = {_key(n): n for n in GROUP_CODES} | {
    _key(name): code for name, code in GROUP_NAMES.items()
}


def label_of(name: str) -> str | None:
    """The label that a folder name stands for: one class, or a set of classes.

    A set means that the cell belongs to one of its classes and the data do not say
    to which. Equal sets give equal labels: 'NEU', 'neutrophils' and 'SNE|BNE' are all
    'BNE|SNE'.

    Args:
        name: what `code_of` takes, a key of `GROUP_CODES` or its English name, or
            several of these joined by '|'.

    Returns:
        Codes in the order of ``CODES``, joined by '|', or None if any part of the
        name is unknown.
    """
    found: set[str] = set()
    for part in name.split(SEPARATOR):
        code = code_of(part)
        group = _GROUP_BY_KEY.get(_key(part))
        if code is not None:
            found.add(code)
        elif group is not None:
            found.update(GROUP_CODES[group])
        else:
            return None
    return SEPARATOR.join(code for code in CODES if code in found)


def common_label(labels: Iterable[str]) -> str | None:
    """The classes that all of some labels allow; None if they contradict one another.

    Args:
        labels: what `label_of` returned; at least one.
    """
    allowed = set.intersection(*(set(label.split(SEPARATOR)) for label in labels))
    return SEPARATOR.join(code for code in CODES if code in allowed) or None


def parse_label(text: str, codes: Sequence[str] = CODES) -> tuple[int, ...]:
    """The class indices that a label stands for.

    Args:
        text: anything that `label_of` knows.
        codes: class codes in the order of the indices, such as a model's.

    Returns:
        One index for a class, several for a set, ascending in the order of ``CODES``.

    Raises:
        InputError: the label, or one of its classes in ``codes``, is unknown.
    """
    label = label_of(text)
    parts = label.split(SEPARATOR) if label else []
    if not parts or any(code not in codes for code in parts):
        raise InputError(
            f"'{text}' is not a class; known classes are {', '.join(codes)}, their "
            f"English names, the groups {' and '.join(GROUP_CODES)}, and sets such as "
            "BNE|SNE"
        )
    return tuple(codes.index(code) for code in parts)


def label_matrix(
    texts: Sequence[str], codes: Sequence[str] = CODES
) -> "npt.NDArray[np.bool_]":
    """Labels as sets of classes.

    Args:
        texts: N labels.
        codes: C class codes.

    Returns:
        bool (N, C), true for each class that a cell may belong to; at least one in
        each row.

    Raises:
        InputError: see `parse_label`.
    """
    import numpy as np

    sets = np.zeros((len(texts), len(codes)), bool)
    for row, text in zip(sets, texts, strict=True):
        row[list(parse_label(text, codes))] = True
    return sets
