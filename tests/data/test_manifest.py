import csv
from dataclasses import replace
from pathlib import Path

import pytest

from edgecell.classes import CLASSES
from edgecell.data.dataset import CellFile, split_of
from edgecell.data.manifest import (
    apply_manifest,
    check_split,
    manifest_rows,
    split_hash,
    unseen,
    write_manifest,
)
from edgecell.errors import InputError
from edgecell.image.preprocess import Preprocessing
from edgecell.model.modelfile import ModelRecord

PREP = Preprocessing(112, 0.66, 3.0, 95, 240, (0.0,) * 3, (1.0,) * 3)


def cell(n: int, code: str = "BA") -> CellFile:
    return CellFile(f"a/{code}/{n}.png", code, "a", f"{n:064x}", b"")


FILES = [cell(n) for n in range(40)]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    write_manifest(path, FILES[:30], [(f, "same as x") for f in FILES[30:]])
    assert manifest_rows(path) == {(f.sha256, "BA", f.split) for f in FILES[:30]}
    with path.open() as f:
        rows = {row["sha256"]: row for row in csv.DictReader(f)}
    assert rows[FILES[35].sha256]["reason"] == "same as x"
    used = apply_manifest(FILES, path)
    assert [f.sha256 for f in used] == [f.sha256 for f in FILES[:30]]
    assert [f.split for f in used] == [f.split for f in FILES[:30]]


def test_a_split_of_ones_own_overrules_content(tmp_path: Path) -> None:
    path = tmp_path / "by-patient.csv"
    lines = [f"{f.sha256},{'test' if i < 5 else 'train'}" for i, f in enumerate(FILES)]
    path.write_text("\n".join(["sha256,split", *lines]))
    used = apply_manifest(FILES, path)
    assert [f.split for f in used] == ["test"] * 5 + ["train"] * 35


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "not a manifest"),
        (f"sha256,split\n{FILES[0].sha256},exam\n", "in 'exam'"),
        (f"sha256,split\n{'ab' * 32},train\n", "names none of the 40 images"),
        (
            f"sha256,split\n{FILES[0].sha256},train\n{FILES[0].sha256},test\n",
            "in 'test'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        apply_manifest(FILES, path)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="gone"):
        apply_manifest(FILES, tmp_path / "gone.csv")


def test_a_model_with_its_own_split_takes_no_other() -> None:
    own = [
        replace(f, assigned="train" if split_of(f.sha256) == "test" else "test")
        for f in FILES
    ]
    record = ModelRecord(CLASSES, PREP, {"name": "x"}, (0.0,) * 12)
    check_split(record, FILES)
    trained = {"own_split": True, "split_sha256": split_hash(own)}
    record = replace(record, training=trained)
    check_split(record, own[::-1])
    with pytest.raises(InputError, match="a split of its own"):
        check_split(record, FILES)


def test_a_model_with_the_split_by_content_takes_no_other() -> None:
    record = ModelRecord(CLASSES, PREP, {"name": "x"}, (0.0,) * 12)
    same = [replace(f, assigned=split_of(f.sha256)) for f in FILES]
    check_split(record, same)
    seen = split_of(FILES[0].sha256)
    other = replace(FILES[0], assigned="val" if seen == "test" else "test")
    with pytest.raises(InputError, match="leave out --manifest"):
        check_split(record, [other, *same[1:]])


def test_what_a_model_has_not_seen(caplog: pytest.LogCaptureFixture) -> None:
    record = ModelRecord(CLASSES, PREP, {"name": "x"}, (0.0,) * 12)
    assert unseen(record, FILES) == list(FILES)
    assert not caplog.records
    (source,) = {f.source for f in FILES}
    record = replace(record, training={"sources": [source]})
    other = replace(FILES[0], source="elsewhere", assigned="train")
    test = [f for f in FILES if f.split == "test"]
    assert 0 < len(test) < len(FILES)
    assert unseen(record, [*FILES, replace(other, assigned=None)]) == [
        *test,
        replace(other, assigned=None),
    ]
    assert f"trained on {source}: of that only the test split" in caplog.text
    assert f"{len(test)} of {len(FILES)} images" in caplog.text
