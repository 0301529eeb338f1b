"""The pictures of a cell: keeping them, exporting one, and recognising copies.

From an exported image, `cell_image` recovers the network's own view: the
cell in the camera's pixels, with the white balance of its frame, fills the middle.
Around it the picture is mirrored, as far as training turns and shifts it, and beyond
that white, since `cell_image` takes the brightest part of an image for background.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress

import cv2
import numpy as np
import numpy.typing as npt

from edgecell.data.near_duplicates import joined
from edgecell.edge.count.tracking import TrackedFrame
from edgecell.edge.record.sessions import Sighting
from edgecell.errors import OutputError
from edgecell.image.decode import decode
from edgecell.image.preprocess import Bgr, Image, Preprocessing, apply_gains, resize

_JPEG_QUALITY = 90
_MIRRORED = 1.3
"""Side of the mirrored part over the cell's; `TrainConfig.margin` is within."""


def jpeg(picture: Image) -> bytes:
    """A picture as JPEG.

    Args:
        picture: uint8 BGR (H, W, 3).

    Raises:
        OutputError: it is too large for JPEG.
    """
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    with suppress(cv2.error):  # OpenCV 4 throws where OpenCV 5 returns False
        ok, data = cv2.imencode(".jpg", picture, quality)
        if ok:
            return data.tobytes()
    height, width = picture.shape[:2]
    raise OutputError(
        f"a picture of {width}x{height} is too large for JPEG; cut the image into "
        "smaller ones"
    )


def crops_of(tracked: TrackedFrame) -> dict[int, tuple[bytes, bytes]]:
    """PNG of the network's view and JPEG of the frame, by the cell's place."""
    kept = {}
    for i in tracked.evidence():
        found = tracked.result.cells[i]
        seen = cv2.cvtColor(found.seen, cv2.COLOR_RGB2BGR)
        kept[i] = (cv2.imencode(".png", seen)[1].tobytes(), jpeg(found.pixels))
    return kept


def hashes(sightings: Sequence[Sighting]) -> tuple[str, ...]:
    """SHA-256 of both pictures of each sighting; two cells that share one are equal."""
    pictures = (data for s in sightings for data in (s.seen, s.pixels))
    return tuple(hashlib.sha256(d).hexdigest() for d in pictures if d is not None)


def equal_cells(pictures: Sequence[Sequence[str]]) -> list[list[int]]:
    """Groups cells that share a picture; see `joined`.

    Args:
        pictures: the hashes of each cell's pictures.
    """
    first: dict[str, int] = {}
    pairs = (
        (first.setdefault(picture, i), i)
        for i, own in enumerate(pictures)
        for picture in own
    )
    return joined(len(pictures), pairs)


def export_hashes(
    sightings: Sequence[Sighting], prep: Preprocessing
) -> tuple[str, ...]:
    """SHA-256 of the file that `session export` makes of each sighting.

    Args:
        sightings: of a cell; those whose pixels are gone are left out.
        prep: the model's preprocessing.

    Raises:
        InputError: pixels are damaged.
    """
    kept = [s for s in sightings if s.seen is not None and s.pixels is not None]
    return tuple(
        hashlib.sha256(export_png(export_image(s, prep))).hexdigest() for s in kept
    )


def export_png(image: Bgr) -> bytes:
    """The file that an exported image becomes."""
    return cv2.imencode(".png", image)[1].tobytes()


def export_image(sighting: Sighting, prep: Preprocessing) -> Bgr:
    """A cell's picture, for training and for people.

    Args:
        sighting: one whose pixels are kept.
        prep: the model's preprocessing.

    Returns:
        uint8 BGR (n, n, 3): `cell_image` turns it into what the network saw, apart from
        JPEG losses.

    Raises:
        InputError: its pixels are damaged.
    """
    name = f"cell {sighting.cell}"
    assert sighting.pixels is not None
    assert sighting.seen is not None
    pixels, seen = decode(sighting.pixels, name), decode(sighting.seen, name)
    balanced = apply_gains(pixels, _gains(pixels, seen))
    side = balanced.shape[0]
    whole = max(side, round(side / prep.crop_fraction))
    inner = min(whole, round(side * _MIRRORED))
    mirrored = _bordered(balanced, inner, cv2.BORDER_REFLECT, 0.0)
    return _bordered(mirrored, whole, cv2.BORDER_CONSTANT, prep.white_level)


def _gains(pixels: Bgr, seen: Bgr) -> npt.NDArray[np.float64]:
    """The frame's white balance: what makes the pixels what the network saw."""
    small = resize(pixels, seen.shape[0]).reshape(-1, 3).astype(np.float64)
    shown = seen.reshape(-1, 3).astype(np.float64)
    gains = []
    for before, after in zip(small.T, shown.T, strict=True):
        inside = (after > 0) & (after < 255)
        power = float(before[inside] @ before[inside])
        gains.append(float(before[inside] @ after[inside]) / power if power else 1.0)
    return np.asarray(gains)


def _bordered(image: Bgr, side: int, kind: int, level: float) -> Bgr:
    before = (side - image.shape[0]) // 2
    after = side - image.shape[0] - before
    edges = (before, after, before, after)
    bordered = cv2.copyMakeBorder(image, *edges, kind, value=(level,) * 3)
    return Bgr(np.asarray(bordered, np.uint8))
