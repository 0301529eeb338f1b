"""Images as a user has them: a file, or an array with the order of its channels."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgecell.errors import InputError
from edgecell.image.decode import decode, read_file
from edgecell.image.preprocess import Bgr, Rgb, to_bgr, to_rgb

Channels = Literal["RGB", "BGR"]


def read_rgb(image: object, channels: Channels | None) -> Rgb:
    """Reads an image, red first.

    Args:
        image: a path, or an array uint8 (H, W, 3).
        channels: order of an array's channels; None for a path.

    Raises:
        InputError: it can't be read, or says what is wrong with the array.
    """
    if isinstance(image, str | Path):
        return to_rgb(_read(Path(image), channels))
    return (
        to_rgb(Bgr(_checked(image)))
        if _order(channels) == "BGR"
        else Rgb(_checked(image))
    )


def read_bgr(image: object, channels: Channels | None) -> Bgr:
    """Reads an image, blue first; see `read_rgb`."""
    if isinstance(image, str | Path):
        return _read(Path(image), channels)
    return (
        to_bgr(Rgb(_checked(image)))
        if _order(channels) == "RGB"
        else Bgr(_checked(image))
    )


def _read(path: Path, channels: Channels | None) -> Bgr:
    if channels is not None:
        raise InputError(
            "leave out channels: an image file has a colour order of its own"
        )
    return decode(read_file(path), str(path))


def _order(channels: object) -> Channels:
    if channels in ("RGB", "BGR"):
        return channels
    raise InputError(
        "an array does not say in which order its colours are: add channels='BGR' for "
        "one from OpenCV (cv2.imread, a camera), or channels='RGB' for one from "
        "Pillow, imageio or matplotlib"
    )


def _checked(image: object) -> Any:
    """The array, if it is a colour image of bytes."""
    if not isinstance(image, np.ndarray):
        raise InputError(
            f"a {type(image).__name__} is not an image; give the path of a file or an "
            "array, such as numpy.asarray(picture.convert('RGB')) for a Pillow image"
        )
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        hint = "a colour image has three channels"
        if image.ndim == 2:
            hint = "a grey image can't be classified: cells are known by their stain"
        elif image.ndim == 3 and image.shape[2] == 4:
            hint = "drop the fourth channel: image[..., :3]"
        elif image.ndim == 4:
            hint = "give one image at a time"
        shape = " x ".join(map(str, image.shape))
        raise InputError(
            f"an image is an array of height x width x 3, not {shape}: {hint}"
        )
    if image.dtype != np.uint8:
        hint = "convert it to uint8, 0 to 255"
        if np.issubdtype(image.dtype, np.floating):
            hint = "if its values go from 0 to 1: (255 * image).round().astype('uint8')"
        elif image.dtype == np.uint16:
            hint = "if its values use all 16 bits: (image >> 8).astype('uint8')"
        raise InputError(f"an image is an array of uint8, not {image.dtype}; {hint}")
    return np.ascontiguousarray(image)
