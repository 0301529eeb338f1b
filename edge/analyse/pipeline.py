"""From a frame to classified cells: scale, find, crop, classify, explain."""

import logging
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgecell.edge.analyse.scale import ScaleEstimator
from edgecell.edge.find.field import Field, field_of
from edgecell.edge.find.localise import Localiser
from edgecell.edge.find.quality import NO_SCALE, cell_gate, frame_gate
from edgecell.edge.find.tiles import Detection
from edgecell.edge.sources.base import Frame
from edgecell.errors import InputError
from edgecell.image.preprocess import (
    Bgr,
    Rgb,
    halving_grid,
    inside,
    mirrored,
    square,
    to_rgb,
    view_in,
    white_gains,
)
from edgecell.image.records import Box
from edgecell.model.cam import class_activation
from edgecell.model.classifier import Classifier, Prediction, map_residual
from edgecell.model.decision import review_reasons
from edgecell.model.modelfile import ModelRecord, bundled_finder
from edgecell.model.probabilities import only, possible_classes

logger = logging.getLogger(__name__)

TOP = 3
"""Classes that a record names."""

_RED_CELL_PX_RANGE = (4.0, 4000.0)

_FAR_OFF = 1.5
"""A given diameter is doubted that is so many times larger or smaller than what the
frame shows."""


@dataclass(frozen=True)
class ClassScore:
    """A class and its probability, 0..1."""

    code: str
    probability: float


@dataclass(frozen=True)
class CellRecord:
    """What one frame says about one cell, without the pixels.

    The store keeps the kind, the box, the gate, the red-cell diameter and the age of
    each sighting that a decision rests on. The class is read from the logits again.
    The time and the integrity go into the figures of the whole run (`Tally`).

    Attributes:
        age_ms: the frame's age when this cell was classified, milliseconds.
        box: the cell, in pixels of the frame.
        kind: what the finder took it for: 'white' or 'platelet'.
        cut_by_border: it reaches the frame's edge or the surround; left out of counts.
        gate: why the cell is too poor to be classified, as `quality.cell_gate` says;
            None if it was classified.
        top: the most probable classes, best first; empty if it wasn't classified.
        classify_ms: time spent on cropping and classifying this cell.
        red_cell_px: red-cell diameter that set the crop, pixels.
        integrity: largest |mean(map) + bias - logit| over the classes, in logits;
            if it exceeds some quantisation steps, the model file is not what it claims.
    """

    age_ms: float
    box: Box
    kind: str
    cut_by_border: bool
    gate: str | None
    top: tuple[ClassScore, ...]
    classify_ms: float
    red_cell_px: float
    integrity: float

    @property
    def size_red_cells(self) -> float:
        """Longer side of the box in red-cell diameters."""
        return max(self.box.width, self.box.height) / self.red_cell_px


@dataclass(frozen=True)
class FoundCell:
    """A cell that was found and cut out, but not yet classified.

    Attributes:
        detection: where it was found.
        crop: the square around it, in pixels of the frame.
        inner: uint8 BGR (h, w, 3), what of it is in the frame, a part of the frame's
            own memory.
        seen: uint8 RGB (S, S, 3), what the network is to see.
        gate: why it is too poor to be classified; None if it isn't.
        red_cell_px: red-cell diameter that set the crop, pixels.
        cut_ms: time spent on it so far, milliseconds.
    """

    detection: Detection
    crop: Box
    inner: Bgr
    seen: Rgb
    gate: str | None
    red_cell_px: float
    cut_ms: float


@dataclass(frozen=True)
class FoundFrame:
    """A frame in which the cells are found and not yet classified.

    Attributes:
        frame: the frame.
        gate: why it is too poor to be looked at; None if it isn't.
        cells: its cells, in reading order.
        red_cell_px: red-cell diameter, pixels; None if the frame is gated.
        locate_ms: time spent on finding them, milliseconds.
        field: the frame's picture without black surrounds and the lamp's bands, uint8
            BGR (H, W, 3), see `field_of`; None if it is gated.
    """

    frame: Frame
    gate: str | None
    cells: tuple[FoundCell, ...]
    red_cell_px: float | None
    locate_ms: float
    field: Bgr | None = None


