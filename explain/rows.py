"""Cells with their explanations, measured and ready to be drawn."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgecell.edge.analyse.single import words_of
from edgecell.edge.record.retention import PICTURES
from edgecell.errors import InputError
from edgecell.explain.faithfulness import area, deletion, insertion
from edgecell.explain.methods import Explanation, explain
from edgecell.explain.queue import Explained, open_queue
from edgecell.files import printable
from edgecell.image.decode import read_file, size_of
from edgecell.image.preprocess import Rgb
from edgecell.model.cam import class_activation, enlarge
from edgecell.model.classifier import Classifier, Prediction
from edgecell.morphology.heads import Value
from edgecell.morphology.words import Words


@dataclass(frozen=True, eq=False)
class AttributeMap:
    """Where a cell shows its value of an attribute.

    Attributes:
        attribute: its name.
        value: the value; None if there is none.
        heat: float32 (S, S) in [0, 1], Grad-CAM of the value; all 0 without one.
    """

    attribute: str
    value: Value | None
    heat: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Row:
    """One cell with its explanations.

    Attributes:
        name: what the row is called: a file, or a cell of a session.
        truth: the cell's label; None if it isn't known.
        pixels: uint8 RGB (n, n, 3), the cell in the camera's own pixels.
        seen: uint8 RGB (S, S, 3), the same square as the network sees it.
        beyond: shares of the square's side at the left, top, right and bottom that lie
            beyond the frame, where it is mirrored.
        prediction: the model's.
        explanations: of the class that the model names; of a recorded cell, of the
            class that its sightings together gave it.
        measured: deletion and insertion area of each explanation, NaN if it is empty.
        words: the cell's description; None where nothing supports one.
        maps: of the attributes that were asked for.
    """

    name: str
    truth: str | None
    pixels: Rgb
    seen: Rgb
    beyond: tuple[float, float, float, float]
    prediction: Prediction
    explanations: tuple[Explanation, ...]
    measured: tuple[tuple[float, float], ...]
    words: Words | None = None
    maps: tuple[AttributeMap, ...] = ()


@dataclass(frozen=True, eq=False)
class Shown:
    """A cell to be drawn; the attributes are those of `Row`."""

    name: str
    truth: str | None
    pixels: Rgb
    seen: Rgb
    beyond: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)


def explain_row(
    classifier: Classifier,
    shown: Shown,
    methods: Sequence[str],
    seed: int,
    attributes: Sequence[str] = (),
) -> Row:
    """Explains a cell by several methods and measures each explanation.

    Args:
        classifier: the model.
        shown: the cell.
        methods: names from `EXPLAINERS`.
        seed: of what they draw.
        attributes: names of attributes to map.
    """
    index = classifier.classify(shown.seen).index
    found = [explain(m, classifier, shown.seen, index, seed) for m in methods]
    return measured_row(classifier, shown, found, attributes)


def measured_row(
    classifier: Classifier,
    shown: Shown,
    explanations: Sequence[Explanation],
    attributes: Sequence[str] = (),
) -> Row:
    """Measures explanations that were made before; arguments as for `explain_row`."""
    seen = shown.seen
    measured = []
    for e in explanations:
        if e.empty:
            measured.append((np.nan, np.nan))
            continue
        lost = deletion(classifier, seen, e.heat, e.index)
        gained = insertion(classifier, seen, e.heat, e.index)
        measured.append((area(lost), area(gained)))
    tells = classifier.record.attributes is not None
    prediction = classifier.classify(seen, features=tells)
    words = words_of(classifier.record, prediction)
    return Row(
        shown.name,
        shown.truth,
        shown.pixels,
        seen,
        shown.beyond,
        prediction,
        tuple(explanations),
        tuple(measured),
        words,
        attribute_maps(classifier, prediction, words, attributes),
    )


def attribute_maps(
    classifier: Classifier,
    prediction: Prediction,
    words: Words | None,
    attributes: Sequence[str],
) -> tuple[AttributeMap, ...]:
    """Maps of the values that the model gives to a cell.

    Args:
        classifier: the model.
        prediction: on the cell, with its features if there are words.
        words: what is said of it.
        attributes: names of attributes.

    Raises:
        InputError: the model has no such attribute.
    """
    heads = classifier.record.attributes
    known = [a.name for a in heads.attributes] if heads else []
    size = classifier.record.preprocessing.input_size
    maps = []
    for name in attributes:
        if heads is None or name not in known:
            raise InputError(
                f"the model does not predict the attribute '{name}'; it predicts "
                f"{', '.join(known) or 'none'}"
            )
        said = [v for v in words.values if v.attribute == name] if words else []
        heat = np.zeros((size, size), np.float32)
        if said and prediction.features is not None:
            slot = heads.slot(name, said[0].value)
            raw = heads.maps(prediction.features)
            heat = enlarge(class_activation(raw, slot), size)
        maps.append(AttributeMap(name, said[0] if said else None, heat))
    return tuple(maps)


def session_rows(
    classifier: Classifier,
    folder: Path,
    code: str | None,
    methods: Sequence[str],
    per_class: int,
    attributes: Sequence[str] = (),
) -> list[Row]:
    """Rows of what was explained in a session, measured again.

    Args:
        classifier: the model that the session was run with.
        folder: the session's.
        code: only explanations of this class; None takes all.
        methods: only these; none takes all.
        per_class: the first so many cells of each class.
        attributes: names of attributes to map.

    Raises:
        InputError: no session, or one of another model.
    """
    with open_queue(folder, "ro") as queue:
        if queue.model.model_sha256 != classifier.record.model_sha256:
            raise InputError(
                f"{folder} was recorded with another model; give that model"
            )
        found = list(queue.results())
    cells: dict[tuple[str, int], list[Explained]] = {}
    for result in found:
        wanted = not methods or result.explanation.method in methods
        if wanted and code in (None, result.code) and result.seen is not None:
            cells.setdefault((result.code, result.cell), []).append(result)
    rows = []
    taken: Counter[str] = Counter()
    for (of, number), results in sorted(cells.items()):
        taken[of] += 1
        first = results[0]
        if taken[of] <= per_class and first.seen is not None:
            pixels = first.seen if first.pixels is None else first.pixels
            name = printable(f"{folder.name}, cell {number}")
            shown = Shown(name, None, pixels, first.seen, beyond_frame(folder, first))
            made = [r.explanation for r in results]
            rows.append(measured_row(classifier, shown, made, attributes))
    return rows


def beyond_frame(folder: Path, result: Explained) -> tuple[float, float, float, float]:
    """How much of a crop lies beyond the frame, where the frame is mirrored.

    The frame's size is that of a picture of the session; if `--keep` took them all,
    right and bottom are not known.

    Returns:
        Shares of the crop's side at the left, top, right and bottom.
    """
    x0, y0, x1, y1 = result.crop
    width, height = x1, y1
    pictures = folder / PICTURES
    own = pictures / f"{result.frame:06d}.jpg"
    for path in (own, *pictures.glob("[0-9]*.jpg")):
        with suppress(InputError):
            width, height = size_of(read_file(path), str(path))
            break
    n = max(1, x1 - x0)
    over = (-x0, -y0, x1 - width, y1 - height)
    left, top, right, bottom = (max(0, pixels) / n for pixels in over)
    return left, top, right, bottom
