import pytest

from edgecell.classes import CODES, code_of


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


def test_twelve_distinct_codes_in_the_papers_order() -> None:
    assert len(set(CODES)) == 12
    assert list(CODES) == sorted(CODES)
