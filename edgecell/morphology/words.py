"""Describes a cell in words, where there is a basis for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgecell.classes import CLASSES
from edgecell.morphology.heads import AttributeHeads, Value

LEAST_PROBABILITY = 0.6
"""A value that is less probable is not named."""

_TELLING = math.log(2.0)
"""How much more often one class has a value than the other, before it tells them."""

_RARE = 0.01
"""Added to each share, so that a value that a class never had proves nothing."""

_MOST_CLAUSES = 2
"""Each about another part of the cell: one without granules has no colour of granules
either."""

_NAMES = {c.code: c.name for c in CLASSES}
# WBCAtt's attributes and values (Tsutsui et al., NeurIPS 2023), as what a cell 'has'.
_PHRASES = {
    ("cell_size", "big"): "a large size",
    ("cell_size", "small"): "a small size",
    ("cell_shape", "round"): "a round outline",
    ("cell_shape", "irregular"): "an irregular outline",
    ("nucleus_shape", "unsegmented-band"): "an unsegmented, band-shaped nucleus",
    ("nucleus_shape", "unsegmented-round"): "an unsegmented, round nucleus",
    ("nucleus_shape", "unsegmented-indented"): "an unsegmented, indented nucleus",
    ("nucleus_shape", "segmented-bilobed"): "a nucleus with two lobes",
    ("nucleus_shape", "segmented-multilobed"): "a nucleus with several lobes",
    ("nucleus_shape", "irregular"): "an irregular nucleus",
    ("nuclear_cytoplasmic_ratio", "high"): "little cytoplasm around the nucleus",
    ("nuclear_cytoplasmic_ratio", "low"): "plenty of cytoplasm around the nucleus",
    ("chromatin_density", "densely"): "dense chromatin",
    ("chromatin_density", "loosely"): "loose chromatin",
    ("cytoplasm_vacuole", "yes"): "vacuoles in the cytoplasm",
    ("cytoplasm_vacuole", "no"): "no vacuoles",
    ("cytoplasm_texture", "clear"): "clear cytoplasm",
    ("cytoplasm_texture", "frosted"): "frosted cytoplasm",
    ("cytoplasm_colour", "light blue"): "light blue cytoplasm",
    ("cytoplasm_colour", "blue"): "blue cytoplasm",
    ("cytoplasm_colour", "purple blue"): "purple-blue cytoplasm",
    ("granule_type", "coarse"): "coarse granules",
    ("granule_type", "round"): "round granules",
    ("granule_type", "small"): "fine granules",
    ("granule_type", "nil"): "no granules",
    ("granule_colour", "pink"): "pink granules",
    ("granule_colour", "purple"): "purple granules",
    ("granule_colour", "red"): "red granules",
    ("granule_colour", "nil"): "no granules",
    ("granularity", "yes"): "granules",
    ("granularity", "no"): "no granules",
}


@dataclass(frozen=True)
class Words:
    """The description of a cell in words.

    Attributes:
        values: the values that are probable enough to be named.
        sentence: why it is this class and not the runner-up, or what speaks against
            that; '' if the words don't distinguish the two.
    """

    values: tuple[Value, ...]
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "attributes": {
                v.attribute: {"value": v.value, "probability": round(v.probability, 4)}
                for v in self.values
            },
            "sentence": self.sentence,
        }

    def __str__(self) -> str:
        """Such as 'unsegmented, band-shaped nucleus 84 %, fine granules 97 %'."""
        shown = [
            f"{phrase(v).removeprefix('an ').removeprefix('a ')} {v.probability:.0%}"
            for v in self.values
            if v.attribute != "granularity" and "nil" not in v.value
        ]
        return ", ".join(shown)


def phrase(value: Value) -> str:
    """A value as something that a cell 'has'."""
    plain = f"{value.attribute.replace('_', ' ')} '{value.value}'"
    return _PHRASES.get((value.attribute, value.value), plain)


def describe(
    heads: AttributeHeads | None,
    logits: npt.NDArray[np.floating] | None,
    code: str | None,
    runner_up: str | None,
    microscopes: Sequence[str | None],
) -> Words | None:
    """Puts a cell into words.

    Args:
        heads: the model's; None if it has none.
        logits: float (V,), of the attributes; None if the cell wasn't classified.
        code: the class that the model names.
        runner_up: the second most probable one.
        microscopes: names of those that the cell may come from; None for one that isn't
            among those of the training data.

    Returns:
        The words; None where there is no basis for any: the cells of the training
        data that have attributes are of other classes or microscopes.
    """
    if heads is None or logits is None or code not in heads.classes:
        return None
    if not microscopes or not set(microscopes) <= set(heads.microscopes):
        return None
    named = tuple(v for v in heads.values(logits) if v.probability >= LEAST_PROBABILITY)
    sentence = ""
    if runner_up in heads.classes:
        sentence = _sentence(heads, named, code, runner_up)
    return Words(named, sentence)


def _sentence(
    heads: AttributeHeads, named: Sequence[Value], code: str, other: str
) -> str:
    """Why a class and not another; '' if the words don't distinguish them."""
    ratios = {
        v: math.log((heads.share(code, v) + _RARE) / (heads.share(other, v) + _RARE))
        for v in named
    }
    telling = sorted(
        (v for v in named if abs(ratios[v]) >= _TELLING),
        key=lambda v: (
            -v.probability * abs(heads.share(code, v) - heads.share(other, v))
        ),
    )
    if not telling:
        return ""
    speaks_for = ratios[telling[0]] > 0
    chosen: dict[str, Value] = {}
    for value in telling:
        if (ratios[value] > 0) == speaks_for and len(chosen) < _MOST_CLAUSES:
            chosen.setdefault(_part(value), value)
    clauses = " and ".join(_clause(heads, v, code, other) for v in chosen.values())
    own, theirs = _NAMES[code].capitalize(), _NAMES[other]
    if speaks_for:
        return f"{own}, not {theirs}: it has {clauses}."
    return f"{own} rather than {theirs}, although it has {clauses}."


def _part(value: Value) -> str:
    """The part of the cell that a value is about."""
    first = value.attribute.partition("_")[0]
    return {"granularity": "granule"}.get(first, first)


def _clause(heads: AttributeHeads, value: Value, code: str, other: str) -> str:
    """Such as 'coarse granules (84 %; of training cells BA 94 %, EO 2 %)'."""
    shares = ", ".join(f"{c} {heads.share(c, value):.0%}" for c in (code, other))
    return f"{phrase(value)} ({value.probability:.0%}; of training cells {shares})"
