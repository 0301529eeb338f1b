"""Labelled cell images on disk: folders or zip files, one directory a class."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Literal

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from edgecell.classes import (
    CODES,
    GROUP_CODES,
    SEPARATOR,
    common_label,
    label_matrix,
    label_of,
)
from edgecell.data.members import open_files
from edgecell.errors import InputError
from edgecell.files import printable, several
from edgecell.image.decode import decode as decode_bgr
from edgecell.image.preprocess import Image, Preprocessing, Rgb, cell_image, to_rgb

logger = logging.getLogger(__name__)

Split = Literal["train", "val", "test"]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
OTHER_SUFFIXES = (
    *(".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".dng", ".raw", ".cr2"),
    *(".nef", ".arw", ".dcm", ".svs", ".ndpi", ".mrxs", ".scn", ".czi", ".vsi"),
    *(".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"),
)
SPLIT_SEED = 2025
TEST_SHARE = 0.2
VAL_SHARE = 0.1
# Public sets come with folders for a split of their own, or of several classes that
# the file names tell apart (NGS: neutrophil granulocyte, segmented).
SPLIT_FOLDERS = ("train", "val", "valid", "validation", "test")
FILE_PREFIXES = {c: c for c in CODES} | {"PLATELET": "PLT", "MYO": "MYE", "NGS": "SNE"}
_NUMBERED = re.compile(r"([A-Z]+)_\d")
_SLIDE = re.compile(r"[at]_(\d+(?:-\d+)*)_")
"""Raabin-WBC's names: the part, then the slide, or of basophils the day."""


@dataclass(frozen=True)
class CellFile:
    """One labelled image.

    Attributes:
        name: where it came from, for messages: a path, or 'archive.zip:member'.
        code: class code, or a set of codes such as 'BNE|SNE' where the data do not
            tell them apart (see `label_of`).
        source: the data set it belongs to: the directory above its class's, or
            the folder's or archive's own name; never 'train', 'val' or 'test'.
        sha256: hash of the file's bytes.
        data: the encoded bytes.
        assigned: the split that a manifest gives it; None leaves it to its content.
    """

    name: str
    code: str
    source: str
    sha256: str
    data: bytes
    assigned: Split | None = None

    @property
    def split(self) -> Split:
        """The part of the data that this image belongs to, for ever."""
        return self.assigned or split_of(self.sha256)

    @property
    def slide(self) -> str:
        """The slide that the file's name gives; '' if it gives none."""
        found = _SLIDE.match(PurePath(re.split("[/:]", self.name)[-1]).name)
        return found[1] if found else ""


