"""Classifiers that say what a test wants, in place of a model file."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from edgecell.image.preprocess import Rgb
from edgecell.model.classifier import Classifier


def classifier_of(score: Callable[[np.ndarray], np.ndarray]) -> Classifier:
    """Two classes; the logits of the first are what ``score`` says of the images."""

    def logits(images: np.ndarray) -> np.ndarray:
        first = score(images.astype(np.float64))
        return np.stack([first, np.zeros_like(first)], -1).astype(np.float32)

    prep = SimpleNamespace(mean=(100.0, 100.0, 100.0), std=(50.0, 50.0, 50.0))
    record = SimpleNamespace(temperature=1.0, preprocessing=prep)
    made: Any = SimpleNamespace(logits=logits, fine_logits=logits, record=record)
    return cast(Classifier, made)


def striped(side: int = 24, stripes: int = 6) -> tuple[Rgb, np.ndarray]:
    """An image and its segments: columns, each a dark and a light half of its own.

    The mean colour of each is 100; hiding one makes it flat.
    """
    segments = np.repeat(np.arange(stripes), side // stripes)[None].repeat(side, 0)
    image = np.full((side, side, 3), 100, np.uint8)
    image[: side // 2] = 60
    image[side // 2 :] = 140
    return Rgb(image), segments.astype(np.int32)


def effects_of(segments: np.ndarray, effects: np.ndarray) -> Classifier:
    """The first logit is the sum of the effects of the stripes that are not hidden."""

    def score(images: np.ndarray) -> np.ndarray:
        there = (images[:, 0, :, 0] == 60).astype(np.float64)  # of each column
        share = np.stack(
            [there[:, segments[0] == k].mean(1) for k in range(len(effects))]
        )
        return np.asarray(effects @ share)

    return classifier_of(score)
