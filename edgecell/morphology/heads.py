"""Linear heads that predict attributes from the pooled features, in a model's record.

The network puts its last feature map out anyway, so the heads are a table of numbers in
the record and no part of the graph: 224 x 29 products in numpy are all that they cost.
As the classes' head they are linear in the pooled features, so that each value of each
attribute has a map of its own, whose mean plus bias is its logit.
"""

import base64
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from edgecell.morphology.table import Attribute


@dataclass(frozen=True)
class Value:
    """The most probable value of one attribute of a cell.

    Attributes:
        attribute: its name, such as 'nucleus_shape'.
        value: the most probable value, such as 'unsegmented-band'.
        probability: of that value, calibrated, 0..1.
    """

    attribute: str
    value: str
    probability: float


@dataclass(frozen=True)
class AttributeHeads:
    """The heads of A attributes with V values together, on K features.

    Attributes:
        attributes: the attributes.
        weights: float16 (K, V) in base64, the values of an attribute side by side,
            each row summing to 0 over them (the softmax does not mind).
        bias: V values, likewise.
        temperatures: A values > 0, fitted on the validation split; they divide the
            logits before the softmax.
        classes: codes of the classes of the cells that they were fitted to. Of other
            classes nothing is known.
        typical: for each of these classes, the shares of its training cells that have
            each of the V values.
        microscopes: sources of these cells, likewise.
        cells: their number.
    """

    attributes: tuple[Attribute, ...]
    weights: str
    bias: tuple[float, ...]
    temperatures: tuple[float, ...]
    classes: tuple[str, ...]
    typical: tuple[tuple[float, ...], ...]
    microscopes: tuple[str, ...]
    cells: int

    def __post_init__(self) -> None:
        values = sum(self.sizes)
        if not self.attributes or len(self.bias) != values:
            raise ValueError("one bias for each value of each attribute is needed")
        if len(self.temperatures) != len(self.attributes) or not all(
            0 < t < math.inf for t in self.temperatures
        ):
            raise ValueError("one temperature > 0 for each attribute is needed")
        if len(self.typical) != len(self.classes) or any(
            len(shares) != values or not all(0 <= s <= 1 for s in shares)
            for shares in self.typical
        ):
            raise ValueError("one share of each value for each class is needed")
        if not np.isfinite(self.matrix).all():
            raise ValueError("the attributes' weights are not finite")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of values of each attribute."""
        return tuple(len(a.values) for a in self.attributes)

    @cached_property
    def matrix(self) -> npt.NDArray[np.float32]:
        """The weights, float32 (K, V)."""
        flat = np.frombuffer(base64.b64decode(self.weights, validate=True), "<f2")
        return np.asarray(flat.reshape(-1, sum(self.sizes)), np.float32)

    @cached_property
    def _bias(self) -> npt.NDArray[np.float32]:
        return np.asarray(self.bias, np.float32)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.cumsum((0, *self.sizes[:-1]))

    @cached_property
    def _inverse(self) -> npt.NDArray[np.float64]:
        """1 / temperature, for each value."""
        return 1.0 / np.repeat(np.array(self.temperatures), self.sizes)

    @property
    def width(self) -> int:
        """Number K of features."""
        return len(self.matrix)

    def slot(self, attribute: str, value: str) -> int:
        """The place of a value among the V.

        Raises:
            ValueError: there is no such attribute or value.
        """
        for start, own in zip(self._starts, self.attributes, strict=True):
            if own.name == attribute and value in own.values:
                return int(start) + own.values.index(value)
        raise ValueError(f"there is no {attribute}: {value}")

    def logits(self, pooled: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """Logits of cells, float32 (..., V), from pooled features (..., K)."""
        return np.asarray(np.asarray(pooled, np.float32) @ self.matrix + self._bias)

    def maps(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A map of each value, float32 (h, w, V), without the biases.

        The head is linear in the pooled features, so the mean of a value's map plus its
        bias is its logit, and the map is Grad-CAM of that logit, before rectification
        (see `edgecell.model.cam`).

        Args:
            features: float32 (h, w, K), the last feature map.
        """
        return np.asarray(features @ self.matrix)

    def probabilities(
        self, logits: npt.NDArray[np.floating]
    ) -> npt.NDArray[np.float64]:
        """Calibrated probabilities, float64 (..., V), summing to 1 in each attribute.

        Args:
            logits: float (..., V), of a cell, or the mean over its sightings.
        """
        x = np.asarray(logits, np.float64) * self._inverse
        peaks = np.maximum.reduceat(x, self._starts, -1)
        e = np.exp(x - np.repeat(peaks, self.sizes, -1))
        sums = np.add.reduceat(e, self._starts, -1)
        return np.asarray(e / np.repeat(sums, self.sizes, -1))

    def values(self, logits: npt.NDArray[np.floating]) -> tuple[Value, ...]:
        """The most probable value of each attribute.

        Args:
            logits: float (V,).
        """
        p = self.probabilities(logits)
        found = []
        for start, attribute in zip(self._starts, self.attributes, strict=True):
            own = p[start : start + len(attribute.values)]
            best = int(own.argmax())
            found.append(
                Value(attribute.name, attribute.values[best], float(own[best]))
            )
        return tuple(found)

    def share(self, code: str, value: Value) -> float:
        """Share of a class's training cells that have a value.

        Args:
            code: one of ``classes``.
            value: the value; its probability does not matter.
        """
        shares = self.typical[self.classes.index(code)]
        return shares[self.slot(value.attribute, value.value)]


def packed(weights: npt.NDArray[np.floating]) -> str:
    """Weights (K, V) as `AttributeHeads.weights` has them."""
    return base64.b64encode(weights.astype("<f2").tobytes()).decode("ascii")
