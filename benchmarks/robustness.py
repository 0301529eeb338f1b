"""How well a model copes with bad pictures: blur, lamp, stain, compression."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgecell.data.dataset import CellFile, label_sets, load_images
from edgecell.errors import InputError
from edgecell.image.preprocess import Image
from edgecell.model.predict import predict, read_record
from edgecell.train.order import set_keys

Change = Callable[[Image], Image]


@dataclass(frozen=True)
class Condition:
    """A model's figures on changed images.

    Attributes:
        change: what was changed.
        level: by how much.
        accuracy: share right.
        macro_recall: mean recall over the classes that are present.
    """

    change: str
    level: str
    accuracy: float
    macro_recall: float


def blur(sigma: float) -> Change:
    """Gaussian blur; sigma in pixels of an image of 224, the field of training."""

    def change(image: Image) -> Image:
        width = sigma * min(image.shape[:2]) / 224
        return np.asarray(cv2.GaussianBlur(image, (0, 0), width), np.uint8)

    return change


def brightness(gain: float) -> Change:
    """Lamp or exposure: pixel values times a gain, clipped at 255."""
    table = np.clip(np.rint(np.arange(256) * gain), 0, 255).astype(np.uint8)
    return lambda image: np.asarray(cv2.LUT(image, table), np.uint8)


def stain(red: float, green: float, blue: float) -> Change:
    """Another stain: optical density -log(v / 255) of each channel times a factor."""
    transmission = np.arange(256)[:, None] / 255
    table = np.rint(255 * transmission ** np.array((red, green, blue)))
    return lambda image: np.asarray(cv2.LUT(image, table[None].astype(np.uint8)))


def jpeg(quality: int) -> Change:
    """JPEG compression at a quality of 1..100."""

    def change(image: Image) -> Image:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None  # it was encoded just now
        return np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)

    return change


CONDITIONS: tuple[tuple[str, str, Change], ...] = (
    ("none", "", lambda image: image),
    *(("blur", f"sigma {s:g} px of 224", blur(s)) for s in (1, 2, 3)),
    *(("brightness", f"x {g:g}", brightness(g)) for g in (0.5, 0.7, 1.3)),
    *(("stain", f"density x {d:g}", stain(d, d, d)) for d in (0.6, 1.5)),
    ("stain", "redder: R x 0.8, B x 1.25", stain(0.8, 1.0, 1.25)),
    ("stain", "bluer: R x 1.25, B x 0.8", stain(1.25, 1.0, 0.8)),
    *(("JPEG", f"quality {q}", jpeg(q)) for q in (50, 20, 10)),
)


def robustness(path: Path, files: Sequence[CellFile]) -> list[Condition]:
    """Measures a model on images changed in each of `CONDITIONS`.

    Args:
        path: a model file.
        files: labelled images.

    Raises:
        InputError: there are no images.
    """
    if not files:
        raise InputError("there are no images to evaluate on in this split")
    record = read_record(path)
    sets = label_sets(files, record.codes)
    keys, every = set_keys(sets), np.arange(len(sets))
    rows = []
    for name, level, change in CONDITIONS:
        images = load_images(
            files, record.preprocessing, change=change, crops=record.crops
        )
        right = sets[every, predict(path, images).logits.argmax(1)]
        recalls = [right[keys == k].mean() for k in np.unique(keys)]
        rows.append(
            Condition(name, level, float(right.mean()), float(np.mean(recalls)))
        )
    return rows
