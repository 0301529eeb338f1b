"""Pictures of cells: crops at the camera's resolution, maps, surroundings."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgecell.edge.page.library import review_of
from edgecell.edge.record.retention import CLEAN, PICTURES
from edgecell.edge.sources.still import read_image
from edgecell.errors import InputError
from edgecell.image.records import Box

_OPACITY = 0.6
"""Of the hottest place, so that the cell under it can still be judged."""

_FOR = np.array((0, 127, 255), np.uint8)
_AGAINST = np.array((230, 120, 30), np.uint8)
_SIZE = 224
"""Side of a map's picture; the browser stretches it over the crop."""

_AROUND = 2.0
"""How much of the frame is shown around a cell, in sides of its crop."""

_KEPT = {"Cache-Control": "private, max-age=604800, immutable"}
"""A sighting's pixels never change."""


def _picture(data: bytes | None, kind: str) -> Response:
    if data is None:
        raise HTTPException(404, "these pixels were not kept")
    return Response(data, media_type=f"image/{kind}", headers=_KEPT)


def crop(request: Request) -> Response:
    """A sighting's crop in the camera's own pixels."""
    with review_of(request) as review:
        return _picture(review.crop(request.path_params["sighting"]), "jpeg")


def heat(request: Request) -> Response:
    """A sighting's Grad-CAM map, to be laid over its crop."""
    with review_of(request) as review:
        found = review.heat(request.path_params["sighting"])
    return _picture(None if found is None else heat_png(found), "png")


def explained(request: Request) -> Response:
    """An explanation from the queue, to be laid over the crop."""
    with review_of(request) as review:
        shown = review.explained(request.path_params["cell"])
    method = request.path_params["method"]
    maps = [s.heat for s in shown if s.method == method and s.heat is not None]
    return _picture(signed_png(maps[0]) if maps else None, "png")


def context(request: Request) -> Response:
    """The surroundings of a sighting, cut from the picture of its frame."""
    with review_of(request) as review:
        place = review.place(request.path_params["sighting"])
        folder = review.folder
    if place is None:
        raise HTTPException(404, "there is no such sighting")
    file = frame_file(folder, place.frame)
    shown = None if file is None else surroundings(file, place.crop, place.box)
    return _picture(shown, "jpeg")


def frame_file(folder: Path, frame: int) -> Path | None:
    """The kept picture of a frame, if possible the one with nothing drawn on it.

    Sessions of earlier versions have annotated pictures alone.
    """
    files = (folder / kind / f"{frame:06d}.jpg" for kind in (CLEAN, PICTURES))
    return next((file for file in files if file.is_file()), None)


def surroundings(file: Path, crop: Box, box: Box) -> bytes | None:
    """JPEG of what lies around a cell in a frame's picture, the cell marked.

    Args:
        file: the picture; its pixels are the frame's.
        crop: the square around the cell, in the frame's pixels.
        box: the cell.

    Returns:
        None if there is no such picture.
    """
    try:
        picture = read_image(file)
    except InputError:
        return None
    height, width = picture.shape[:2]
    margin = round(_AROUND * crop.width / 2)
    x0, y0 = max(0, crop.x0 - margin), max(0, crop.y0 - margin)
    x1, y1 = min(width, crop.x1 + margin), min(height, crop.y1 + margin)
    if x1 <= x0 or y1 <= y0:
        return None
    cut = np.ascontiguousarray(picture[y0:y1, x0:x1])
    thickness = max(1, crop.width // 60)
    corners = (box.x0 - x0, box.y0 - y0), (box.x1 - x0, box.y1 - y0)
    cv2.rectangle(cut, *corners, (20, 20, 20), thickness + 2)
    cv2.rectangle(cut, *corners, (0, 220, 255), thickness)
    return cv2.imencode(".jpg", cut, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def heat_png(heat: npt.NDArray[np.float32]) -> bytes:
    """A map as a picture, transparent where it is cold.

    Args:
        heat: float32 (h, w) in [0, 1].
    """
    smooth = np.clip(
        cv2.resize(heat, (_SIZE, _SIZE), interpolation=cv2.INTER_CUBIC), 0, 1
    )
    levels = np.rint(smooth * 255).astype(np.uint8)
    return _png(cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS), smooth)


def signed_png(heat: npt.NDArray[np.float32]) -> bytes:
    """An explanation as a picture: orange speaks for the class, blue against it.

    Args:
        heat: float32 (S, S), signed.
    """
    strength = heat / np.float32(max(float(np.abs(heat).max()), 1e-9))
    colours = np.where(strength[..., None] >= 0, _FOR, _AGAINST)
    return _png(colours, np.abs(strength).astype(np.float32))


def _png(colours: npt.NDArray[Any], opacity: npt.NDArray[Any]) -> bytes:
    alpha = np.rint(255 * _OPACITY * opacity).astype(np.uint8)
    return cv2.imencode(".png", np.dstack([colours, alpha]))[1].tobytes()


ROUTES = [
    Route("/s/{key}/crop/{sighting:int}.jpg", crop),
    Route("/s/{key}/map/{sighting:int}.png", heat),
    Route("/s/{key}/context/{sighting:int}.jpg", context),
    Route("/s/{key}/explained/{cell:int}/{method}.png", explained),
]
