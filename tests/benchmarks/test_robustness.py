from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgecell.benchmarks.background import transplant, transplants
from edgecell.benchmarks.robustness import blur, brightness, jpeg, robustness, stain
from edgecell.data.dataset import decode, scan
from edgecell.errors import InputError
from edgecell.image.preprocess import Rgb
from edgecell.image.regions import cell_mask
from edgecell.model.modelfile import bundled_model
from tests.factories import SAMPLES

CELLS = SAMPLES / "cells"


def test_changes_do_what_they_say() -> None:
    grey = np.full((40, 40, 3), 100, np.uint8)
    assert (brightness(1.3)(grey) == 130).all()
    assert (brightness(3)(grey) == 255).all()
    # (100 / 255)^2 = 0.1538, of 255: 39.2; the other channels stay.
    assert (stain(1, 2, 1)(grey) == (100, 39, 100)).all()
    noise = np.random.default_rng(0).integers(0, 255, (224, 224, 3), np.uint8)
    # A Gaussian of sigma 2 leaves 1 / (2 sigma sqrt(pi)) of white noise's deviation.
    assert blur(2)(noise).std() / noise.std() == pytest.approx(0.141, rel=0.1)
    half = noise[::2, ::2]
    assert blur(2)(half).std() / half.std() == pytest.approx(0.282, rel=0.1)
    edge = decode((CELLS / "MO_1.jpg").read_bytes(), "MO_1.jpg")
    errors = [np.abs(jpeg(q)(edge).astype(int) - edge).mean() for q in (90, 50, 10)]
    assert errors[0] < errors[1] < errors[2]


def test_a_drawn_cell_is_cut_out_and_red_cells_are_not() -> None:
    image = np.full((224, 224, 3), (250, 230, 235), np.uint8)
    for x, y in ((30, 40), (190, 40), (40, 190), (180, 185), (120, 20)):
        cv2.circle(image, (x, y), 24, (215, 150, 160), -1, cv2.LINE_AA)
    truth = np.zeros((224, 224), np.uint8)
    cv2.circle(image, (110, 112), 40, (190, 170, 215), -1, cv2.LINE_AA)
    cv2.circle(image, (114, 110), 28, (90, 50, 140), -1, cv2.LINE_AA)
    cv2.circle(truth, (110, 112), 40, 1, -1)
    found = cell_mask(Rgb(image)) > 0.5
    overlap = (found & (truth > 0)).sum() / (found | (truth > 0)).sum()
    assert overlap > 0.8


def test_nothing_stained_is_no_cell() -> None:
    assert cell_mask(Rgb(np.full((100, 100, 3), 240, np.uint8))).max() == 0


def test_a_transplant_takes_cell_and_background_from_where_it_should() -> None:
    cell, around = np.full((8, 8, 3), 50, np.uint8), np.full((8, 8, 3), 240, np.uint8)
    around[3:5, 3:5] = 0  # the other image's own cell
    alpha, own = np.zeros((8, 8, 1), np.float32), np.zeros((8, 8, 1), np.float32)
    alpha[2:4, 2:4] = 1
    own[3:5, 3:5] = 1
    out = transplant(Rgb(cell), alpha, Rgb(around), own)
    assert (out[2:4, 2:4] == 50).all()
    out[2:4, 2:4] = 240
    assert (out == 240).all()


def test_samples_of_two_sources_through_the_bundled_model() -> None:
    # As if the myeloblasts' microscope were another source; it is.
    files = [
        replace(f, source="munich" if f.code == "MYE" else "pbc") for f in scan([CELLS])
    ]
    rows = transplants(bundled_model(), files)
    sources = {f.source for f in files}
    groups = {(f.code, f.source) for f in files}
    assert len(rows) == len(groups) * len(sources)
    control = [r for r in rows if r.cells == r.backgrounds and r.n]
    # Cutting out by itself must not be what changes the answers.
    kept = sum(r.kept * r.n for r in control) / sum(r.n for r in control)
    assert kept >= 0.75
    assert all(r.kept + r.lured <= 1 for r in rows)
    one = [f for f in files if f.source == files[0].source]
    with pytest.raises(InputError, match="one source"):
        transplants(bundled_model(), one)


def test_unchanged_images_are_the_first_condition() -> None:
    rows = robustness(bundled_model(), scan([CELLS]))
    assert rows[0].change == "none"
    assert rows[0].accuracy >= 0.75
    assert {r.change for r in rows} == {"none", "blur", "brightness", "stain", "JPEG"}
    with pytest.raises(InputError, match="no images"):
        robustness(Path("x.tflite"), [])
