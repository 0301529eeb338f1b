import numpy as np
import pytest

from edgecell.morphology.words import describe
from tests.morphology.heads import heads


def logits(band: float, small: float = 0.99) -> np.ndarray:
    """With these probabilities of a band and of fine granules."""
    own = heads()
    rest = (1 - small) / 2
    p = np.array([1 - band, band, rest, rest, small])
    return np.asarray(np.log(p) * np.repeat(own.temperatures, own.sizes))


def say(band: float, code: str, other: str, small: float = 0.99) -> str | None:
    words = describe(heads(), logits(band, small), code, other, ("pbc",))
    return None if words is None else words.sentence


def test_why_this_class_and_not_the_runner_up() -> None:
    assert say(0.84, "BNE", "SNE") == (
        "Band neutrophil, not segmented neutrophil: it has an unsegmented, band-shaped "
        "nucleus (84%; of training cells BNE 95%, SNE 40%)."
    )
    assert say(0.99, "SNE", "BA") == (
        "Segmented neutrophil, not basophil: it has fine granules (99%; of training "
        "cells SNE 100%, BA 0%)."
    )


def test_what_speaks_against_the_class_is_said_too() -> None:
    assert say(0.9, "SNE", "BNE") == (
        "Segmented neutrophil rather than band neutrophil, although it has an "
        "unsegmented, band-shaped nucleus (90%; of training cells SNE 40%, BNE 95%)."
    )


def test_two_parts_of_the_cell_are_named_the_more_telling_first() -> None:
    assert say(0.9, "BNE", "BA") == (
        "Band neutrophil, not basophil: it has fine granules (99%; of training cells "
        "BNE 100%, BA 0%)."  # band: 95 and 50 %, less than twice as often
    )
    typical = ((0.9, 0.1, 1.0, 0.0, 0.0), (0.05, 0.95, 0.0, 0.0, 1.0), (0.5,) * 5)
    words = describe(heads(typical=typical), logits(0.9), "BNE", "BA", ("pbc",))
    assert words is not None
    assert words.sentence == (
        "Band neutrophil, not basophil: it has fine granules (99%; of training cells "
        "BNE 100%, BA 0%) and an unsegmented, band-shaped nucleus (90%; of training "
        "cells BNE 95%, BA 10%)."
    )


def test_what_is_not_sure_is_not_named() -> None:
    words = describe(heads(), logits(0.55), "BNE", "SNE", ("pbc",))
    assert words is not None
    assert [v.attribute for v in words.values] == ["granule_type"]
    assert words.sentence == ""
    assert str(words) == "fine granules 99%"
    assert words.to_dict() == {
        "attributes": {"granule_type": {"value": "small", "probability": 0.99}},
        "sentence": "",
    }


def test_a_runner_up_without_attributes_is_not_compared_with() -> None:
    assert say(0.9, "BNE", "MMY") == ""


@pytest.mark.parametrize(
    ("code", "microscopes"),
    [
        ("PLT", ("pbc",)),
        (None, ("pbc",)),
        ("BNE", ()),
        ("BNE", (None,)),
        ("BNE", ("munich",)),
        ("BNE", ("pbc", "munich")),
    ],
)
def test_silent_without_ground(
    code: str | None, microscopes: tuple[str | None, ...]
) -> None:
    assert describe(heads(), logits(0.9), code, "SNE", microscopes) is None


def test_silent_without_heads_or_logits() -> None:
    assert describe(None, logits(0.9), "BNE", "SNE", ("pbc",)) is None
    assert describe(heads(), None, "BNE", "SNE", ("pbc",)) is None
