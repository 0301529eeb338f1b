"""Attributes that people gave to cells, from a table."""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol

from edgecell.errors import InputError
from edgecell.files import read_bounded

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

logger = logging.getLogger(__name__)

IMAGE_COLUMN = "img_name"
UNKNOWN = -1
_LARGEST = 2**28
_MOST_VALUES = 20


class NamedImage(Protocol):
    """An image with its name and the hash of its bytes."""

    @property
    def name(self) -> str:
        """A path, or 'archive.zip:member'."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of the file's bytes, hexadecimal."""
        ...


@dataclass(frozen=True)
class Attribute:
    """One attribute and the values that it can take, such as 'nucleus_shape'."""

    name: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.values) < 2 or len(set(self.values)) != len(self.values):
            raise ValueError(f"{self.name} must have two or more different values")


@dataclass(frozen=True)
class AttributeTable:
    """Attributes of images by their file names.

    Attributes:
        attributes: A attributes.
        images: by file name, the index of each attribute's value, or `UNKNOWN`.
    """

    attributes: tuple[Attribute, ...]
    images: Mapping[str, tuple[int, ...]]

    def of(self, files: Sequence[NamedImage]) -> "npt.NDArray[np.int8]":
        """The attributes of some images.

        Args:
            files: N images. A file name that several of them have, with different
                contents, identifies none of them.

        Returns:
            int8 (N, A), indices of values, `UNKNOWN` where the table has none.
        """
        import numpy as np

        contents: dict[str, str] = {}
        twice: set[str] = set()
        names = [PurePath(f.name.rpartition(":")[2]).name for f in files]
        for name, file in zip(names, files, strict=True):
            if contents.setdefault(name, file.sha256) != file.sha256:
                twice.add(name)
        for name in sorted(twice & self.images.keys()):
            logger.warning("left without attributes: several images are named %s", name)
        none = (UNKNOWN,) * len(self.attributes)
        rows = [none if n in twice else self.images.get(n, none) for n in names]
        return np.array(rows, np.int8).reshape(len(files), len(self.attributes))


def read_attributes(path: Path) -> AttributeTable:
    """Reads a table of attributes.

    Args:
        path: a CSV file with a column ``img_name``, the images' file names; every other
            column is an attribute. An empty field is an unknown value.

    Raises:
        InputError: it can't be read, has no such column or no attribute, names an image
            twice, or a column has a single value or so many that it is no attribute.
    """
    content = read_bounded(path, _LARGEST)
    try:
        file = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = list(csv.DictReader(file, strict=True))
    except (UnicodeDecodeError, csv.Error) as e:
        raise InputError(f"{path} is not a readable table of attributes ({e})") from e
    names = [name for name in (rows[0] if rows else {}) if name != IMAGE_COLUMN]
    if not names or IMAGE_COLUMN not in rows[0]:
        raise InputError(
            f"{path} has no column '{IMAGE_COLUMN}' with file names, or no attribute "
            "beside it"
        )
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path}: a line has more or fewer fields than the first line")
    attributes = tuple(_attribute(path, n, [row[n] for row in rows]) for n in names)
    images: dict[str, tuple[int, ...]] = {}
    for row in rows:
        found = tuple(
            a.values.index(row[a.name]) if row[a.name] else UNKNOWN for a in attributes
        )
        if images.setdefault(row[IMAGE_COLUMN], found) != found:
            raise InputError(
                f"{path} names {row[IMAGE_COLUMN]} twice, with different attributes"
            )
    return AttributeTable(attributes, images)


def _attribute(path: Path, name: str, values: Sequence[str]) -> Attribute:
    different = tuple(sorted(set(values) - {""}))
    if not 2 <= len(different) <= _MOST_VALUES:
        raise InputError(
            f"{path}: different values in column {name}: {len(different)}; an "
            f"attribute has 2 to {_MOST_VALUES}"
        )
    return Attribute(name, different)
