"""Candidates for white cells and platelets, and their scores.

A frame is opened as a `Field`; stained blobs of it that may be cells are
described by a few features of shape and colour and scored by a logistic model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgecell.edge.find.blobs import Blob, find_blobs, join_blobs, morph, split_blob
from edgecell.image.red_cells import (
    StainMaps,
    shrink,
    stain_maps,
    working_scale,
)

# Lengths are in red cell diameters and areas in their squares. All were chosen
# on the train half of the frames.
_CLOSING = 0.3
"""Gaps between the lobes of a nucleus that are closed at once."""

_SPLIT_SIDE = 1.9
"""A nuclear blob longer than this may be two cells."""

_CELLS_APART = 1.1
_LARGE_CELLS_APART = 0.9
_LARGE_NUCLEUS_AREA = 0.7
"""Least distance between the centres of two touching white cells; less if both
parts are as large as a whole nucleus."""

_LOBES_WITHIN = 1.95
_LEAST_LOBE_AREA = 0.15
"""Blobs of that area that together span less are lobes of one nucleus; the
nuclei of two small lymphocytes that touch span 2.0."""

_LEAST_NUCLEUS_AREA = 0.2
_LEAST_CUT_AREA = 0.1
"""Of a nucleus (the least was 0.38), and of what the border may leave of it."""

_PLATELET_AREA = (0.012, 0.4)
"""Smaller is dust, larger is no platelet."""

RIM = 0.06
"""Width of the surroundings that a blob is compared with, and of the margin
added around a cell, whose edge is paler than any threshold."""

_WIDE = 0.25
"""Reach of the field whose density tells whether a blob lies on glass or among, or on,
red cells."""

_FAINT_SHARE = 0.45
_CYTOPLASM_SHARE = 0.35
_FAINT_FLOOR = 0.1
"""Stain of platelets and of cytoplasm, as a share of the nuclear threshold, and the
least that counts."""

FEATURES = (
    "log_area",
    "cut",
    "log_area_if_cut",
    "aspect",
    "fill",
    "mean_stain",
    "mean_density",
    "rim_stain",
    "rim_density",
    "red_stain",
    "red_spread",
    "stain_threshold",
    "density_spread",
    "field_density",
)
WEIGHTS: dict[str, tuple[float, ...]] = {
    "white": (
        1.812,
        -0.206,
        -0.127,
        -0.740,
        5.669,
        3.463,
        0.372,
        1.068,
        -1.817,
        -10.275,
        -20.486,
        4.299,
        0.370,
        -0.719,
        -2.572,
    ),
    "platelet": (
        1.181,
        -0.682,
        -0.101,
        3.611,
        8.635,
        19.595,
        -0.268,
        -20.321,
        -8.128,
        -13.352,
        -48.612,
        6.083,
        -12.409,
        -7.028,
        -4.989,
    ),
}
"""Logistic weights of FEATURES and, last, the constant term; fitted on the train
half by edgecell.benchmarks.fit_localiser."""


@dataclass(frozen=True)
class Field:
    """A working image with what the rules need to know about it.

    Attributes:
        maps: stain and density.
        diameter: red cell diameter in working pixels.
        scale: working pixels per frame pixel.
        red_stain: median stain of what is cell but not nucleus.
        red_spread: its median absolute deviation.
    """

    maps: StainMaps
    diameter: float
    scale: float
    red_stain: float
    red_spread: float

    @property
    def faint_threshold(self) -> float:
        """Stain above which a pixel may be platelet."""
        return max(_FAINT_FLOOR, _FAINT_SHARE * self.maps.stain_threshold)

    @property
    def cytoplasm_threshold(self) -> float:
        """Stain above which a pixel that touches a nucleus is its cell's."""
        return max(_FAINT_FLOOR, _CYTOPLASM_SHARE * self.maps.stain_threshold)


@dataclass(frozen=True)
class Candidate:
    """A blob that may be a cell, with its FEATURES."""

    blob: Blob
    features: NDArray[np.float64]

    def score(self, kind: str) -> float:
        """Logistic score 0..1 for a kind."""
        *weights, constant = WEIGHTS[kind]
        total = float(self.features @ np.array(weights)) + constant
        return 1.0 / (1.0 + math.exp(-min(max(total, -60.0), 60.0)))


