"""From named cells to a model file for their microscope."""

import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.edge.adapt.cells import NamedCells
from edgecell.edge.adapt.head import Choice, Head, choose, log_likelihood
from edgecell.edge.adapt.rewrite import Range, output_range, with_head
from edgecell.edge.count.exact import chance_of_gain, clopper_pearson
from edgecell.errors import ModelError
from edgecell.model.classifier import Classifier
from edgecell.model.decision import accepted, energy, fit_review
from edgecell.model.graph import head_weights
from edgecell.model.microscopes.fit import fit_calibrated
from edgecell.model.microscopes.microscope import Microscope, judge, most_like
from edgecell.model.modelfile import LOGITS, MAPS, ModelRecord, write_tflite
from edgecell.model.probabilities import fit_temperature, softmax

SIGNIFICANT = 0.05
"""A new head is better if the old one would look so much worse less often by chance."""

_MARGIN = 0.1
"""What the outputs' integer ranges are wider than the values seen, as a share."""

_CHECKED = 40
"""Cells on which the file is run before it is written, at most."""


@dataclass(frozen=True)
class LabelRow:
    """Results for the cells of one label.

    Attributes:
        label: a class code, or codes joined by '|'.
        n: cells.
        before: how many the model as it was got right.
        after: right by the new head, fitted without the cell.
    """

    label: str
    n: int
    before: int
    after: int


@dataclass(frozen=True)
class Adaptation:
    """The result of adapting a model to a microscope.

    Attributes:
        cells: named cells.
        before: of them right by the model as it was; a label of several classes is
            right if the answer is one of them.
        after: right by the new head, each cell left out of the fit that judges it.
        better: wrong before and right after.
        worse: right before and wrong after.
        p: probability that the named classes gain so much probability by chance, each
            model with the temperature that suits it best; see `chance_of_gain`.
        pull: strength that keeps the head near the model's own.
        rows: the same for each label.
        accepted: cells that the new rule accepts without review.
        accepted_right: of them right.
        temperature: of the new head.
    """

    cells: int
    before: int
    after: int
    better: int
    worse: int
    p: float
    pull: float
    rows: tuple[LabelRow, ...]
    accepted: int
    accepted_right: int
    temperature: float

    @property
    def improves(self) -> bool:
        """Whether the new head is better, and not by chance."""
        return self.after >= self.before and self.p < SIGNIFICANT

    @property
    def losers(self) -> tuple[LabelRow, ...]:
        """The labels whose cells are classified correctly less often than before."""
        return tuple(row for row in self.rows if row.after < row.before)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, with 95 % Clopper-Pearson intervals."""
        return asdict(self) | {
            "before_interval": clopper_pearson(self.before, self.cells),
            "after_interval": clopper_pearson(self.after, self.cells),
            "improves": self.improves,
        }


@dataclass(frozen=True, eq=False)
class Adapted:
    """A model for a microscope, not yet written.

    Attributes:
        figures: what was measured.
        flatbuffer: the network with the new head.
        record: its record.
    """

    figures: Adaptation
    flatbuffer: bytes
    record: ModelRecord

    def write(self, out: Path) -> None:
        """Writes the model file, atomically.

        Raises:
            OutputError: the disk doesn't take it.
        """
        write_tflite(out, self.flatbuffer, self.record)


def own_head(classifier: Classifier) -> Head:
    """The head that a model has."""
    weights = head_weights(classifier.flatbuffer).astype(np.float64)
    return Head(weights, np.array(classifier.record.head_bias))


def adapt(classifier: Classifier, cells: NamedCells) -> Adapted:
    """Fits a new head to named cells, and measures it on each of them, left out.

    Args:
        classifier: the model.
        cells: see `named_cells`.

    Raises:
        ModelError: the file with the new head does not give the head's results.
    """
    record, own = classifier.record, own_head(classifier)
    learned = [m for m in record.microscopes if not m.calibrated]
    like = most_like(cells.features, learned).whitening() if learned else None
    choice = choose(cells.features, cells.sets, own, like)
    rule = with_rule(record, choice, cells.sets)
    figures = measure(cells, own.logits(cells.features), choice, rule)
    flatbuffer = _rewritten(classifier, choice.head, cells)
    record = replace(
        rule,
        head_bias=tuple(float(b) for b in choice.head.bias),
        microscopes=_microscopes(record, cells),
        training=record.training
        | {
            "adapted": {
                "parent_model_sha256": record.model_sha256,
                "parent_record_sha256": record.record_sha256,
                "cells_sha256": sorted({h for each in cells.hashes for h in each}),
                "source": cells.source,
            }
        },
        metrics={"left_out": figures.to_dict()},
    )
    _check_file(flatbuffer, record, choice.head, cells)
    return Adapted(figures, flatbuffer, record)


def measure(
    cells: NamedCells,
    before: npt.NDArray[np.floating],
    choice: Choice,
    record: ModelRecord,
) -> Adaptation:
    """Measures the accuracy on the cells before and after.

    Args:
        cells: N cells.
        before: float (N, C), logits by the model as it is.
        choice: the new head.
        record: with its temperature and review rule.
    """
    each = np.arange(len(cells.labels))
    was = cells.sets[each, before.argmax(1)]
    now = cells.sets[each, choice.left_out.argmax(1)]
    given = np.array(cells.labels)
    rows = tuple(
        LabelRow(
            str(label),
            int((given == label).sum()),
            int(was[given == label].sum()),
            int(now[given == label].sum()),
        )
        for label in np.unique(given)
    )
    assert record.review is not None
    taken = accepted(
        softmax(choice.left_out, record.temperature),
        np.array(record.review.least_probability),
    ) & (energy(choice.left_out) >= record.review.least_energy)
    heat = fit_temperature(before, cells.sets)
    gains = log_likelihood(
        choice.left_out / record.temperature, cells.sets
    ) - log_likelihood(before / heat, cells.sets)
    better, worse = int((now & ~was).sum()), int((was & ~now).sum())
    return Adaptation(
        cells=len(each),
        before=int(was.sum()),
        after=int(now.sum()),
        better=better,
        worse=worse,
        p=chance_of_gain(gains),
        pull=choice.pull,
        rows=rows,
        accepted=int(taken.sum()),
        accepted_right=int(now[taken].sum()),
        temperature=record.temperature,
    )


def with_rule(
    record: ModelRecord, choice: Choice, sets: npt.NDArray[np.bool_]
) -> ModelRecord:
    """The record with temperature and review rule, from the cells left out.

    Args:
        record: the model's.
        choice: the new head.
        sets: bool (N, C), the classes that each cell may belong to.
    """
    logits = choice.left_out
    temperature = fit_temperature(logits, sets)
    # A cell of several classes counts as the most probable one of them.
    y = np.where(sets, logits, -np.inf).argmax(1).astype(np.int32)
    learned = np.isin(record.codes, record.learned)
    review = fit_review(
        np.asarray(logits, np.float32), y, temperature, learned, pooled=True
    )
    return replace(record, temperature=temperature, review=review)


def _microscopes(record: ModelRecord, cells: NamedCells) -> tuple[Microscope, ...]:
    """The cells' microscope, and those that it must not be confused with."""
    others = tuple(m for m in record.microscopes if not m.calibrated)
    if not others:
        return ()
    same = judge(cells.features, others)
    kept = (m for m in others if same.kind == "unknown" or m.name != same.name)
    here = fit_calibrated(cells.source, cells.features, cells.labels, others)
    return (here, *kept)


