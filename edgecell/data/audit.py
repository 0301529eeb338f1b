"""What is wrong with a set of labelled images, and which of them to train on."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from edgecell.classes import common_label
from edgecell.data.dataset import CellFile, Split, decode
from edgecell.data.near_duplicates import Thumbnail, groups, near_duplicates, thumbnail
from edgecell.errors import InputError
from edgecell.image.preprocess import Rgb

logger = logging.getLogger(__name__)

MIN_SIDE = 64
# Spread of the channels at the most coloured hundredth of an image, of 255. Stained
# cells have 59 and more.
MIN_COLOUR = 16.0
_ORDER: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Group:
    """Images that show the same thing.

    Attributes:
        files: two or more, the one to keep first.
    """

    files: tuple[CellFile, ...]

    @property
    def conflict(self) -> bool:
        """Whether no class fits all of their labels."""
        return common_label(f.code for f in self.files) is None

    @property
    def identical(self) -> bool:
        """Whether they are the same to the byte."""
        return len({f.sha256 for f in self.files}) == 1


@dataclass(frozen=True)
class Flaw:
    """An image that is of little use by itself.

    Attributes:
        file: the image.
        detail: what was measured, such as '40x52 pixels'.
    """

    file: CellFile
    detail: str


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        counts: labelled images by source and class code, all 12 or fewer.
        identical: byte-identical images.
        near: groups that look the same but aren't byte-identical; if a group holds
            byte-identical images as well, they are listed in both.
        conflicts: those of the groups above that carry several labels.
        unreadable: files that are not images.
        tiny: images whose shorter side is below `MIN_SIDE` pixels.
        grey: images without colour.
        unlabelled: names of images without a class, which no command uses.
        unread: names of files that the disk or the archive did not give, each with
            the reason.
    """

    counts: dict[str, dict[str, int]]
    identical: tuple[Group, ...]
    near: tuple[Group, ...]
    conflicts: tuple[Group, ...]
    unreadable: tuple[Flaw, ...]
    tiny: tuple[Flaw, ...]
    grey: tuple[Flaw, ...]
    unlabelled: tuple[str, ...]
    unread: Mapping[str, str]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        flaws = (*self.unreadable, *self.tiny, *self.grey)
        left = (*self.unlabelled, *self.unread)
        return not (self.identical or self.near or flaws or left)

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON-ready data."""
        return {
            "clean": self.clean,
            "images": sum(sum(c.values()) for c in self.counts.values()),
            "counts": self.counts,
            "identical": [_group_dict(g) for g in self.identical],
            "near_duplicates": [_group_dict(g) for g in self.near],
            "conflicts": [_group_dict(g) for g in self.conflicts],
            "unreadable": [_flaw_dict(f) for f in self.unreadable]
            + [{"name": name, "detail": why} for name, why in self.unread.items()],
            "tiny": [_flaw_dict(f) for f in self.tiny],
            "grey": [_flaw_dict(f) for f in self.grey],
            "unlabelled": list(self.unlabelled),
        }


@dataclass(frozen=True)
class LeftOut:
    """An image that is not to be used.

    Attributes:
        file: the image.
        reason: why, as a phrase: 'same as pbc/BA/BA_12.jpg'.
    """

    file: CellFile
    reason: str


@dataclass(frozen=True)
class Selection:
    """What to use of a set.

    Attributes:
        kept: images to use, in the order given.
        left_out: the others, in the order given.
    """

    kept: tuple[CellFile, ...]
    left_out: tuple[LeftOut, ...]


def _file_dict(file: CellFile) -> dict[str, str]:
    return {
        "name": file.name,
        "class": file.code,
        "source": file.source,
        "split": file.split,
        "sha256": file.sha256,
    }


def _group_dict(group: Group) -> list[dict[str, str]]:
    return [_file_dict(f) for f in group.files]


def _flaw_dict(flaw: Flaw) -> dict[str, str]:
    return _file_dict(flaw.file) | {"detail": flaw.detail}


def is_grey(image: Rgb) -> bool:
    """Whether an image has no colour, or too little to come from a stained smear.

    Args:
        image: uint8 RGB (H, W, 3).
    """
    sparse = image[::4, ::4]  # a sixteenth of the points says as much, and sooner
    spread = sparse.max(2) - sparse.min(2)
    return float(np.percentile(spread, 99)) < MIN_COLOUR


@dataclass(frozen=True)
class _Look:
    size: tuple[int, int]
    grey: bool
    thumbnail: Thumbnail


def _look(file: CellFile) -> _Look | None:
    try:
        image = decode(file.data, file.name)
    except InputError:
        return None
    height, width = image.shape[:2]
    return _Look((width, height), is_grey(image), thumbnail(image))


def _kept_first(files: Iterable[CellFile]) -> Group:
    # Training images win over test images. Otherwise adding a copy could turn an image
    # that an earlier model was trained on into a test image.
    def rank(file: CellFile) -> tuple[int, str, str]:
        return _ORDER.index(file.split), file.sha256, file.name

    return Group(tuple(sorted(files, key=rank)))


def audit(
    files: Sequence[CellFile],
    unlabelled: Sequence[str] = (),
    unread: Mapping[str, str] | None = None,
) -> Audit:
    """Looks at every image and compares it with every other.

    Args:
        files: labelled images, byte-identical ones included, as `dataset.read`
            returns them.
        unlabelled: names of images without a class, to be reported.
        unread: names of files that could not be read, with the reasons, likewise.

    Returns:
        The findings. The order of ``files`` affects only the order of the findings.
    """
    by_content: dict[str, list[CellFile]] = defaultdict(list)
    for file in files:
        by_content[file.sha256].append(file)
    firsts = [copies[0] for copies in by_content.values()]
    with ThreadPoolExecutor() as pool:
        done = pool.map(_look, firsts)
        bar = tqdm(done, "looking at images", len(firsts), disable=None, leave=False)
        looks = {f.sha256: look for f, look in zip(firsts, bar, strict=True)}

    seen = {h: look for h, look in looks.items() if look}
    pairs = near_duplicates([look.thumbnail for look in seen.values()])
    hashes = list(seen)
    near = tuple(
        _kept_first(f for i in group for f in by_content[hashes[i]])
        for group in groups(len(hashes), pairs)
    )
    identical = tuple(_kept_first(c) for c in by_content.values() if len(c) > 1)
    in_near = {f.sha256 for g in near for f in g.files}
    whole = (*(g for g in identical if g.files[0].sha256 not in in_near), *near)

    counts: dict[str, Counter[str]] = defaultdict(Counter)
    unreadable, tiny, grey = [], [], []
    for file in files:
        counts[file.source][file.code] += 1
        look = looks[file.sha256]
        if look is None:
            detail = "not an image, or cut short" if file.data else "empty"
            unreadable.append(Flaw(file, detail))
            continue
        if min(look.size) < MIN_SIDE:
            tiny.append(Flaw(file, f"{look.size[0]}x{look.size[1]} pixels"))
        if look.grey:
            grey.append(Flaw(file, "no colour"))
    return Audit(
        {s: dict(sorted(c.items())) for s, c in sorted(counts.items())},
        identical,
        near,
        tuple(g for g in whole if g.conflict),
        tuple(unreadable),
        tuple(tiny),
        tuple(grey),
        tuple(unlabelled),
        unread or {},
    )


def select(files: Sequence[CellFile], findings: Audit) -> Selection:
    """Decides what to train and test on.

    Of images that show the same thing, one is kept: from the training split if there is
    one, then validation, then test; among those the smallest hash. A group with several
    labels is left out whole, and so is what cannot be read. Tiny and grey images are
    kept: the user may have no others.

    Args:
        files: the images audited.
        findings: what `audit` found in them.

    Returns:
        The images to use, and the others with the reason.
    """
    reasons: dict[str, str] = {}
    for group in (*findings.identical, *findings.near):
        first, *others = group.files
        relation = "same as" if group.identical else "looks the same as"
        reasons |= {f.name: f"{relation} {first.name}" for f in others}
    for group in findings.conflicts:
        labels = ", ".join(f"{f.name} is {f.code}" for f in group.files)
        reasons |= {f.name: f"one image, several labels: {labels}" for f in group.files}
    reasons |= {flaw.file.name: flaw.detail for flaw in findings.unreadable}
    return Selection(
        tuple(f for f in files if f.name not in reasons),
        tuple(LeftOut(f, reasons[f.name]) for f in files if f.name in reasons),
    )


def audited(files: Sequence[CellFile]) -> Selection:
    """Audits images and decides which of them to use; warns of those left out."""
    selection = select(files, audit(files))
    for left_out in selection.left_out:
        logger.warning("left out: %s: %s", left_out.file.name, left_out.reason)
    return selection