def open_field(frame: NDArray[np.uint8], red_cell_px: float) -> Field:
    """Brings a frame to working size and measures its stain.

    Args:
        frame: uint8 BGR (H, W, 3).
        red_cell_px: diameter of its red cells, pixels.
    """
    scale = working_scale(frame.shape, red_cell_px)
    maps = stain_maps(shrink(frame, scale))
    diameter = red_cell_px * scale
    stain, density = maps.stain[::4, ::4], maps.density[::4, ::4]
    red = stain[(density > 0.12) & (stain < 0.8 * maps.stain_threshold)]
    if red.size == 0:
        return Field(maps, diameter, scale, 0.0, 0.0)
    middle = float(np.median(red))
    spread = float(np.median(np.abs(red - middle)))
    return Field(maps, diameter, scale, middle, spread)


def white_candidates(field: Field) -> list[Candidate]:
    """Nuclei: lobes closed up and joined, touching cells split."""
    diameter, square = field.diameter, field.diameter**2
    nuclei = (field.maps.stain > field.maps.stain_threshold).astype(np.uint8)
    closed = morph(nuclei, cv2.MORPH_CLOSE, round(_CLOSING * diameter))
    parts = [
        part
        for blob in find_blobs(closed, _LEAST_CUT_AREA * square)
        for part in _parts(blob, diameter)
    ]
    blobs = join_blobs(parts, _LOBES_WITHIN * diameter, _LEAST_LOBE_AREA * square)
    return [
        Candidate(blob, describe(blob, field))
        for blob in blobs
        if blob.area >= _LEAST_NUCLEUS_AREA * square
        or blob.touches_border(field.maps.stain.shape)
    ]


def _parts(blob: Blob, diameter: float) -> list[Blob]:
    """The cells of a blob that is too large or too long for one."""
    whole = _LARGE_NUCLEUS_AREA * diameter**2
    if blob.area >= 2 * whole:
        large = split_blob(blob, _LARGE_CELLS_APART * diameter)
        if all(part.area >= whole for part in large):
            return large
    if max(blob.width, blob.height) > _SPLIT_SIDE * diameter:
        return split_blob(blob, _CELLS_APART * diameter)
    return [blob]


def platelet_candidates(field: Field, cells: Sequence[Blob]) -> list[Candidate]:
    """Small stained blobs outside the white cells."""
    square = field.diameter**2
    faint = (field.maps.stain > field.faint_threshold).astype(np.uint8)
    for cell in cells:
        faint[cell.window][cell.mask] = 0
    least, most = (area * square for area in _PLATELET_AREA)
    return [
        Candidate(blob, describe(blob, field))
        for blob in find_blobs(faint, least)
        if blob.area <= most
    ]


def describe(blob: Blob, field: Field) -> NDArray[np.float64]:
    """The FEATURES of a blob, float64 (14,)."""
    maps = field.maps
    inside, area = blob.mask, blob.area
    stain = float(maps.stain[blob.window][inside].sum())
    densities = maps.density[blob.window][inside]
    density = float(densities.sum())
    around = blob.window_with(max(2, round(RIM * field.diameter)))
    wide = blob.window_with(round(_WIDE * field.diameter))
    around_stain, around_density = maps.stain[around], maps.density[around]
    rim_area = max(1, around_stain.size - area)
    log_area = math.log(area / field.diameter**2)
    cut = float(blob.touches_border(maps.stain.shape))
    return np.array(
        [
            log_area,
            cut,
            cut * log_area,
            min(blob.width, blob.height) / max(blob.width, blob.height),
            area / (blob.width * blob.height),
            stain / area,
            density / area,
            (float(around_stain.sum()) - stain) / rim_area,
            (float(around_density.sum()) - density) / rim_area,
            field.red_stain,
            field.red_spread,
            maps.stain_threshold,
            float(densities.std()),
            float(maps.density[wide].mean()),
        ],
        np.float64,
    )