def _rewritten(classifier: Classifier, head: Head, cells: NamedCells) -> bytes:
    """The flatbuffer with the new head, its outputs wide enough for old and new."""
    seen = [p.features for p in cells.predictions if p.features is not None]
    spans = {
        MAPS: _span(np.stack([f @ head.weights for f in seen])),
        LOGITS: _span(head.logits(cells.features)),
    }
    for name, span in spans.items():
        before = output_range(classifier.flatbuffer, name)
        spans[name] = span if before is None else span.wider(before)
    return with_head(
        classifier.flatbuffer, head.weights, head.bias, spans[MAPS], spans[LOGITS]
    )


def _span(values: npt.NDArray[np.floating]) -> Range:
    low, high = float(values.min()), float(values.max())
    return Range(low - _MARGIN * (high - low), high + _MARGIN * (high - low))


def _check_file(
    flatbuffer: bytes, record: ModelRecord, head: Head, cells: NamedCells
) -> None:
    """Runs the network with its new head on the cells' own views.

    Raises:
        ModelError: its logits are not those of the head.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapted.tflite"
        write_tflite(path, flatbuffer, record)
        trial = Classifier(path)
    step = max(trial.logit_step, 0.02)
    for view, prediction in zip(
        cells.views, cells.predictions[:_CHECKED], strict=False
    ):
        found = trial.classify(view).logits
        expected = head.logits(prediction.pooled)
        if np.abs(found - expected).max() > 4 * step + 0.02 * np.abs(expected).max():
            raise ModelError(
                "the network with the new head does not give the fitted results; "
                "nothing was written. Convert the model again, and adapt that file"
            )
