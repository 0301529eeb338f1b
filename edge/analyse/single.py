"""Single-cell images: small fields with one cell in the middle, as in training sets."""

from dataclasses import dataclass
from typing import Literal

from edgecell.edge.analyse.pipeline import check_red_cell_px
from edgecell.edge.find.quality import BLURRED, cell_gate, frame_gate
from edgecell.errors import InputError
from edgecell.image.preprocess import Rgb, cell_image, to_bgr
from edgecell.image.red_cells import red_cell_diameter
from edgecell.model.classifier import Classifier, Prediction
from edgecell.model.decision import cell_words, review_reasons
from edgecell.model.microscopes.microscope import Verdict, judge
from edgecell.model.modelfile import ModelRecord
from edgecell.morphology.words import Words

MEASURE: Literal["measure"] = "measure"
RedCell = float | Literal["measure"] | None
"""How large a red cell is in a single-cell image: its diameter in pixels, 'measure' to
measure it in the image, or None for an image that shows as much of the field as those
that the model was trained on (about five red cells across)."""


@dataclass(frozen=True, eq=False)
class SingleCell:
    """The network's result for a single-cell image.

    Attributes:
        prediction: all of it.
        reasons: why a person has to look at the cell; empty if the model's rule
            accepts it. One image is not enough to identify the microscope, and the rule
            is not reliable if the model does not know it.
        red_cell_px: red-cell diameter that set the crop, pixels; None if the crop is
            the same share of the image as in training.
        seen: what the network saw, uint8 RGB (S, S, 3).
        size: width and height of the image, pixels.
        gate: why the image is too poor to be trusted; None if it isn't.
    """

    prediction: Prediction
    reasons: tuple[str, ...]
    red_cell_px: float | None
    seen: Rgb
    size: tuple[int, int]
    gate: str | None

    @property
    def code(self) -> str:
        """The most probable class."""
        return self.prediction.codes[self.prediction.index]

    @property
    def probability(self) -> float:
        """Of that class, 0..1."""
        return float(self.prediction.probabilities[self.prediction.index])


def view_single(
    classifier: Classifier, image: Rgb, red_cell_px: RedCell = None
) -> tuple[Rgb, float | None]:
    """Cuts the cell out of a single-cell image, as training does.

    Args:
        classifier: the model, whose record says how.
        image: uint8 RGB (H, W, 3).
        red_cell_px: see `RedCell`.

    Returns:
        The network's view, uint8 RGB (S, S, 3), and the diameter that set the crop.

    Raises:
        InputError: no red cell has that diameter, or none can be measured.
    """
    if red_cell_px == MEASURE:
        red_cell_px = red_cell_diameter(to_bgr(image))
        if red_cell_px is None:
            raise InputError(
                "shows no red cell that can be measured; give the diameter of one"
            )
    check_red_cell_px(red_cell_px)
    prep = classifier.record.preprocessing
    return cell_image(image, prep, red_cell_px=red_cell_px), red_cell_px


def classify_single(
    classifier: Classifier, image: Rgb, red_cell_px: RedCell = None
) -> SingleCell:
    """Classifies a single-cell image.

    Args:
        classifier: the model.
        image: uint8 RGB (H, W, 3).
        red_cell_px: see `RedCell`.

    Raises:
        InputError: see `view_single`.
    """
    seen, diameter = view_single(classifier, image, red_cell_px)
    model = classifier.record
    tells = bool(model.microscopes) or model.attributes is not None
    prediction = classifier.classify(seen, features=tells)
    reasons = review_reasons(prediction.logits, classifier.record)
    # Exposure and colours are the image's, the focus is the cell's own.
    gate = frame_gate(to_bgr(image))
    if gate in (None, BLURRED):
        gate = cell_gate(seen)
    if gate is not None:
        reasons = (gate, *reasons)
    height, width = image.shape[:2]
    return SingleCell(prediction, reasons, diameter, seen, (width, height), gate)


def words_of(
    record: ModelRecord, prediction: Prediction, verdict: Verdict | None = None
) -> Words | None:
    """Describes a cell in words; None where there is no basis for any.

    Args:
        record: the model's.
        prediction: on the cell, with its features if the model predicts attributes.
        verdict: on its microscope; None to judge it by this cell alone.
    """
    if record.attributes is None:
        return None
    pooled = prediction.pooled
    verdict = verdict or judge(pooled[None], record.microscopes)
    told = record.attributes.logits(pooled)
    return cell_words(record, prediction.logits, told, (verdict,))
