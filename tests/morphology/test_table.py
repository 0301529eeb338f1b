from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecell.errors import InputError
from edgecell.morphology.table import Attribute, read_attributes

TEXT = """img_name,nucleus,granules
BA_1.jpg,band,yes
BA_2.jpg,round,
SNE_1.jpg,band,no
"""


@dataclass(frozen=True)
class Image:
    name: str
    sha256: str


def read(tmp_path: Path, text: str, encoding: str = "utf-8") -> list[list[int]]:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(encoding))
    table = read_attributes(path)
    assert table.attributes == (
        Attribute("nucleus", ("band", "round")),
        Attribute("granules", ("no", "yes")),
    )
    images = [
        Image("x/BA/BA_1.jpg", "a"),
        Image("cells.zip:pbc/BA/BA_2.jpg", "b"),
        Image("x/SNE/SNE_1.jpg", "c"),
        Image("y/SNE/SNE_1.jpg", "d"),  # another image of that name
        Image("x/LY/LY_1.jpg", "e"),
        Image("z/BA/BA_1.jpg", "a"),  # the same image once more
    ]
    found: list[list[int]] = table.of(images).tolist()
    return found


def test_attributes_are_found_by_file_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    none = [-1, -1]
    expected = [[0, 1], [1, -1], none, none, none, [0, 1]]
    assert read(tmp_path, TEXT) == expected
    assert "several images are named SNE_1.jpg" in caplog.text
    assert read(tmp_path, TEXT.replace("\n", "\r\n"), "utf-8-sig") == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column 'img_name'"),
        ("img_name\nBA_1.jpg\n", "no attribute beside it"),
        ("name,nucleus\nBA_1.jpg,band\n", "no column 'img_name'"),
        (TEXT + "BA_3.jpg,band\n", "more or fewer fields"),
        (TEXT + "BA_3.jpg,band,yes,no\n", "more or fewer fields"),
        (TEXT + "BA_1.jpg,round,yes\n", "names BA_1.jpg twice"),
        (TEXT.replace(",no", ",yes"), "different values in column granules: 1;"),
        ('img_name,nucleus\n"BA_1.jpg,band\n', "not a readable table"),
    ],
)
def test_what_is_no_table_is_told(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_attributes(path)


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv cannot be read"):
        read_attributes(tmp_path / "none.csv")