@dataclass(frozen=True)
class CellResult:
    """A cell with its record, its pixels and the network's output for it.

    Attributes:
        record: the record.
        crop: the square that the network saw, in pixels of the frame; it may reach
            beyond the frame, where the network saw the edge mirrored.
        inner: uint8 BGR (h, w, 3), what of that square is in the frame, a part of the
            frame's own memory: copy what is to outlive the frame.
        seen: uint8 RGB (S, S, 3), what the network saw.
        heat: float32 (h, w) in [0, 1]: Grad-CAM of the most probable class; None if
            the cell wasn't classified.
        logits: float32 (C,), the network's own, likewise.
        pooled: float32 (K,), pooled features, likewise; None too if the model's record
            describes neither microscopes to compare them with nor attributes.
    """

    record: CellRecord
    crop: Box
    inner: Bgr
    seen: Rgb
    heat: npt.NDArray[np.float32] | None
    logits: npt.NDArray[np.float32] | None
    pooled: npt.NDArray[np.float32] | None = None

    @property
    def pixels(self) -> Bgr:
        """The whole square, uint8 BGR (n, n, 3), a copy or ``inner`` itself."""
        return mirrored(self.inner, self.crop)

    def reasons(self, model: ModelRecord) -> tuple[str, ...]:
        """Why a person should look at the cell, by itself; () if nobody needs to.

        Args:
            model: the record of the model that classified it.
        """
        if self.logits is None:
            return () if self.record.gate is None else (self.record.gate,)
        possible = possible_classes(model.codes, self.record.size_red_cells)
        return review_reasons(only(self.logits, possible), model)


@dataclass(frozen=True)
class FrameResult:
    """A frame and the cells in it.

    Attributes:
        frame: the frame.
        cells: its cells, in reading order.
        gate: why the frame is too poor to be looked at, as `quality.frame_gate`
            says; None if it was.
        locate_ms: time spent on finding the cells, milliseconds; 0 without cells.
        red_cell_px: red-cell diameter that sets the scale, pixels; None if the frame
            is gated.
        field: the picture that was looked at, see `FoundFrame`.
    """

    frame: Frame
    cells: tuple[CellResult, ...]
    gate: str | None = None
    locate_ms: float = 0.0
    red_cell_px: float | None = None
    field: Bgr | None = None


def check_red_cell_px(red_cell_px: float | None) -> None:
    """Refuses a diameter that no red cell has.

    Args:
        red_cell_px: pixels; None leaves it to be measured.

    Raises:
        InputError: it is outside the possible range.
    """
    low, high = _RED_CELL_PX_RANGE
    if red_cell_px is not None and not low <= red_cell_px <= high:
        raise InputError(
            f"no red cell is {red_cell_px:g} pixels wide; give its diameter in the "
            f"frame, {low:g} to {high:g}, or leave it to be measured"
        )