@dataclass(frozen=True)
class Reading:
    """What lies below some folders.

    Attributes:
        files: the labelled images, each path once.
        unlabelled: names of images whose class is not known.
        unreadable: names of images that could not be read, each with the reason.
    """

    files: tuple[CellFile, ...]
    unlabelled: tuple[str, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def warn_of_unlabelled(self) -> None:
        """Warns in one line of the folders whose images are left out, with counts."""
        folders = Counter(re.split("[/:]", name)[-2] for name in self.unlabelled)
        if folders:
            each = ", ".join(
                f"{folder} ({n}{_advice(folder)})"
                for folder, n in sorted(folders.items())
            )
            logger.warning(
                "left out: %s in folders that name no known class: %s",
                several(len(self.unlabelled), "image"),
                each,
            )


def _advice(folder: str) -> str:
    """Advice on renaming a folder that is named after a group of classes."""
    label = label_of(folder)
    return f"; name it {label} if it holds these" if label else ""


def split_of(sha256: str) -> Split:
    """Assigns an image to a split by its content alone.

    A hash decides, so the split is the same on every machine, in every order, and
    no image moves when others are added or taken away. Each class of each source
    is split at the same rate, up to the draw (a binomial deviation of 1 to 2 points
    for 1,000 images).

    Args:
        sha256: hash of the file's bytes, hexadecimal.

    Returns:
        'test' for 20 %, 'val' for 10 %, 'train' for 70 % of all contents.
    """
    draw = hashlib.sha256(f"{SPLIT_SEED}:{sha256}".encode()).digest()
    u = int.from_bytes(draw[:8], "big") / 2**64
    if u < TEST_SHARE:
        return "test"
    return "val" if u < TEST_SHARE + VAL_SHARE else "train"


def decode(data: bytes, name: str) -> Rgb:
    """Decodes an image file, see `edgecell.image.decode`.

    Args:
        data: the encoded bytes.
        name: for the message.

    Returns:
        uint8 RGB (H, W, 3).

    Raises:
        InputError: the bytes are not an image, or a damaged one.
    """
    return to_rgb(decode_bgr(data, name))


def _label(path: PurePath) -> tuple[str | None, str]:
    """Label and source of an image, from its absolute path."""
    *above, folder = path.parts[:-1]
    label = label_of(folder)
    prefix = _NUMBERED.match(path.name)
    told = FILE_PREFIXES.get(prefix[1]) if prefix else None
    if label is None:
        label = told
        below_split = bool(above) and above[-1].lower() in SPLIT_FOLDERS
        if not below_split:
            above.append(folder)
    elif told in label.split(SEPARATOR):
        # In a folder of a group, such as IG, file names may tell the class.
        label = told
    elif SEPARATOR in label and folder != folder.upper():
        label = None  # 'neutrophil' may be a data set's name for SNE: ask for a code
    names = (name for name in reversed(above) if name.lower() not in SPLIT_FOLDERS)
    return label, next(names, folder)


def read(roots: Sequence[Path]) -> Reading:
    """Reads all images below folders or inside zip files.

    Args:
        roots: folders, or zip files. The directory above an image names its class
            or, by codes in capitals, set of classes (see `label_of`); where it
            doesn't, a file name such as BA_12.jpg does (see `FILE_PREFIXES`).

    Returns:
        All labelled images, duplicates and damaged ones too, and the names of those
        without a label. A warning names the files that cannot be read or whose format
        is not supported.

    Raises:
        InputError: a root is missing or has no labelled image, or none can be read.
    """
    files: dict[str, CellFile] = {}
    unlabelled: dict[str, None] = {}
    unreadable: dict[str, str] = {}
    others: Counter[str] = Counter()
    for root in roots:
        # With the root's own name in front, `edgecell train data/BA` works too.
        above, sep = PurePath(os.path.abspath(root)), "/"
        if not root.is_dir():
            above, sep = above.with_suffix(""), ":"
        found = 0
        with open_files(root) as members:
            for member, content in members.items():
                others[member.suffix.lower()] += 1
                if member.suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                name = printable(f"{root}{sep}{member}")
                code, source = _label(above / member)
                if code is None:
                    unlabelled[name] = None
                    continue
                found += 1
                try:
                    data = content()
                except InputError as e:
                    unreadable[name] = str(e)
                    continue
                digest = hashlib.sha256(data).hexdigest()
                files[name] = CellFile(name, code, printable(source), digest, data)
        if not found:
            raise InputError(
                f"{root} has no image in a folder named after a class; known classes "
                f"are {', '.join(CODES)}, their English names, the groups "
                f"{' and '.join(GROUP_CODES)}, and sets such as BNE|SNE"
            )
    if not files:
        raise InputError(next(iter(unreadable.values())))
    _warn_of_others(others)
    for name, why in unreadable.items():
        logger.warning("left out: %s: %s", name, why)
    return Reading(tuple(files.values()), tuple(unlabelled), unreadable)


def _warn_of_others(suffixes: Counter[str]) -> None:
    """Names the kinds of pictures and archives that are not read, with their number."""
    kinds = ", ".join(f"{suffixes[s]} {s}" for s in OTHER_SUFFIXES if suffixes[s])
    if kinds:
        logger.warning(
            "left out: %s, which are not supported; save pictures as PNG or JPEG, and "
            "unpack archives",
            kinds,
        )


def scan(roots: Sequence[Path]) -> list[CellFile]:
    """Reads all labelled images below folders or inside zip files.

    Args:
        roots: see `read`.

    Returns:
        The images, byte-identical ones once; one content under two labels is left
        out, with a warning.

    Raises:
        InputError: see `read`.
    """
    reading = read(roots)
    reading.warn_of_unlabelled()
    return without_duplicates(reading.files)


def without_duplicates(files: Iterable[CellFile]) -> list[CellFile]:
    """Keeps the first of byte-identical images, and none whose labels contradict.

    Of 'BNE|SNE' and 'SNE' the narrower label is kept.
    """
    first: dict[str, CellFile] = {}
    conflicts: set[str] = set()
    for file in files:
        other = first.setdefault(file.sha256, file)
        label = common_label((other.code, file.code))
        if label:
            first[file.sha256] = replace(other, code=label)
        else:
            conflicts.add(file.sha256)
            logger.warning(
                "left out: %s is %s, but %s, the same image, is %s",
                file.name,
                file.code,
                other.name,
                other.code,
            )
    return [f for h, f in first.items() if h not in conflicts]


def sample(files: Sequence[CellFile], per_class: int, seed: int) -> list[CellFile]:
    """A few images of each class: the first of every class, then the second, and so on.

    Args:
        files: labelled images, in any order.
        per_class: how many of each class at most.
        seed: of the draw.
    """
    per_class = min(per_class, len(files))
    classes: dict[str, list[CellFile]] = {}
    for file in sorted(files, key=lambda f: f.sha256):
        classes.setdefault(file.code, []).append(file)
    rng = np.random.default_rng(seed)
    turns: list[list[CellFile]] = [[] for _ in range(per_class)]
    for _, members in sorted(classes.items()):
        drawn = rng.permutation(len(members))[:per_class]
        for turn, number in zip(turns, drawn, strict=False):
            turn.append(members[number])
    return [file for turn in turns for file in turn]


def dataset_hash(files: Iterable[CellFile]) -> str:
    """A hash over the contents and labels of a set of images, in any order."""
    lines = sorted(f"{f.sha256} {f.code}" for f in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def labels(
    files: Sequence[CellFile], codes: Sequence[str] = CODES
) -> npt.NDArray[np.int32]:
    """Class indices.

    Returns:
        int32 (N,), positions in ``codes``.

    Raises:
        InputError: an image's class is not among ``codes``, or it has a set of them.
    """
    index = {code: i for i, code in enumerate(codes)}
    for file in files:
        if SEPARATOR in file.code:
            raise InputError(
                f"{file.name} may be {file.code.replace(SEPARATOR, ' or ')}; this "
                "needs cells of one known class"
            )
        if file.code not in index:
            raise InputError(
                f"{file.name} is {file.code}, which the model does not know; "
                f"its classes are {', '.join(codes)}"
            )
    return np.array([index[f.code] for f in files], np.int32)


def label_sets(
    files: Sequence[CellFile], codes: Sequence[str] = CODES
) -> npt.NDArray[np.bool_]:
    """The classes that each image may belong to.

    Returns:
        bool (N, C), at least one true in each row; see `label_matrix`.

    Raises:
        InputError: an image may belong to a class that is not among ``codes``.
    """
    return label_matrix([f.code for f in files], codes)


def of_one_class(files: Iterable[CellFile]) -> list[CellFile]:
    """The images whose label is one class and not a set."""
    return [f for f in files if SEPARATOR not in f.code]


def load_images(
    files: Sequence[CellFile],
    prep: Preprocessing,
    margin: float = 1.0,
    change: Callable[[Rgb], Image] | None = None,
    crops: Mapping[str, float] | None = None,
) -> npt.NDArray[np.uint8]:
    """Decodes and crops images on all cores.

    Args:
        files: N images.
        prep: the model's preprocessing.
        margin: see `cell_image`.
        change: applied to each image as it was decoded, before the crop.
        crops: by source, the crop fractions that differ from ``prep``'s.

    Returns:
        uint8 RGB (N, S, S, 3), S = round(input_size * margin).
    """
    side = round(prep.input_size * margin)
    images = np.empty((len(files), side, side, 3), np.uint8)
    own = {s: replace(prep, crop_fraction=crop) for s, crop in (crops or {}).items()}

    def load(i: int) -> None:
        image = decode(files[i].data, files[i].name)
        image = Rgb(change(image)) if change else image
        images[i] = cell_image(image, own.get(files[i].source, prep), margin)

    with ThreadPoolExecutor() as pool:
        done = pool.map(load, range(len(files)))
        for _ in tqdm(done, "reading images", len(files), disable=None, leave=False):
            pass
    return images
