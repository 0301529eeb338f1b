import pytest

from edgecell.classes import (
    CODES,
    code_of,
    common_label,
    label_matrix,
    label_of,
    parse_label,
)
from edgecell.errors import InputError


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("BNE", "BNE"),
        ("bne", "BNE"),
        ("Band Neutrophils", "BNE"),
        ("segmented-neutrophil", "SNE"),
        ("Basophils", "BA"),
        ("PLT", "PLT"),
        ("platelet", "PLT"),
        ("MYE", "MYE"),
        ("MY", "MY"),
        ("cells", None),
        ("", None),
        ("neutrophil", None),  # band or segmented: not for us to guess
    ],
)
def test_folder_names(name: str, code: str | None) -> None:
    assert code_of(name) == code


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("NEU", "BNE|SNE"),
        ("neutrophils", "BNE|SNE"),
        ("SNE|BNE", "BNE|SNE"),
        ("Band neutrophil|SNE", "BNE|SNE"),
        ("IG", "MMY|MY|PMY"),
        ("immature-granulocytes", "MMY|MY|PMY"),
        ("NEU|MMY", "BNE|MMY|SNE"),
        ("SNE|SNE", "SNE"),
        ("EO", "EO"),
        ("LYA", None),
        ("SNE|", None),
        ("SNE|blast", None),
        ("", None),
    ],
)
def test_labels_name_sets_of_classes(name: str, label: str | None) -> None:
    assert label_of(name) == label


def test_a_label_becomes_indices() -> None:
    assert parse_label("NEU") == (1, 11)
    assert parse_label("EO") == (2,)
    assert parse_label("NEU", ("SNE", "EO", "BNE")) == (2, 0)
    sets = label_matrix(["IG", "BA"])
    assert [list(row.nonzero()[0]) for row in sets] == [[5, 7, 10], [0]]


@pytest.mark.parametrize("codes", [CODES, ("EO", "LY")])
def test_an_unknown_label_is_named(codes: tuple[str, ...]) -> None:
    with pytest.raises(
        InputError,
        match=r"'SNE\|unknown' is not a class; known "
        r"classes are",
    ):
        parse_label("SNE|unknown", codes)
    assert parse_label("LY", codes) == (codes.index("LY"),)
    if codes != CODES:
        with pytest.raises(
            InputError, match="'NEU' is not a class; known classes are EO, LY"
        ):
            parse_label("NEU", codes)


def test_what_labels_have_in_common() -> None:
    assert common_label(["BNE|SNE", "SNE"]) == "SNE"
    assert common_label(["BNE|SNE"]) == "BNE|SNE"
    assert common_label(["BNE|SNE", "EO"]) is None


def test_twelve_distinct_codes_in_the_papers_order() -> None:
    assert len(set(CODES)) == 12
    assert list(CODES) == sorted(CODES)