class FrameAnalyser:
    """Finds and classifies the cells of one frame after the other."""

    def __init__(
        self,
        classifier: Classifier,
        red_cell_px: float | None,
        localiser: Localiser | None = None,
    ) -> None:
        """Prepares to analyse frames with one model.

        Args:
            classifier: the opened model.
            red_cell_px: red-cell diameter in the frames, pixels; None measures it.
            localiser: finds the cells; None for the bundled finder.

        Raises:
            InputError: a diameter that no red cell has.
            ModelError: the bundled finder is damaged.
        """
        check_red_cell_px(red_cell_px)
        self._classifier = classifier
        self._red_cell_px = red_cell_px
        self._compared = red_cell_px is None
        self._scale = ScaleEstimator()
        self._localiser = localiser or Localiser.open(bundled_finder())

    @property
    def finder_sha256(self) -> str:
        """Hash of the finder's network."""
        return self._localiser.model_sha256

    def analyse(self, frame: Frame) -> FrameResult:
        """Finds and classifies the cells of a frame.

        Args:
            frame: the frame; those of one video or camera in their order.
        """
        return self.classify(self.find(frame))

    def find(self, frame: Frame) -> FoundFrame:
        """The first half: whether the frame is fit, its scale, its cells cut out.

        One thread may find in the next frame while another classifies in this one.

        Args:
            frame: the frame; those of one video or camera in their order.
        """
        start = time.perf_counter()
        field = field_of(frame.image)
        gate = frame_gate(field.small)
        if gate is not None:
            return FoundFrame(frame, gate, (), None, 0.0)
        seen = replace(frame, image=field.image)
        if self._red_cell_px is not None and not self._compared:
            self._compare(field, self._red_cell_px)
        expected = self._red_cell_px or self._scale.expected(seen)
        found = self._localiser.look(field.image, expected, field.small)
        red_cell_px = self._red_cell_px or self._scale.update(seen, found.red_cell_px)
        if red_cell_px is None:
            return FoundFrame(frame, NO_SCALE, (), None, 0.0)
        if expected is None and found.red_cell_px is None:
            # The frame shows no scale, but those before it did: its cells are looked
            # for at that one.
            found = self._localiser.look(field.image, red_cell_px, field.small)
        detections = [
            replace(d, cut_by_border=d.cut_by_border or field.cuts(d.box))
            for d in found.detections
        ]
        if not detections:
            return FoundFrame(frame, None, (), red_cell_px, 0.0, field.image)
        prep = self._classifier.record.preprocessing
        gains = white_gains(field.image, prep.white_percentile, prep.white_level)
        in_order = sorted(detections, key=lambda d: (d.box.y0, d.box.x0))
        locate_ms = (time.perf_counter() - start) * 1e3
        cells = tuple(self._cut(seen, d, red_cell_px, gains) for d in in_order)
        return FoundFrame(frame, None, cells, red_cell_px, locate_ms, field.image)

    def _compare(self, field: Field, given_px: float) -> None:
        """Warns of a given diameter that is far from what a first frame shows."""
        self._compared = True
        found = self._localiser.look(field.image, None, field.small).red_cell_px
        if found and max(found, given_px) > _FAR_OFF * min(found, given_px):
            logger.warning(
                "red cells are taken for %.0f px across, as given, but those of this "
                "frame look like %.0f px; leave the size out to have it measured",
                given_px,
                found,
            )

    def _cut(
        self,
        frame: Frame,
        detection: Detection,
        red_cell_px: float,
        gains: npt.NDArray[np.float64],
    ) -> FoundCell:
        """Cuts one cell out; ``gains`` is the frame's white balance, B, G, R."""
        start = time.perf_counter()
        prep = self._classifier.record.preprocessing
        side, size = prep.crop_red_cells * red_cell_px, prep.input_size
        crop = square(detection.box.centre, side, halving_grid(side, size))
        inner = inside(frame.image, crop)
        seen = to_rgb(view_in(inner, crop, gains, size))
        gate = cell_gate(seen)
        cut_ms = (time.perf_counter() - start) * 1e3
        return FoundCell(detection, crop, inner, seen, gate, red_cell_px, cut_ms)

    def classify(self, found: FoundFrame) -> FrameResult:
        """The second half: classifies what was found."""
        fit = [cell for cell in found.cells if cell.gate is None]
        model = self._classifier.record
        tells = bool(model.microscopes) or model.attributes is not None
        start = time.perf_counter()
        made = iter(self._classifier.classify_all([cell.seen for cell in fit], tells))
        each_ms = (time.perf_counter() - start) * 1e3 / max(1, len(fit))
        return FrameResult(
            found.frame,
            tuple(
                self._result(
                    found.frame,
                    cell,
                    next(made) if cell.gate is None else None,
                    each_ms,
                )
                for cell in found.cells
            ),
            found.gate,
            found.locate_ms,
            found.red_cell_px,
            found.field,
        )

    def _result(
        self, frame: Frame, cell: FoundCell, said: Prediction | None, classify_ms: float
    ) -> CellResult:
        """A cell with the network's output; None if its picture is too poor."""
        detection, model = cell.detection, self._classifier.record
        residual = 0.0 if said is None else map_residual(said, model.head_bias)
        if said is not None:
            size = max(detection.box.width, detection.box.height) / cell.red_cell_px
            said = said.only(possible_classes(said.codes, size))
        record = CellRecord(
            age_ms=frame.age_s * 1e3,
            box=detection.box,
            kind=detection.kind,
            cut_by_border=detection.cut_by_border,
            gate=cell.gate,
            top=_top(said),
            classify_ms=cell.cut_ms + (0.0 if said is None else classify_ms),
            red_cell_px=cell.red_cell_px,
            integrity=residual,
        )
        if said is None:
            return CellResult(record, cell.crop, cell.inner, cell.seen, None, None)
        return CellResult(
            record,
            cell.crop,
            cell.inner,
            cell.seen,
            class_activation(said.maps, said.index),
            said.logits,
            None if said.features is None else said.pooled,
        )


def _top(prediction: Prediction | None) -> tuple[ClassScore, ...]:
    if prediction is None:
        return ()
    return tuple(ClassScore(*pair) for pair in prediction.top(TOP))
