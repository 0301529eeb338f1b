"""Heads small enough to work out by hand."""

import numpy as np

from edgecell.morphology.heads import AttributeHeads, packed
from edgecell.morphology.table import Attribute

NUCLEUS = Attribute("nucleus_shape", ("segmented-bilobed", "unsegmented-band"))
GRANULES = Attribute("granule_type", ("coarse", "nil", "small"))
WEIGHTS = np.array([[1.0, -1.0, 2.0, -1.0, -1.0], [-0.5, 0.5, 0.0, 1.0, -1.0]])
BIAS = (0.25, -0.25, 0.0, 0.5, -0.5)
TYPICAL = {
    "BA": (0.5, 0.5, 1.0, 0.0, 0.0),
    "BNE": (0.05, 0.95, 0.0, 0.0, 1.0),
    "SNE": (0.6, 0.4, 0.0, 0.0, 1.0),
}


def heads(**changes: object) -> AttributeHeads:
    """Two attributes, five values, two features."""
    settings = {
        "attributes": (NUCLEUS, GRANULES),
        "weights": packed(WEIGHTS),
        "bias": BIAS,
        "temperatures": (1.0, 2.0),
        "classes": tuple(TYPICAL),
        "typical": tuple(TYPICAL.values()),
        "microscopes": ("pbc",),
        "cells": 100,
    }
    return AttributeHeads(**settings | changes)  # type: ignore[arg-type]
